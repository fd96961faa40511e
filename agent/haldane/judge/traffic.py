"""What is known of a model's traffic before a hearing: guessed, or measured on a rollout that was."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from haldane.domain.entries import Entry
from haldane.domain.traffic import PAIR_DTYPE, Batch, Status
from haldane.judge.rules import MetricRule, Rules, Slice
from haldane.stats.betting import Floats

SLICE_SHARE = 0.1  # of all requests, where nobody says
LEAST_MEASURED = 200  # fewer readings of something say less than the guess
FAINTEST = 1e-6  # a share that was never seen is not zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is known or guessed of the traffic beforehand.

    `discordance` is the share of pairs of which exactly one side is wrong
    when both versions are equally good; `error_rate` the share of requests
    that fail; `disagreement` the share of answers that differ for a harmless
    canary; `log_ratio_sd` the spread of log(canary / stable) latency, and
    `gauge_sd` that of a gauge's blocks; `loss_sd` the spread of the paired
    loss difference; `aa_share` of pairs ask stable twice. `shares` of all
    requests by slice; one not named there has what its rule says, or a tenth.
    `labelled_rows`: rows of a finite labelled set, each judged once; None for
    a labelled stream.
    """

    pairs_per_second: float
    servers: int = 1
    labelled_rows: int | None = None
    discordance: float = 0.03
    error_rate: float = 1e-4
    disagreement: float = 0.005
    log_ratio_sd: float = 0.35
    gauge_sd: float = 0.05
    aa_share: float = 0.1
    loss_sd: float = 0.1
    shares: Mapping[str, float] = field(default_factory=dict)

    def share_of(self, rule: MetricRule, rules: Rules) -> float:
        """The share of requests that this rule sees."""
        if rule.slice is None:
            return 1.0
        return self.shares.get(rules.slices[rule.slice].name, rule.share if rule.share < 1.0 else SLICE_SHARE)


def measured(entries: Iterable[Entry], guess: Traffic, slices: Sequence[Slice] = ()) -> Traffic:
    """The traffic of a rollout's evidence log; where that holds too little, the guess stands.

    Only pairs of stable with canary count. What a harmful canary did to its answers is in the
    figures: a forecast from it is on the careful side.
    """
    batches = [entry for entry in entries if entry.dtype == PAIR_DTYPE]
    pairs = np.concatenate(batches) if batches else np.empty(0, PAIR_DTYPE)
    versus = pairs[~pairs["aa"]]
    if len(versus) < LEAST_MEASURED:
        return guess
    lasted = float(pairs["at"].max() - pairs["at"].min())
    fresh = versus[versus["fresh"]]
    found: dict[str, float | None] = {
        "pairs_per_second": len(versus) / lasted if lasted > 0 else None,
        "discordance": _share(fresh["stable_wrong"], fresh["canary_wrong"]),
        "error_rate": max(FAINTEST, float((versus["stable_status"] != Status.OK).mean())),
        "disagreement": _share(fresh["disagrees"]),
        "log_ratio_sd": _log_ratio_sd(versus),
        "loss_sd": _spread(fresh["canary_loss"].astype(np.float64) - fresh["stable_loss"]),
    }
    bits = [(versus["slices"] >> np.uint32(index)) & 1 for index in range(len(slices))]
    shares = {one.name: max(FAINTEST, float(bit.mean())) for one, bit in zip(slices, bits, strict=True)}
    known = {name: value for name, value in found.items() if value is not None}
    return replace(guess, **known, shares={**shares, **guess.shares})  # type: ignore[arg-type]


def _share(*sides: Floats) -> float | None:
    """Share of rows in which a flag is set, or in which exactly one of two is."""
    known = np.all([np.isfinite(side) for side in sides], axis=0)
    if known.sum() < LEAST_MEASURED:
        return None
    first, *other = (side[known] for side in sides)
    return max(FAINTEST, float((first != other[0]).mean() if other else (first > 0).mean()))


def _log_ratio_sd(versus: Batch) -> float | None:
    stable, canary = versus["stable_seconds"], versus["canary_seconds"]
    timed = (versus["stable_status"] == Status.OK) & (versus["canary_status"] == Status.OK) & ~versus["masked"]
    timed &= np.isfinite(stable) & np.isfinite(canary) & (stable > 0) & (canary > 0)
    return _spread(np.log(canary[timed]) - np.log(stable[timed]))


def _spread(values: Floats) -> float | None:
    """Standard deviation of the middle nine tenths, scaled to what it is for a bell: a few outliers change nothing."""
    values = values[np.isfinite(values)]
    if len(values) < LEAST_MEASURED:
        return None
    low, high = np.quantile(values, [0.05, 0.95])
    return max(FAINTEST, float(high - low) / 3.29)
