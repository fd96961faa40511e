#!/usr/bin/env python3
"""What shadowing a tenth of the traffic adds to the latency of users' own calls, by blocks with and without.

    python benchmarks/added_latency.py [--blocks 20] [--seconds 3] [--rate 100] [--table docs/benchmarks.md]

A process of its own calls `stable` on a sandbox server at an even rate, as users do. In every two blocks of time one,
drawn at random, is shadowed with a tenth as many pairs, by the default caps. Shown is the mean over blocks of (median
with - median without), with a 95 % interval from the spread of the blocks: t, with as many degrees of freedom.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from itertools import count
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from prometheus_client import CollectorRegistry
from scipy.stats import t as student
from trials.page import Block, markdown_table

from haldane.domain.fleet import ModelName, Server, ServerName
from haldane.domain.rollout import Phase
from haldane.domain.traffic import Api, Request
from haldane.engine.addressing import Addressing
from haldane.engine.pairing import ShadowLimits, pairs
from haldane.judge.outputs import OutputRule
from haldane.serving.client import open_client
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout
from haldane.testing.sandboxes import Sandbox, affine_request

MODEL = ModelName("credit")
SHARE = 0.1
SETTLE_SECONDS = 0.5  # at the start of a block, left out


async def users(port: int, rate: float, seconds: float) -> None:
    """Calls at an even rate, each when it is due whatever became of the others; prints [when sent, seconds] of each."""
    found: list[tuple[float, float]] = []
    async with open_client(Server(ServerName("r0"), f"127.0.0.1:{port}")) as client, asyncio.TaskGroup() as group:
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def call() -> None:
            at = time.time()
            outcome = await client.predict(MODEL, affine_request(1.0), version=1, deadline=loop.time() + 5.0)
            found.append((at, outcome.seconds))

        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
            group.create_task(call())
    print(json.dumps(found))


class Endless:
    """A stream of one body, each with an id of its own."""

    def __init__(self) -> None:
        self._numbers = count()

    async def requests(self) -> Any:
        body = affine_request(1.0).body
        for number in self._numbers:
            yield Request(f"request-{number}", Api.PREDICT, body)


async def shadow(client: Any, rate: float, seconds: float) -> None:
    batches = pairs(
        rollout=a_rollout(Phase.PROMOTING, servers=(ServerName("r0"),)),
        servers={ServerName("r0"): client},
        source=Endless(),
        limits=ShadowLimits(pairs_per_second=rate),
        score=Scorer(OutputRule()),
        address=lambda: Addressing(1, 2),
        masked=lambda server: False,
        next_seq=0,
        judged_rows=set(),
        elapsed=time.monotonic,
        telemetry=Telemetry.on(CollectorRegistry()),
    )
    try:
        async with asyncio.timeout(seconds), aclosing(batches):
            async for _ in batches:
                pass
    except TimeoutError:
        pass


async def measure(blocks: int, seconds: float, rate: float) -> list[tuple[float, float]]:
    """Of every two blocks the users' median without and with shadowing, in seconds."""
    schedule = [with_first for _ in range(blocks) for with_first in random.sample((True, False), 2)]
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sandbox = stack.enter_context(Sandbox(place))
        for version in (1, 2):
            sandbox.add(MODEL, version)
        await asyncio.to_thread(sandbox.start, sandbox.config(sandbox.entry(MODEL, 1, 2)))
        client = await stack.enter_async_context(open_client(sandbox.server))
        words = [__file__, "--users", str(sandbox.port), "--rate", str(rate)]
        total = str(len(schedule) * seconds + 5)
        process = await asyncio.create_subprocess_exec(sys.executable, *words, "--seconds", total, stdout=PIPE)
        await asyncio.sleep(3)  # it calls by now
        edges = []
        for shadowed in schedule:
            edges.append(time.time())
            await (shadow(client, SHARE * rate, seconds) if shadowed else asyncio.sleep(seconds))
        said, _ = await process.communicate()
    calls = json.loads(said)
    medians = [
        median([took for at, took in calls if begin + SETTLE_SECONDS <= at < begin + seconds]) for begin in edges
    ]
    pairs_of = zip(schedule[::2], medians[::2], medians[1::2], strict=True)
    return [(second, first) if with_first else (first, second) for with_first, first, second in pairs_of]


def page(found: Sequence[tuple[float, float]], rate: float) -> str:
    added = [1e3 * (with_it - without) for without, with_it in found]
    reach = float(student.ppf(0.975, len(added) - 1)) * stdev(added) / len(added) ** 0.5
    head = ("users' calls a second", "pairs a second", "blocks", "median without, ms", "added, ms", "95 % interval, ms")
    without = 1e3 * fmean(one for one, _ in found)
    interval = f"{fmean(added) - reach:+.3f} to {fmean(added) + reach:+.3f}"
    row = f"{rate:g}", f"{SHARE * rate:g}", f"2 x {len(found)}", f"{without:.3f}", f"{fmean(added):+.3f}", interval
    return markdown_table(head, [row])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=20, help="with, and as many without (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="each lasts (%(default)s)")
    parser.add_argument("--rate", type=float, default=100.0, help="users' calls a second (%(default)s)")
    parser.add_argument("--table", type=Path, help="page to write the figures into")
    parser.add_argument("--users", type=int, help=argparse.SUPPRESS)  # the port, in the users' own process
    options = parser.parse_args()
    if options.users:
        asyncio.run(users(options.users, options.rate, options.seconds))
        return 0
    if options.blocks < 2 or options.seconds <= SETTLE_SECONDS or options.rate <= 0:
        parser.error(f"--blocks must be at least 2, --seconds above {SETTLE_SECONDS}, --rate positive")
    block = Block(options.table, "added latency") if options.table else None
    text = page(asyncio.run(measure(options.blocks, options.seconds, options.rate)), options.rate)
    print(text)
    if block:
        block.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
