#!/usr/bin/env python3
"""What a shadow call costs, beside the least that Python's gRPC and pycurl can do and beside h2load, all in one run.

    python benchmarks/shadow.py [--calls 40000] [--in-flight 128] [--rounds 5] [--check] [--table docs/benchmarks.md]

nginx answers every call with a canned reply, one server per arm, so the client is what is measured; h2load is how
fast that responder is. Every round runs all of them one after the other; ratios are taken within a round, and the
median over rounds is given, since other work on the machine changes from one to the next. With --check it exits 1
when a goal is missed: 0.8 of the bare loop by CPU per call, with pairing, timing, comparison and judging on; a
quarter of h2load's calls per second in one process; two processes at most 1.15 times the CPU per call of one.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from trials.page import Block, markdown_table
from wirespeed.responder import framed, request_body, responders

GOAL_BARE, GOAL_WIRE, GOAL_TWO = 0.8, 0.25, 1.15
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
SCRIPTS = Path(__file__).resolve().parent / "wirespeed"


@dataclass(frozen=True)
class Cost:
    """Of one caller: calls per second of wall time, microseconds of its own CPU time per call."""

    calls_per_second: float
    microseconds: float


@dataclass(frozen=True)
class Round:
    """Everything once, within a minute or so of each other."""

    h2load: Cost
    bare: Cost
    quiet: Cost
    below: Cost
    lean: Cost
    curl: Cost
    one: Cost
    two: Cost  # two processes together: calls per second of both, CPU per call of both

    @property
    def of_bare(self) -> float:
        return self.bare.microseconds / self.one.microseconds

    @property
    def of_quiet(self) -> float:
        return self.quiet.microseconds / self.one.microseconds

    @property
    def of_wire(self) -> float:
        return self.one.calls_per_second / self.h2load.calls_per_second

    @property
    def two_to_one(self) -> float:
        return self.two.microseconds / self.one.microseconds


def h2load(port: int, calls: int, in_flight: int, body: Path) -> Cost:
    """The same bytes at the speed of C; its CPU time is the child's."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = f"h2load -n {calls} -c 1 -m {in_flight} -d {body}".split()
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    url = f"http://127.0.0.1:{port}/tensorflow.serving.PredictionService/Predict"
    said = subprocess.run([*words, *headers, url], capture_output=True, text=True, check=True).stdout
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if not re.search(rf"\b{calls} succeeded", said):
        raise SystemExit(f"h2load: not all calls succeeded\n{said}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(calls / wall, 1e6 * cpu / calls)


def callers(kind: str, processes: int, ports: tuple[int, int], calls: int, in_flight: int) -> Cost:
    """That many processes, started at one moment, `calls` each."""
    script = SCRIPTS / {"haldane": "product.py", "curl": "curl.py"}.get(kind, "bare.py")
    words = [sys.executable, str(script), kind, *map(str, ports), str(calls), str(in_flight)]
    running = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        for _ in range(processes)
    ]
    for process in running:
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"{kind} did not start")
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    found = [json.loads(process.communicate()[0]) for process in running]
    total = sum(one["calls"] for one in found)
    return Cost(
        sum(one["calls"] / one["wall_seconds"] for one in found),
        1e6 * sum(one["cpu_seconds"] for one in found) / total,
    )


