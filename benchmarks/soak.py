#!/usr/bin/env python3
"""Shadowing for long: is every pair accounted for, and does memory stay flat.

    python benchmarks/soak.py wire [--seconds 600] [--table docs/benchmarks.md]
    python benchmarks/soak.py past [--pairs 10000000] [--table docs/benchmarks.md]

`wire` sends pairs to two sandbox servers, which are killed, frozen, slow, failing, cut off and wrong, in turns. What
was sent is counted at the door, apart from our own metrics, and must equal what was judged, set aside and dropped.
`past` feeds pairs past the socket: pairing, scoring, the log (a new one whenever it is full) and one judge. Exits 1
when a pair is missing, or when memory has grown: on the wire, when the last fifth lies more than 10 MB above the
second; past the socket, when what is in use grows, beyond chance, by more than 0.1 MB for each tenth of the pairs.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, aclosing
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from flatness import Sample, by_fifths, by_tenths
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import Counter as Told
from trials.page import Block, markdown_table

from haldane import wire
from haldane.adapters.sql import open_store
from haldane.config.analysis import AnalysisSection
from haldane.domain.fleet import ModelName, ServerName
from haldane.domain.rollout import Phase, Rollout
from haldane.domain.traffic import Api, Batch, Outcome, Request, Status
from haldane.engine.addressing import Addressing
from haldane.engine.judging import MOST_PAIRS
from haldane.engine.pairing import ShadowLimits, pairs
from haldane.judge.analysis import Analysis
from haldane.judge.outputs import OutputKind, OutputRule
from haldane.ports import ModelServer, Store
from haldane.serving.client import open_client
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry
from haldane.tensors import encode
from haldane.testing.builders import a_rollout
from haldane.testing.sandboxes import Sandbox, affine_request, free_port

MODEL = ModelName("credit")
VERSIONS = 1, 2
WRONG = wire.PredictRequest(inputs={"no such input": wire.TensorProto(dtype=1, float_val=[1.0])}).SerializeToString()
FLOAT = 1
SAMPLE_SECONDS = 0.5
EACH_FAULT_SECONDS, BETWEEN_SECONDS = 4.0, 4.0
# (kind, fields) for the sandbox's fault page; see docs/sandbox.md. Two more are done to the process: killed, frozen.
FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("killed", {}),
    ("delay", {"seconds": 0.3, "version": 1}),
    ("fail", {"code": "INTERNAL", "share": 0.5}),
    ("frozen", {}),
    ("drop_connections", {}),
    ("corrupt", {"how": "nan", "share": 0.3, "version": 2}),
    ("delay", {"seconds": 3.0, "share": 0.2, "version": 2}),
)


@dataclass
class Account:
    """What went in, counted at the door, and what became of it, by our own metrics."""

    telemetry: Telemetry = field(default_factory=lambda: Telemetry.on(CollectorRegistry()))
    sent: int = 0
    judged: int = 0

    def set_aside(self) -> dict[str, int]:
        return by_label(self.telemetry.shadow.set_aside, "reason")

    def dropped(self) -> dict[str, int]:
        return by_label(self.telemetry.shadow.dropped, "reason")

    @property
    def missing(self) -> int:
        aside = sum(
            number for reason, number in self.set_aside().items() if reason != "duplicate"
        )  # those are not sent
        return self.sent - self.judged - aside - sum(self.dropped().values())


def by_label(counter: Told, label: str) -> dict[str, int]:
    (family,) = counter.collect()
    found: Counter[str] = Counter()
    for sample in family.samples:
        if sample.name.endswith("_total"):
            found[sample.labels[label]] += int(sample.value)
    return {name: number for name, number in found.items() if number}


class Door:
    """A ModelServer that counts the pairs that go through it."""

    def __init__(self, server: Any, account: Account) -> None:
        self._server, self._account = server, account

    async def predict_both(self, *args: Any, **fields: Any) -> tuple[Outcome, Outcome]:
        self._account.sent += 1
        found: tuple[Outcome, Outcome] = await self._server.predict_both(*args, **fields)
        return found


class AtOnce:
    """A server past the socket: some of a few hundred answers, at once."""

    def __init__(self) -> None:
        chance = np.random.default_rng(1)
        self._answers = {version: [answer(version, chance.random((1, 10))) for _ in range(256)] for version in VERSIONS}
        self._seconds = cycle(chance.gamma(4.0, 0.002, 1021).tolist())
        self._turn = count()

    async def predict_both(self, *_: Any, first: int, second: int, **__: Any) -> tuple[Outcome, Outcome]:
        await asyncio.sleep(0)
        turn = next(self._turn) % 256
        one, two = (
            Outcome(Status.OK, next(self._seconds), version, self._answers[version][turn])
            for version in (first, second)
        )
        return one, two


def answer(version: int, scores: Any) -> bytes:
    message = wire.PredictResponse()
    message.outputs["scores"].CopyFrom(encode(scores.astype("<f4"), FLOAT))
    message.model_spec.version.value = version
    return bytes(message.SerializeToString())


class Endless:
    """A stream of one body, each with an id of its own; now and then one that no version accepts, or a repeat."""

    def __init__(self) -> None:
        self._numbers = count()

    async def requests(self) -> AsyncIterator[Request]:
        good = affine_request(1.0, 2.0).body
        for number in self._numbers:
            yield Request(f"request-{number}", Api.PREDICT, WRONG if number % 50 == 49 else good)
            if number % 70 == 69:
                yield Request(f"request-{number}", Api.PREDICT, good)


@dataclass
class Court:
    """The log and the judge of one long rollout: a new log whenever it is full."""

    rollout: Rollout
    analysis: Analysis
    began: float = field(default_factory=time.monotonic)
    _logged: int = MOST_PAIRS
    _stack: ExitStack = field(default_factory=ExitStack)
    _store: Store | None = None

    def elapsed(self) -> float:
        return time.monotonic() - self.began

    async def take(self, batch: Batch) -> None:
        if self._store is None or self._logged >= MOST_PAIRS:
            self.close()
            place = self._stack.enter_context(tempfile.TemporaryDirectory())
            self._store, self._logged = open_store(f"sqlite:///{place}/soak.db"), 0
            self._stack.callback(self._store.close)
        await asyncio.to_thread(self._store.append_evidence, self.rollout.id, batch)
        self._logged += len(batch)
        self.analysis.fold(batch)
        self.analysis.ruling(self.elapsed())

    def close(self) -> None:
        self._stack.close()


def a_court(names: tuple[ServerName, ...]) -> Court:
    rules = AnalysisSection(horizon_pairs=1_000_000_000).rules(rate_per_second=1000.0, floor=True)
    return Court(a_rollout(Phase.PROMOTING, servers=names, promoted=names), Analysis(rules, names))


async def shadow(
    court: Court, servers: dict[ServerName, ModelServer], limits: ShadowLimits, account: Account, most: float
) -> None:
    """Until so many pairs were judged; `most` may be infinite, and the task be cancelled."""
    source, seq = Endless(), 0
    while account.judged < most:  # a run ends when every server had to be left alone; the next tries again
        batches = pairs(
            rollout=court.rollout,
            servers=servers,
            source=source,
            limits=limits,
            score=Scorer(OutputRule(kind=OutputKind.ANY)),
            address=lambda: Addressing(*VERSIONS),
            masked=lambda server: False,
            next_seq=seq,
            judged_rows=set(),
            elapsed=court.elapsed,
            telemetry=account.telemetry,
        )
        async with aclosing(batches):
            async for batch in batches:
                account.judged += len(batch)
                await court.take(batch)
                seq = int(batch["seq"].max()) + 1
                if account.judged >= most:
                    break


async def watch_memory(account: Account, samples: list[Sample]) -> None:
    while True:
        samples.append(Sample.now(account.judged))
        await asyncio.sleep(SAMPLE_SECONDS)


async def trouble(sandboxes: list[Sandbox], admins: list[int], met: Counter[str]) -> None:
    """One fault after the other on one server after the other, each for a while, for ever."""
    which: Iterator[tuple[Sandbox, int]] = cycle(zip(sandboxes, admins, strict=True))
    async with httpx.AsyncClient(timeout=10) as http:
        for kind, fields in cycle(FAULTS):
            sandbox, admin = next(which)
            await asyncio.sleep(BETWEEN_SECONDS)
            met[kind] += 1
            page = f"http://127.0.0.1:{admin}/faults"
            if kind == "killed":
                sandbox.stop()
                await asyncio.sleep(EACH_FAULT_SECONDS)
                await asyncio.to_thread(sandbox.start, config_of(sandbox))
            elif kind == "frozen":
                sandbox.freeze()
                await asyncio.sleep(EACH_FAULT_SECONDS)
                sandbox.thaw()
            else:
                (await http.post(page, json={"kind": kind, **fields})).raise_for_status()
                await asyncio.sleep(EACH_FAULT_SECONDS)
                (await http.delete(page)).raise_for_status()


def config_of(sandbox: Sandbox) -> Any:
    return sandbox.config(sandbox.entry(MODEL, *VERSIONS))


async def on_the_wire(seconds: float, account: Account, samples: list[Sample]) -> str:
    met: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sandboxes, admins = [], []
        for name in ("r0", "r1"):
            admins.append(free_port())
            flags = ["--grpc_max_threads=64", f"--admin_port={admins[-1]}"]
            sandboxes.append(stack.enter_context(Sandbox(place / name, name=name, flags=flags)))
            for version in VERSIONS:
                sandboxes[-1].add(MODEL, version)
            await asyncio.to_thread(sandboxes[-1].start, config_of(sandboxes[-1]))
        servers: dict[ServerName, ModelServer] = {}
        for sandbox in sandboxes:
            client = await stack.enter_async_context(open_client(sandbox.server))
            servers[sandbox.server.name] = Door(client, account)  # type: ignore[assignment]
        court = a_court(tuple(servers))
        stack.callback(court.close)
        # The slack: what the faults do is shed for, what a shared machine does is not.
        limits = ShadowLimits(pairs_per_second=200.0, deadline_seconds=1.0, slack_seconds=0.1)
        tasks = [
            asyncio.create_task(shadow(court, servers, limits, account, float("inf"))),
            asyncio.create_task(trouble(sandboxes, admins, met)),
            asyncio.create_task(watch_memory(account, samples)),
        ]
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:  # none ends by itself
            task.result()
    return ", ".join(f"{kind} {number}x" for kind, number in met.items())


async def past_the_socket(number: int, account: Account, samples: list[Sample]) -> str:
    court = a_court((ServerName("r0"),))
    limits = ShadowLimits(pairs_per_second=1e6, concurrency=64, slowdown=float("inf"))
    servers: dict[ServerName, ModelServer] = {ServerName("r0"): Door(AtOnce(), account)}  # type: ignore[dict-item]
    watching = asyncio.create_task(watch_memory(account, samples))
    try:
        await shadow(court, servers, limits, account, number)
    finally:
        watching.cancel()
        court.close()
    return "none"


def page(account: Account, memory: tuple[list[tuple[str, str]], bool], faults: str, seconds: float) -> tuple[str, bool]:
    """The figures as they stand in docs/benchmarks.md, and whether all is well."""
    sizes, flat = memory
    rows = [
        ("time", f"{seconds:,.0f} s"),
        ("faults", faults),
        *(
            (f"turns left out: {reason}", f"{n:,}")
            for reason, n in by_label(account.telemetry.shadow.shed, "reason").items()
        ),
        ("pairs sent", f"{account.sent:,}"),
        ("judged", f"{account.judged:,}"),
        *((f"set aside: {reason}", f"{number:,}") for reason, number in account.set_aside().items()),
        *((f"dropped: {reason}", f"{number:,}") for reason, number in account.dropped().items()),
        ("not accounted for", f"{account.missing:,}"),
        *sizes,
    ]
    well = account.missing == 0 and account.judged > 0 and flat
    return markdown_table(("what", "figure"), rows), well


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("how", choices=("wire", "past"))
    parser.add_argument("--seconds", type=float, default=600.0, help="for wire (%(default)s)")
    parser.add_argument("--pairs", type=int, default=10_000_000, help="for past (%(default)s)")
    parser.add_argument("--table", type=Path, help="page to write the figures into")
    options = parser.parse_args()
    if options.seconds <= 0 or options.pairs < 1:
        parser.error("--seconds and --pairs must be positive")
    block = Block(options.table, f"soak {options.how}") if options.table else None
    account, samples, began = Account(), list[Sample](), time.monotonic()
    work = on_the_wire(options.seconds, account, samples)
    if options.how == "past":
        work.close()
        work = past_the_socket(options.pairs, account, samples)
    faults = asyncio.run(work)
    memory = by_tenths(samples) if options.how == "past" else by_fifths(samples)
    text, well = page(account, memory, faults, time.monotonic() - began)
    print(text)
    if block:
        block.write(text)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
