#!/usr/bin/env python3
"""One caller as a process. Says "ready", waits for a line, then calls, then says what it took.

    python benchmarks/wirespeed/callers.py bare STABLE_PORT CANARY_PORT CALLS IN_FLIGHT

`bare` is the least that Python's gRPC does: loops of calls with identity serializers, half to each server. `below`
is the same without the layer of grpc.aio that is written in Python: how much of the wall that is.
`haldane` is the product's pairing with its scorer and its judge: random order, two calls together, timing, the
versions read, outputs compared, every batch folded and ruled on. Both warm up before they start counting.
"""

import asyncio
import json
import math
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from functools import partial
from itertools import count
from typing import Any

import grpc.aio
from prometheus_client import CollectorRegistry

from haldane.config.analysis import AnalysisSection
from haldane.domain.fleet import ModelName, Server, ServerName
from haldane.domain.rollout import Phase
from haldane.domain.traffic import Api, Outcome, Request, Status
from haldane.engine.addressing import current
from haldane.engine.pairing import ShadowLimits, pairs
from haldane.judge.analysis import Analysis
from haldane.judge.outputs import OutputKind, OutputRule
from haldane.serving.calls import Calls, outcomes
from haldane.serving.channel import open_channel
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout
from wirespeed.responder import CANARY, STABLE, request_body

WARM_UP_CALLS = 4_000
DEADLINE = 10.0
PATH = "/tensorflow.serving.PredictionService/Predict"


class Meter:
    """Wall and CPU seconds of this process since it was started."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def say(self, calls: int) -> None:
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"calls": calls, "cpu_seconds": cpu, "wall_seconds": wall, "peak_mb": peak}), flush=True)


def start() -> Meter:
    """Wait for the word, so that processes that run together also count together."""
    print("ready", flush=True)
    sys.stdin.readline()
    return Meter()


Call = Callable[[bytes], Awaitable[object]]


async def loops(
    call_of: Callable[[grpc.aio.Channel], Call], ports: tuple[int, int], calls: int, in_flight: int
) -> None:
    """Loops that share a number of calls, alternating between the servers."""
    body = request_body()
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(open_channel(_server(port), None)) for port in ports]
        call = [call_of(channel) for channel in channels]

        async def loop(turns: "count[int]", end: int) -> None:
            while (turn := next(turns)) < end:
                await call[turn % 2](body)

        async def run(number: int) -> None:
            turns = count()
            await asyncio.gather(*(loop(turns, number) for _ in range(in_flight)))

        await run(WARM_UP_CALLS)
        meter = start()
        await run(calls)
        meter.say(calls)


def public(channel: grpc.aio.Channel) -> Call:
    """As anyone calls it."""
    return partial(channel.unary_unary(PATH, None, None), timeout=DEADLINE)


def below(channel: Any) -> Call:
    """What is left when the call object, the task and the metadata that grpc.aio makes for each call are left out.

    By private names of grpcio, so only to measure.
    """
    method = channel.unary_unary(PATH, None, None)

    async def call(body: bytes) -> object:
        args = method._method, time.time() + DEADLINE, None, None, method._registered_call_handle
        return await method._channel.call(*args).unary_unary(body, (), None)

    return call


class Stream:
    """Requests of one body, each with an id of its own, made beforehand: what a source costs is another matter."""

    def __init__(self, number: int) -> None:
        body = request_body()
        self._requests = [Request(f"request-{place}", Api.PREDICT, body) for place in range(number)]

    async def requests(self) -> AsyncIterator[Request]:
        for request in self._requests:
            yield request


class TwoArms:
    """A ModelServer, as far as pairing asks, whose versions are two responders."""

    def __init__(self, arms: Mapping[int | str, Calls]) -> None:
        self._arms = arms

    def predict_both(
        self, model: ModelName, request: Request, *, first: int | str, second: int | str, deadline: float
    ) -> Awaitable[tuple[Outcome, Outcome]]:
        left = deadline - asyncio.get_running_loop().time()
        one = self._arms[first].send(model, request, first, left)
        return outcomes(one, self._arms[second].send(model, request, second, left))


async def haldane(ports: tuple[int, int], calls: int, in_flight: int) -> None:
    """As many pairs as make that many calls, judged by the default rules in batches of the default size."""
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(open_channel(_server(port), None)) for port in ports]
        arms = TwoArms({STABLE: Calls(channels[0]), CANARY: Calls(channels[1])})
        rollout = a_rollout(Phase.PROMOTING, servers=(ServerName("r0"),), promoted=(ServerName("r0"),))
        analysis = Analysis(AnalysisSection().rules(rate_per_second=10_000.0, floor=True), rollout.servers)
        began = time.monotonic()
        batches = pairs(
            rollout=rollout,
            servers={ServerName("r0"): arms},
            source=Stream(calls + WARM_UP_CALLS),
            limits=ShadowLimits(pairs_per_second=1e6, concurrency=in_flight // 2, aa_share=0.05, slowdown=math.inf),
            score=Scorer(OutputRule(kind=OutputKind.ANY)),
            address=current(lambda: rollout),
            masked=lambda server: False,
            next_seq=0,
            judged_rows=set(),
            elapsed=lambda: time.monotonic() - began,
            telemetry=Telemetry.on(CollectorRegistry()),
        )
        meter, seen = None, 0
        async with aclosing(batches):
            async for batch in batches:
                analysis.fold(batch)
                analysis.ruling(time.monotonic() - began)
                seen += len(batch)
                if not ((batch["stable_status"] == Status.OK) & (batch["canary_status"] == Status.OK)).all():
                    raise SystemExit("a call failed; nothing is measured here")
                if meter is None and 2 * seen >= WARM_UP_CALLS:
                    meter, seen = start(), 0
                elif meter is not None and 2 * seen >= calls:
                    meter.say(2 * seen)
                    return


def _server(port: int) -> Server:
    return Server(ServerName(f"at {port}"), f"127.0.0.1:{port}")


CALLERS: dict[str, Callable[[tuple[int, int], int, int], Awaitable[None]]] = {
    "bare": partial(loops, public),
    "below": partial(loops, below),
    "haldane": haldane,
}

if __name__ == "__main__":
    kind, stable_port, canary_port, number, at_once = sys.argv[1:]
    asyncio.run(CALLERS[kind]((int(stable_port), int(canary_port)), int(number), int(at_once)))
