#!/usr/bin/env python3
"""What it costs to have Dask workers send the pairs, beside the agent's own process, all in one run.

    python benchmarks/spread.py [--seconds 10] [--in-flight 64] [--rounds 3] [--table docs/benchmarks.md]

nginx answers every call with a canned reply. The same requests of one file are sent by this process, by one worker and
by two, without a limit of their rate, read, compared, folded and ruled on. CPU is that of the senders (the worker
processes, Dask's own work in them included) and that of this process, which judges.
"""

import argparse
import asyncio
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from prometheus_client import CollectorRegistry
from trials.page import Block, markdown_table
from wirespeed.meter import server_at
from wirespeed.responder import STABLE, request_body, responders

from haldane import wire
from haldane.adapters.dask import open_workers
from haldane.adapters.replay import Replay
from haldane.app.sender import Order
from haldane.app.shadowing import RemoteSenders, split
from haldane.config import ModelSection
from haldane.config.analysis import AnalysisSection
from haldane.domain.rollout import Phase, Rollout
from haldane.domain.traffic import Batch
from haldane.engine.addressing import Addressing
from haldane.engine.collector import quieten
from haldane.engine.pairing import ShadowLimits, pairs
from haldane.engine.spread import Beginning, Spread
from haldane.judge.analysis import Analysis
from haldane.judge.outputs import OutputKind, OutputRule
from haldane.serving.client import open_client
from haldane.serving.records import frame, read_prediction_logs
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout

ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
RECORDS = 2000
WARM_UP_SECONDS = 3.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Pairs per second of wall time; microseconds of CPU time per pair."""

    pairs_per_second: float
    senders: float
    judge: float

    @property
    def together(self) -> float:
        return self.senders + self.judge


class Bench:
    """One responder as the server, the requests in a file, the rules."""

    def __init__(self, port: int, folder: Path, in_flight: int) -> None:
        self.server = server_at(port)
        self.path = folder / "requests.tfrecord"
        log = wire.PredictionLog()
        log.predict_log.request.MergeFromString(request_body())
        log.predict_log.request.model_spec.name = "credit"
        self.path.write_bytes(frame(log.SerializeToString()) * RECORDS)
        # Both sides have one version, for the responder has one reply.
        fields = {"old": STABLE, "new": STABLE, "servers": (self.server.name,)}
        self.rules = AnalysisSection().rules(rate_per_second=10_000.0, floor=True)
        self.rollout: Rollout = a_rollout(Phase.SHADOWING, analysis=self.rules.to_json(), **fields)
        self.limits = ShadowLimits(
            pairs_per_second=1e6, concurrency=in_flight, aa_share=0.05, slowdown=math.inf, batch_pairs=1000
        )
        self.scorer = Scorer(OutputRule(kind=OutputKind.ANY))
        self.address = Addressing(STABLE, STABLE)

    async def here(self) -> AsyncGenerator[Batch, None]:
        async with open_client(self.server) as client:
            batches = pairs(
                rollout=self.rollout,
                servers={self.server.name: client},
                source=Replay("log", lambda: read_prediction_logs(self.path, model=self.rollout.model)),
                limits=self.limits,
                score=self.scorer,
                address=lambda: self.address,
                masked=lambda server: False,
                next_seq=0,
                judged_rows=set(),
                elapsed=time.monotonic,
                telemetry=Telemetry.on(CollectorRegistry()),
            )
            async with aclosing(batches):
                async for batch in batches:
                    yield batch

    async def elsewhere(self, scheduler: str) -> AsyncGenerator[Batch, None]:
        async with open_workers(scheduler) as workers:
            spread = Spread(
                senders=RemoteSenders(workers, self.order, self.rollout),
                rollout=self.rollout,
                most=self.limits.concurrency,
                address=lambda: self.address,
                masked=lambda server: False,
                crowded=lambda server: False,
                next_seq=0,
                judged_rows=set(),
                elapsed=time.monotonic,
                telemetry=Telemetry.on(CollectorRegistry()),
                stopped=set(),
                keep=lambda seq, kept: None,
                flawed=lambda totals: None,
            )
            async with aclosing(spread.batches()) as batches:
                async for batch in batches:
                    yield batch

    def order(self, index: int, beginning: Beginning) -> Order:
        traffic = {"prediction_log": str(self.path)}
        return Order(
            rollout=self.rollout,
            section=ModelSection.model_validate({"clients": "label", "traffic": traffic}),
            base_path="",
            fields=frozenset(),
            servers=(self.server,),
            tls=None,
            limits=split(self.limits, index, beginning.of),
            scorer=self.scorer,
            made_up=False,
            address=self.address,
            stopped=frozenset(),
            index=index,
            beginning=beginning,
        )

    async def measure(self, batches: AsyncGenerator[Batch, None], seconds: float, senders: Sequence[int]) -> Cost:
        """`senders` are the processes that send, none for this one."""
        analysis = Analysis(self.rules, self.rollout.servers)
        began, start, count = time.monotonic(), None, 0
        async with aclosing(batches):
            async for batch in batches:
                analysis.fold(batch)
                analysis.ruling(time.monotonic() - began)
                count += len(batch)
                now = time.monotonic(), time.process_time(), sum(map(cpu_seconds, senders))
                if start is None and now[0] - began > min(WARM_UP_SECONDS, seconds):
                    start, count = now, 0
                elif start is not None and now[0] - start[0] > seconds:
                    break
        wall, own, theirs = (after - before for after, before in zip(now, start or now, strict=True))
        if not count or not wall:
            raise SystemExit("no pair came back")
        each = 1e6 / count
        return Cost(count / wall, each * (theirs if senders else own), each * own if senders else 0.0)


def cpu_seconds(process: int) -> float:
    """Source: proc(5), fields 14 and 15 of stat, counted after the name, which may hold blanks."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[tuple[str, list[int]]]:
    """A scheduler's address and its workers' process ids, while the block lasts."""
    dask = str(Path(sys.executable).parent / "dask")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, local = f"tcp://127.0.0.1:{port}", ["--host", "127.0.0.1", "--no-dashboard"]
    words = [[dask, "scheduler", "--port", str(port), *local]]
    place = ["--local-directory", str(folder)]
    words += [[dask, "worker", address, "--no-nanny", "--nthreads", "1", *place, *local] for _ in range(workers)]
    log = (folder / "dask.log").open("ab")
    running = [subprocess.Popen(one, stdout=log, stderr=log, env=ENVIRONMENT) for one in words]
    try:
        yield address, [process.pid for process in running[1:]]
    finally:
        for process in running:
            process.kill()
            process.wait()
        log.close()


