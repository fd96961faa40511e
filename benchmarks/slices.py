#!/usr/bin/env python3
"""What slices cost, and what they find: harm that only a tenth of all requests sees, among more and more slices.

    python benchmarks/slices.py [--trials 60] [--slices N] [--table docs/benchmarks.md]

Accuracy and errors are judged over all requests (margin 1 pp) and in each slice; one slice has a tenth of the requests,
the others share the rest. Three truths: every slice exactly on its margins (a rollback is false), harm of 10 pp in that
tenth alone, harm of 3 pp for everybody. The floor is log(1/alpha) over the information of the slice's own pairs, for a
test that knew beforehand which slice to look at. Two or three minutes on a core of its own.
"""

import argparse
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
from trials.information import kl_inf
from trials.page import Block, markdown_table

from haldane.domain.evidence import Role
from haldane.domain.traffic import Batch
from haldane.judge.analysis import Analysis
from haldane.judge.rules import Rules, Slice
from haldane.judge.slices import SLICE_WEIGHT, SliceRule, sliced
from haldane.testing.pairs import metric, pairs, rules

ALPHA, MARGIN, SHARE, BASE = 0.01, 0.01, 0.1, 0.015  # BASE: share of answers wrong on one side only, on either side
HORIZON, BATCH = 20_000, 100
COUNTS = 0, 1, 4, 16

Draw = Callable[[np.random.Generator, int], Batch]


def judged(count: int) -> Rules:
    """Accuracy and errors as guardrails, over all requests and in this many slices."""
    metrics = metric("accuracy", "1pp", Role.GUARDRAIL, weight=0.4), metric("errors", "1pp", Role.GUARDRAIL, weight=0.3)
    named = [Slice(field="slice", value=str(index)) for index in range(count)]
    each = [SliceRule(slice=one, role=Role.GUARDRAIL, margins={"accuracy": None, "errors": None}) for one in named]
    return rules(
        *metrics,
        *sliced(metrics, each, weight=SLICE_WEIGHT),
        slices=tuple(named),
        alpha=ALPHA,
        horizon_pairs=HORIZON,
        entry_pairs=500,
    )


def drawn(rng: np.random.Generator, count: int, harm: float, *, for_all: bool, fails: bool = False) -> Batch:
    """All pairs of one trial; `harm` more answers of the canary are wrong, for all or in slice 0, or fail."""
    slice_ = np.where(rng.random(HORIZON) < SHARE, 0, rng.integers(1, max(2, count), HORIZON))
    u = rng.random(HORIZON)
    worse = (u >= 2 * BASE) & (u < 2 * BASE + np.where(for_all | (slice_ == 0), harm, 0.0))
    return pairs(
        HORIZON,
        slices=np.where(slice_ < count, 1 << np.minimum(slice_, 31), 0),
        canary_wrong=(u < BASE) | worse,
        stable_wrong=(u >= BASE) & (u < 2 * BASE),
        canary_status=6 * worse if fails else 0,
    )


def until_rollback(some: Rules, stream: Batch) -> tuple[float, tuple[str, ...]]:
    """Pairs judged when it was rolled back, infinite when it was not; and the metrics named then."""
    analysis = Analysis(some)
    for batch in np.split(stream, range(BATCH, HORIZON, BATCH)):
        analysis.fold(batch)
        if analysis.hearing.failed is not None:
            return analysis.hearing.pairs, analysis.hearing.named
    return math.inf, ()


def row(count: int, trials: int) -> list[str]:
    """One line of the table."""
    some = judged(count)

    def outcomes(harm: float, *, for_all: bool, fails: bool = False) -> list[tuple[float, tuple[str, ...]]]:
        seeds = (np.random.default_rng([count, trial]) for trial in range(trials))
        return [until_rollback(some, drawn(rng, count, harm, for_all=for_all, fails=fails)) for rng in seeds]

    # An answer that fails is wrong too, so both metrics are on their margins.
    false = [pairs for pairs, _ in outcomes(MARGIN, for_all=True, fails=True) if pairs < math.inf]
    few, everybody = outcomes(0.1, for_all=False), outcomes(0.03, for_all=True)
    median = statistics.median(pairs for pairs, _ in few)
    named = sum("accuracy slice=0" in names for _, names in few)
    return [
        str(count),
        str(len(some.metrics)),
        f"{len(false) / trials:.1%}",
        f"{median:,.0f}" if median < math.inf else "not in time",
        f"{median / floor():.2f}" if median < math.inf else "",
        f"{named / trials:.0%}",
        f"{statistics.median(pairs for pairs, _ in everybody):,.0f}",
    ]


def floor() -> float:
    """Pairs, of all slices, before which no test could know of 10 pp more in a tenth."""
    gains, shares = np.array([1.0, -1.0, 0.0]) - MARGIN, np.array([BASE + 0.1, BASE, 1 - 2 * BASE - 0.1])
    return math.log(1 / ALPHA) / kl_inf(gains, shares, 1) / SHARE


HEAD = ("slices", "metrics", "false rollback", "+10 pp in a tenth: pairs", "ratio to floor", "named", "+3 pp for all")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--slices", type=int, action="append", metavar="N", help=f"how many; default {COUNTS}")
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    block = Block(options.table, "slices") if options.table else None
    rows = []
    for count in options.slices or COUNTS:
        rows.append(row(count, options.trials))
        print("  ".join(f"{name}: {cell}" for name, cell in zip(HEAD, rows[-1], strict=True)), flush=True)
    if block:
        told = f"{options.trials} trials a figure; alpha 1 %, floor {floor():,.0f} pairs."
        block.write(f"{told}\n\n{markdown_table(HEAD, rows)}")


if __name__ == "__main__":
    main()
