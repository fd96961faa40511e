#!/usr/bin/env python3
"""What judging costs: milliseconds for a batch of one metric beside a plain numpy mean, and bytes of state.

    python benchmarks/judge_cost.py [--batches 400] [--json FILE] [--table docs/benchmarks.md] [--check]

A batch is taken in and looked at as the agent does after every batch: evidence folded, both e-values, the hold, the
verdict, with all 32 late starts open (their number is what a look costs most for). The reference is what nobody can
do without: the mean of the same arrays. Both take turns in one process, so that they see the same machine; the
median counts. State is the pickled evidence, the larger of several moments, since an open block waits. With --check
it exits 1 when a goal is missed: 0.3 ms a batch, 8 kB a metric, 20 kB more where a tail is watched.
"""

import argparse
import itertools
import json
import math
import pickle
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from trials.gauge import Gauge
from trials.latency import Latency
from trials.page import Block, markdown_table
from trials.paired import Binary, Bounded
from trials.scenario import Batch, Metric, Scenario

from haldane.testing.trials import judge

MOST_MILLISECONDS, MOST_BYTES, MOST_TAIL_BYTES = 0.3, 8_000, 20_000
SIZES = 100, 200  # pairs in a batch
SHORT, LONG, COUNTS = 10**3, 10**5, 10**7  # pairs after which the state is weighed

KINDS: dict[str, Metric] = {
    "counts (errors, accuracy)": Binary(delta=0.01),
    "counts, relative margin": Binary(base=2e-3, delta=2e-3, margin_abs=0.0, margin_rel=1.0),
    "losses": Bounded(),
    "latency": Latency(shift=1.05),
    "latency and its tail": Latency(shift=1.05, tail_q=0.99, tail_margin_rel=0.25),
    "a gauge, scrape by scrape": Gauge(),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one kind of evidence. Milliseconds a batch of this many pairs; bytes after so many pairs."""

    kind: str
    batch: int
    milliseconds: float
    mean_milliseconds: float  # of a plain numpy mean of both arrays
    state_bytes: dict[int, int]

    def misses(self) -> Iterator[str]:
        if self.milliseconds > MOST_MILLISECONDS:
            yield f"{self.kind}: {self.milliseconds:.3f} ms for a batch of {self.batch} > {MOST_MILLISECONDS} ms"
        most = MOST_BYTES + (MOST_TAIL_BYTES if "tail" in self.kind else 0)
        if max(self.state_bytes.values()) > most:
            yield f"{self.kind}: {max(self.state_bytes.values()):,} bytes of state > {most:,}"


def scenario(metric: Metric, size: int) -> Scenario:
    """On the margin, so that no verdict comes early; at one pair every 5 s a gauge is scraped once a pair."""
    rate = 1 / metric.dt if isinstance(metric, Gauge) else 20.0
    return Scenario("cost", "edge", (metric,), horizon=LONG, batch=size, rate=rate)


def stream(metric: Metric, size: int) -> Iterator[Batch]:
    """Batches without end, one trial after another."""
    for trial in itertools.count():
        yield from scenario(metric, size).batches(trial)


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def weigh(metric: Metric, size: int, batches: int) -> Cost:
    """The state along a stream, then the time of batches past the horizon, where every late start is open."""
    one, pairs, weighed = judge(scenario(metric, size).config()), 0, {SHORT: 0, LONG: 0}
    taken, plain = [], []
    for batch in stream(metric, size):
        stable, canary = batch[f"{metric.name}_s"], batch[f"{metric.name}_c"]
        took = seconds_of(lambda b=batch: one.update(b))
        pairs += size
        for moment, most in weighed.items():
            if moment <= pairs < moment + 10 * size:
                weighed[moment] = max(most, len(pickle.dumps(one.hearing.watches[0].evidence)))
        if pairs > LONG:
            taken.append(took)
            plain.append(seconds_of(lambda s=stable, c=canary: (s.mean(), c.mean())))
        if len(taken) == batches:
            break
    if isinstance(metric, Binary):
        weighed[COUNTS] = state_after_many(metric, one)
    kind = next(name for name, each in KINDS.items() if each == metric)
    return Cost(kind, size, 1e3 * statistics.median(taken), 1e3 * statistics.median(plain), weighed)


def state_after_many(metric: Metric, one: object) -> int:
    """Bytes once the counts have reached 10^7; large batches, since only the counts matter."""
    evidence = one.hearing.watches[0].evidence  # type: ignore[attr-defined]
    t = np.arange(10**5) / 20.0
    rng = np.random.default_rng(0)
    while evidence.pairs < COUNTS:
        evidence.fold(*metric.draw(rng, t, -1.0))  # type: ignore[union-attr]
    return len(pickle.dumps(evidence))


def lines(costs: list[Cost]) -> tuple[list[str], list[list[str]]]:
    head = ["evidence", "pairs a batch", "ratio to a mean", "ms a batch", "ms of the mean"]
    head += [f"bytes after 10^{round(math.log10(pairs))}" for pairs in (SHORT, LONG, COUNTS)]
    rows = []
    for cost in costs:
        sizes = [f"{cost.state_bytes[pairs]:,}" if pairs in cost.state_bytes else "" for pairs in (SHORT, LONG, COUNTS)]
        ratio = f"{cost.milliseconds / cost.mean_milliseconds:.0f}"
        rows.append(
            [cost.kind, f"{cost.batch}", ratio, f"{cost.milliseconds:.3f}", f"{cost.mean_milliseconds:.4f}", *sizes]
        )
    return head, rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    block = Block(options.table, "judge cost") if options.table else None
    costs = [weigh(metric, size, options.batches) for metric in KINDS.values() for size in SIZES]
    head, rows = lines(costs)
    for row in (head, *rows):
        print(f"{row[0]:28}" + "".join(f"{cell:>17}" for cell in row[1:]))
    if options.json:
        options.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")
    if block:
        goals = (
            f"Goals: {MOST_MILLISECONDS} ms, {MOST_BYTES:,} bytes, {MOST_TAIL_BYTES:,} more where a tail is watched."
        )
        block.write(f"{goals} Median of {options.batches} batches.\n\n{markdown_table(head, rows)}")
    misses = [miss for cost in costs for miss in cost.misses()]
    print("\n".join(["goals missed:", *misses]) if misses else "every goal is met")
    return 1 if misses and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