def run_round(ports: tuple[int, int], calls: int, in_flight: int, body: Path) -> Round:
    return Round(
        h2load(ports[0], 2 * calls, in_flight, body),
        callers("bare", 1, ports, calls, in_flight),
        callers("quiet", 1, ports, calls, in_flight),
        callers("below", 1, ports, calls, in_flight),
        callers("lean", 1, ports, calls, in_flight),
        callers("curl", 1, ports, calls, in_flight),
        callers("haldane", 1, ports, calls, in_flight),
        callers("haldane", 2, ports, calls // 2, in_flight),
    )


def ratios(rounds: Sequence[Round]) -> list[tuple[str, list[float], str, bool]]:
    """What is promised: the figure of each round, what it should be, and whether the median keeps it."""
    of_bare, of_wire = [one.of_bare for one in rounds], [one.of_wire for one in rounds]
    of_quiet = [one.of_quiet for one in rounds]
    two = [one.two_to_one for one in rounds]
    return [
        ("CPU per call: bare `grpc.aio` loop / Haldane", of_bare, f">= {GOAL_BARE}", median(of_bare) >= GOAL_BARE),
        ("the same, the bare loop's collector set as Haldane sets it", of_quiet, "-", True),
        ("calls per second: one process / h2load", of_wire, f">= {GOAL_WIRE}", median(of_wire) >= GOAL_WIRE),
        ("CPU per call: two processes / one", two, f"<= {GOAL_TWO}", median(two) <= GOAL_TWO),
    ]


def page(rounds: Sequence[Round], said: str) -> str:
    """The figures as they stand in docs/benchmarks.md."""
    promised = [
        (name, f"{median(found):.2f}", f"{min(found):.2f} to {max(found):.2f}", goal if kept else f"**{goal}**")
        for name, found, goal, kept in ratios(rounds)
    ]
    callers = {
        "h2load, one connection": [one.h2load for one in rounds],
        "bare `grpc.aio` loop": [one.bare for one in rounds],
        "the same, its collector likewise": [one.quiet for one in rounds],
        "the same, below grpc.aio's Python layer": [one.below for one in rounds],
        "an HTTP/2 client of 100 lines (`wirespeed/lean.py`)": [one.lean for one in rounds],
        "libcurl by pycurl (`wirespeed/curl.py`)": [one.curl for one in rounds],
        "Haldane, one process": [one.one for one in rounds],
        "Haldane, two processes": [one.two for one in rounds],
    }
    sides = [
        (
            name,
            f"{median([cost.calls_per_second for cost in costs]):,.0f}",
            f"{microseconds(costs):.1f}",
            pairs_per_core(costs) if "Haldane" in name else "-",
        )
        for name, costs in callers.items()
    ]
    return "\n\n".join(
        (
            said,
            markdown_table(("ratio", "median", "over rounds", "goal"), promised),
            markdown_table(("caller", "calls a second", "CPU us per call", "pairs a second and core"), sides),
        )
    )


def microseconds(costs: Sequence[Cost]) -> float:
    return median([cost.microseconds for cost in costs])


def pairs_per_core(costs: Sequence[Cost]) -> str:
    """As many as a core does that has nothing else to do."""
    return f"{1e6 / (2 * microseconds(costs)):,.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=40_000, help="a caller and round (%(default)s)")
    parser.add_argument("--in-flight", type=int, default=128, help="calls at once (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    parser.add_argument("--table", type=Path, help="page to write the figures into")
    options = parser.parse_args()
    if min(options.calls, options.rounds) < 1 or options.in_flight < 2:
        parser.error("--calls and --rounds must be at least 1, --in-flight at least 2")
    if shutil.which("h2load") is None:
        parser.error("h2load is not installed; on Debian: sudo apt-get install nghttp2-client")
    block = Block(options.table, "shadow") if options.table else None
    rounds = []
    with tempfile.TemporaryDirectory() as place:
        body = Path(place) / "body.bin"
        body.write_bytes(framed(request_body()))
        with responders(Path(place)) as ports:
            for number in range(options.rounds):
                rounds.append(run_round(ports, options.calls, options.in_flight, body))
                now = rounds[-1]
                figures = f"{now.of_bare:.2f} of bare, {now.of_wire:.2f} of h2load, {now.two_to_one:.2f} for two"
                print(f"round {number + 1}: {figures}", file=sys.stderr)
    said = f"{options.rounds} rounds of {options.calls:,} calls for each caller, {options.in_flight} in flight."
    text = page(rounds, said)
    print(text)
    if block:
        block.write(text)
    return int(options.check and not all(kept for *_, kept in ratios(rounds)))


if __name__ == "__main__":
    sys.exit(main())
