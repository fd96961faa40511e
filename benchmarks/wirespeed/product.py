#!/usr/bin/env python3
"""The product as a process: pairing with its scorer and its judge.

    python benchmarks/wirespeed/product.py haldane STABLE_PORT CANARY_PORT CALLS IN_FLIGHT

Random order, two calls together, timing, the versions read, outputs compared, every batch folded and ruled on.
Says "ready", waits for a line, then calls.
"""

import asyncio
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import aclosing, closing

from prometheus_client import CollectorRegistry

from haldane.config.analysis import AnalysisSection
from haldane.domain.fleet import ModelName, ServerName
from haldane.domain.rollout import Phase
from haldane.domain.traffic import Api, Outcome, Request, Status
from haldane.engine.addressing import current
from haldane.engine.collector import quieten
from haldane.engine.pairing import ShadowLimits, pairs
from haldane.judge.analysis import Analysis
from haldane.judge.outputs import OutputKind, OutputRule
from haldane.serving.legs import Legs, outcomes
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout
from wirespeed.meter import WARM_UP_CALLS, server_at, start
from wirespeed.responder import CANARY, STABLE, request_body

# Pairs that may be back before the first batch is handed on, after half a second: they count as warm-up.
BEFORE_A_LOOK = 30_000


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

    def __init__(self, arms: Mapping[int | str, Legs]) -> None:
        self._arms = arms

    def predict_both(
        self, model: ModelName, request: Request, *, first: int | str, second: int | str, deadline: float
    ) -> Awaitable[tuple[Outcome, Outcome]]:
        left = deadline - asyncio.get_running_loop().time()
        one = self._arms[first].send(model, request, first, left)
        return outcomes(one, self._arms[second].send(model, request, second, left))


async def haldane(ports: tuple[int, int], calls: int, in_flight: int) -> None:
    """As many pairs as make that many calls, judged by the default rules in batches of the default size."""
    with closing(Legs(server_at(ports[0]), None)) as stable, closing(Legs(server_at(ports[1]), None)) as canary:
        arms = TwoArms({STABLE: stable, CANARY: canary})
        rollout = a_rollout(Phase.PROMOTING, servers=(ServerName("r0"),), promoted=(ServerName("r0"),))
        analysis = Analysis(AnalysisSection().rules(rate_per_second=10_000.0, floor=True), rollout.servers)
        began = time.monotonic()
        batches = pairs(
            rollout=rollout,
            servers={ServerName("r0"): arms},
            source=Stream(calls + WARM_UP_CALLS + BEFORE_A_LOOK),
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


if __name__ == "__main__":
    _, stable_port, canary_port, number, at_once = sys.argv[1:]
    quieten()
    asyncio.run(haldane((int(stable_port), int(canary_port)), int(number), int(at_once)))
