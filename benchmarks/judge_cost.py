#!/usr/bin/env python3
"""What judging costs: milliseconds for a batch of one metric beside a plain numpy mean, and bytes of state.

    python benchmarks/judge_cost.py [--batches 400] [--json FILE] [--table docs/benchmarks.md] [--check]

A batch is taken in and looked at as the agent does after every batch: evidence folded, both e-values, the hold, the
verdict, with all 32 late starts open (their number is what a look costs most for). The last rows are a whole analysis
with four metrics, from columns of pairs to a verdict, per metric. The reference is what nobody can do without: the
mean of the same arrays. Both take turns in one process, so that they see the same machine; the median counts. State
is pickled, the largest of several moments, since an open block waits. With --check it exits 1 when a goal is missed:
0.3 ms a batch, 8 kB a metric, 20 kB more where a tail is watched.
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
from typing import Any

import numpy as np
from trials.gauge import Gauge
from trials.latency import Latency
from trials.noise import Floats
from trials.page import Block, markdown_table
from trials.paired import Binary, Bounded
from trials.scenario import Metric, Scenario

from haldane.domain.evidence import Role
from haldane.domain.traffic import Batch as PairBatch
from haldane.judge.analysis import Analysis
from haldane.judge.findings import Watch
from haldane.judge.hearing import Hearing, Terms
from haldane.judge.rules import Tail
from haldane.stats.means import CountEvidence
from haldane.testing.answers import EDGES
from haldane.testing.pairs import metric as metric_rule
from haldane.testing.pairs import pairs, rules
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
# What is judged of answers without a right one, as it is called here and in EDGES.
ANSWERS = {
    "disagreement over a floor": "disagreement, a floor of 30 %",
    "drift of outputs": "drift at every threshold",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one kind of evidence. Milliseconds a metric and batch of this many pairs; bytes after so many pairs."""

    kind: str
    batch: int
    milliseconds: float
    mean_milliseconds: float  # of a plain numpy mean of the arrays, a metric
    state_bytes: dict[int, int]
    most_bytes: int

    def misses(self) -> Iterator[str]:
        if self.milliseconds > MOST_MILLISECONDS:
            yield f"{self.kind}: {self.milliseconds:.3f} ms for a batch of {self.batch} > {MOST_MILLISECONDS} ms"
        if max(self.state_bytes.values()) > self.most_bytes:
            yield f"{self.kind}: {max(self.state_bytes.values()):,} bytes of state > {self.most_bytes:,}"


@dataclass(frozen=True, slots=True)
class Subject:
    """What takes in batches: one metric's evidence, or a whole analysis."""

    kind: str
    size: int  # pairs in a batch
    metrics: int
    batches: Iterator[Any]  # without end
    take: Callable[[Any], object]
    arrays: Callable[[Any], list[Floats]]  # what a batch holds of the metrics
    state: Callable[[], object]

    def cost(self, batches: int) -> Cost:
        """The state along a stream, then the time of batches past the horizon, where every late start is open."""
        fed, weighed, taken, plain = 0, {SHORT: 0, LONG: 0}, [], []
        for batch in self.batches:
            took = seconds_of(lambda b=batch: self.take(b))
            fed += self.size
            for moment, most in weighed.items():
                if moment <= fed < moment + 10 * self.size:
                    weighed[moment] = max(most, len(pickle.dumps(self.state())))
            if fed > LONG:
                arrays = self.arrays(batch)
                taken.append(took / self.metrics)
                plain.append(seconds_of(lambda a=arrays: [each.mean() for each in a]) / self.metrics)
            if len(taken) == batches:
                break
        if isinstance(self.state(), CountEvidence):
            weighed[COUNTS] = bytes_after_many(self.state())
        most = MOST_BYTES * self.metrics + (MOST_TAIL_BYTES if "tail" in self.kind else 0)
        return Cost(self.kind, self.size, 1e3 * statistics.median(taken), 1e3 * statistics.median(plain), weighed, most)


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def bytes_after_many(evidence: CountEvidence) -> int:
    """Once the counts have reached 10^7; large batches, since only the counts matter."""
    rng, many = np.random.default_rng(0), np.arange(10**5) / 20.0
    while evidence.pairs < COUNTS:
        evidence.fold(*Binary(delta=0.01).draw(rng, many, -1.0))
    return len(pickle.dumps(evidence))