async def one_round(bench: Bench, folder: Path, seconds: float) -> dict[str, Cost]:
    found = {"this process": await bench.measure(bench.here(), seconds, ())}
    for count, name in ((1, "one worker"), (2, "two workers")):
        with cluster(folder, count) as (address, processes):
            await until_there(address, count)
            found[name] = await bench.measure(bench.elsewhere(address), seconds, processes)
    return found


async def until_there(address: str, count: int) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                async with open_workers(address) as workers:
                    while len(await workers.names()) < count:  # noqa: ASYNC110 - a scheduler tells nobody
                        await asyncio.sleep(0.2)
                    return
            except Exception:
                await asyncio.sleep(0.5)


def page(rounds: Sequence[dict[str, Cost]], said: str) -> str:
    """The figures as they stand in docs/benchmarks.md."""
    rows = []
    for name in rounds[0]:
        costs = [one[name] for one in rounds]
        to_own = [one[name].together / one["this process"].together for one in rounds]
        rows.append((
            name,
            f"{median([cost.pairs_per_second for cost in costs]):,.0f}",
            f"{median([cost.senders for cost in costs]):.0f}",
            f"{median([cost.judge for cost in costs]):.0f}" if name != "this process" else "-",
            f"{median(to_own):.2f} ({min(to_own):.2f} to {max(to_own):.2f})",
        ))  # fmt: skip
    head = ("pairs sent by", "pairs a second", "senders' CPU us per pair", "agent's", "CPU of both / this process")
    return f"{said}\n\n{markdown_table(head, rows)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (%(default)s)")
    parser.add_argument("--in-flight", type=int, default=64, help="pairs at once (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--table", type=Path, help="page to write the figures into")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0 or options.in_flight < 2:
        parser.error("--rounds must be at least 1, --seconds positive, --in-flight at least 2")
    block = Block(options.table, "spread") if options.table else None
    quieten()
    rounds = []
    with tempfile.TemporaryDirectory() as place, responders(Path(place)) as (port, _):
        bench = Bench(port, Path(place), options.in_flight)
        for number in range(options.rounds):
            rounds.append(asyncio.run(one_round(bench, Path(place), options.seconds)))
            shown = ", ".join(f"{name} {cost.pairs_per_second:,.0f}/s" for name, cost in rounds[-1].items())
            print(f"round {number + 1}: {shown}", file=sys.stderr)
    said = f"{options.rounds} rounds of {options.seconds:g} s each, {options.in_flight} pairs in flight."
    text = page(rounds, said)
    print(text)
    if block:
        block.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
