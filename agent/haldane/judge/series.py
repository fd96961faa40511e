"""Two series over time, one per side, as pairs: a past window judged as if it had been watched."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from haldane.domain.evidence import Role
from haldane.domain.traffic import PAIR_DTYPE, Batch
from haldane.judge.margin import Margin
from haldane.judge.rules import MetricRule, Rules
from haldane.stats.blocks import NOISE_TIMES

SERIES_BLOCK_SECONDS = 60.0  # as the blocks of gauges
SERIES_BLOCK_STEPS = 4

Floats = NDArray[np.float64]


def from_series(at: Floats, stable: Floats, canary: Floats, *, lower_is_worse: bool = False) -> Batch:
    """Two series on one grid of times as pairs, a pair per time, judged as latency is: by the ratio of the sides.

    Times in seconds, values positive, shape (n,) each. Where less is worse the
    sides change places, which turns their ratio round.
    """
    if not (np.isfinite(stable) & np.isfinite(canary) & (stable > 0) & (canary > 0)).all():
        raise ValueError("a ratio needs values above 0 on both sides")
    pairs = np.zeros(len(at), PAIR_DTYPE)
    pairs["seq"], pairs["at"], pairs["row"], pairs["fresh"] = np.arange(len(at)), at - at[:1].sum(), -1, True
    pairs["stable_seconds"], pairs["canary_seconds"] = (canary, stable) if lower_is_worse else (stable, canary)
    for name in ("disagrees", "distance", "wrong", "loss", "output"):
        for column in (name, f"stable_{name}", f"canary_{name}"):
            if column in (PAIR_DTYPE.names or ()):
                pairs[column] = np.nan
    return pairs


def series_rules(rules: Rules, margin: float, *, name: str, points: int, step_seconds: float) -> Rules:
    """The policy's error rates for one series: a pair per step, its ratio the only metric.

    Blocks last at least a minute, as those of gauges do, and four steps: what a
    scrape smooths lasts from one reading to the next.
    """
    block_seconds = max(SERIES_BLOCK_SECONDS, SERIES_BLOCK_STEPS * step_seconds)
    rule = MetricRule(name=name, kind="latency", role=Role.OBJECTIVE, margin=Margin(relative=margin))
    return replace(
        rules,
        metrics=(rule,),
        slices=(),
        limits=(),
        gauges=(),
        least_pairs=0,
        horizon_pairs=points,
        budget_seconds=points * step_seconds,
        warmup_pairs=0,
        entry_pairs=1,
        dependence_seconds=max(rules.dependence_seconds, block_seconds / NOISE_TIMES),
        rate_per_second=1 / step_seconds,
        late_labels=False,
    )
