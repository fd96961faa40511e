#!/usr/bin/env python3
"""The least that Python's gRPC does, as a process: loops of calls with identity serializers, half to each server.

    python benchmarks/wirespeed/bare.py bare STABLE_PORT CANARY_PORT CALLS IN_FLIGHT

`bare` is that; `quiet` the same with the garbage collector as `haldane run` sets it; `below` also without the layer of
grpc.aio that is written in Python: how much of the wall that is; `lean` without gRPC's library at all. Says "ready",
waits for a line, then calls.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from typing import Any

import grpc.aio

from haldane.engine.collector import quieten
from haldane.serving.channel import open_channel
from wirespeed.lean import connect
from wirespeed.meter import WARM_UP_CALLS, server_at, start
from wirespeed.responder import request_body

DEADLINE = 10.0
PATH = "/tensorflow.serving.PredictionService/Predict"
Call = Callable[[bytes], Awaitable[object]]


async def loops(
    opened: Callable[[int, AsyncExitStack], Awaitable[Call]], ports: tuple[int, int], calls: int, in_flight: int
) -> None:
    """Loops that share a number of calls, alternating between the servers."""
    body = request_body()
    async with AsyncExitStack() as stack:
        call = [await opened(port, stack) for port in ports]

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


async def over_grpc(call_of: Callable[[grpc.aio.Channel], Call], port: int, stack: AsyncExitStack) -> Call:
    return call_of(await stack.enter_async_context(open_channel(server_at(port), None)))


async def lean(port: int, stack: AsyncExitStack) -> Call:
    client = await connect(port, PATH)
    stack.callback(client.close)
    return client.call


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


CALLERS = {
    "bare": partial(over_grpc, public),
    "quiet": partial(over_grpc, public),
    "below": partial(over_grpc, below),
    "lean": lean,
}

if __name__ == "__main__":
    kind, stable_port, canary_port, number, at_once = sys.argv[1:]
    if kind != "bare":
        quieten()
    asyncio.run(loops(CALLERS[kind], (int(stable_port), int(canary_port)), int(number), int(at_once)))