def one_metric(kind: str, metric: Metric, size: int) -> Subject:
    """On the margin, so that no verdict comes early; at one pair every 5 s a gauge is scraped once a pair."""
    rate = 1 / metric.dt if isinstance(metric, Gauge) else 20.0
    scenario = Scenario("cost", "edge", (metric,), horizon=LONG, batch=size, rate=rate)
    judging = judge(scenario.config())
    batches = (batch for trial in itertools.count() for batch in scenario.batches(trial))
    return Subject(
        kind=kind,
        size=size,
        metrics=1,
        batches=batches,
        take=judging.update,
        arrays=lambda batch: [batch[f"{metric.name}_s"], batch[f"{metric.name}_c"]],
        state=lambda: judging.hearing.watches[0].evidence,
    )


def of_answers(kind: str, edge: str, size: int) -> Subject:
    """On the margin, too, and looked at by a hearing of this metric alone."""
    evidence, draw = EDGES[edge].evidence(), EDGES[edge].draw
    terms = Terms(alpha=0.01, beta=0.05, least_pairs=0, horizon_pairs=LONG, entry_pairs=LONG)
    hearing = Hearing([Watch(kind, Role.OBJECTIVE, 1.0, evidence)], terms)
    drawn = (draw(np.random.default_rng(trial), LONG) for trial in itertools.count())
    return Subject(
        kind=kind,
        size=size,
        metrics=1,
        batches=(
            batch for sides in drawn for batch in zip(*(np.split(each, LONG // size) for each in sides), strict=True)
        ),
        take=lambda batch: hearing.hear({kind: batch}, pairs=hearing.pairs + size, seconds=hearing.seconds + 1.0),
        arrays=list,
        state=lambda: evidence,
    )


def whole_analysis(size: int) -> Subject:
    """Errors, accuracy, loss and latency with its tail, from columns of pairs."""
    tail = metric_rule("latency", "+5%", tails=(Tail(quantile=0.99),))
    judged = metric_rule("errors", "1pp"), metric_rule("accuracy", "1pp"), metric_rule("loss", "0.02 loss"), tail
    analysis = Analysis(rules(*judged, horizon_pairs=LONG))
    return Subject(
        kind="whole analysis, with a tail",
        size=size,
        metrics=len(judged),
        batches=(batch for trial in itertools.count() for batch in columns(trial, size)),
        take=analysis.fold,
        arrays=lambda batch: [batch[name] for name in COLUMNS],
        state=lambda: analysis,
    )


COLUMNS = tuple(f"{arm}_{what}" for what in ("status", "wrong", "loss", "seconds") for arm in ("stable", "canary"))


def columns(trial: int, size: int) -> Iterator[PairBatch]:
    """LONG pairs on the margin of accuracy and latency, in batches."""
    rng, t = np.random.default_rng(trial), np.arange(LONG) / 20.0
    wrong, loss, seconds = (each.draw(rng, t, -1.0) for each in (Binary(delta=0.01), Bounded(), Latency(shift=1.05)))
    drawn = dict(zip(COLUMNS[2:], (*wrong, *loss, *seconds), strict=True))
    whole = pairs(LONG, first=trial * LONG, **drawn)
    yield from np.split(whole, range(size, LONG, size))


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
    subjects = [one_metric(kind, metric, size) for kind, metric in KINDS.items() for size in SIZES]
    subjects += [of_answers(kind, edge, size) for kind, edge in ANSWERS.items() for size in SIZES]
    costs = [each.cost(options.batches) for each in (*subjects, *map(whole_analysis, SIZES))]
    head, rows = lines(costs)
    for row in (head, *rows):
        print(f"{row[0]:28}" + "".join(f"{cell:>17}" for cell in row[1:]))
    if options.json:
        options.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")
    misses = [miss for cost in costs for miss in cost.misses()]
    if block:
        told = (
            f"Goals: {MOST_MILLISECONDS} ms, {MOST_BYTES:,} bytes, {MOST_TAIL_BYTES:,} more where a tail is watched. "
            f"Median of {options.batches} batches. Missed in this run: {'; '.join(misses) or 'none'}."
        )
        block.write(f"{told}\n\n{markdown_table(head, rows)}")
    print("\n".join(["goals missed:", *misses]) if misses else "every goal is met")
    return 1 if misses and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
