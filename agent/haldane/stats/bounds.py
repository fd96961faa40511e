"""Confidence sequences: the margins that the betting evidence does not reject.

Each bound holds at all times at once, not only at a planned end. The evidence
is monotone in the margin, so the set is an interval and its ends are found by
refining a grid.

Source: Waudby-Smith & Ramdas, Estimating means of bounded
random variables by betting (theorem on the betting confidence sequence).
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from haldane.stats import checks
from haldane.stats.betting import MEANS, VOTES, Bets, Floats, Sides

_POINTS = 33  # a round of refinement gains a factor of 32
_ROUNDS = 4  # 32**4 = 1e6: bounds to a millionth of the range


def count_interval(counts: Floats, *, level: float, bets: Sides = MEANS) -> tuple[float, float]:
    """Bounds for E[c] - E[s] from counts, shape (4,): both bad, canary only, stable only, neither."""
    return _ends(np.array([0.0, 1.0, -1.0, 0.0]), counts, floor=-1.0, level=level, bets=bets)


def bounded_interval(values: Floats, counts: Floats, *, level: float) -> tuple[float, float]:
    """Bounds for the mean of values in [values[0], 1] seen `counts` times each (shares allowed)."""
    return _ends(values, counts, floor=float(values[0]), level=level, bets=MEANS)


def _ends(values: Floats, counts: Floats, *, floor: float, level: float, bets: Sides) -> tuple[float, float]:
    checks.counts(counts)
    seen = counts > 0
    values, counts = values[seen], counts[seen]

    def against_less(m: Floats) -> Floats:
        x = (values - m[:, None]) / (m[:, None] - floor)
        return _log_e(bets.harm, x, counts)

    def against_more(m: Floats) -> Floats:
        x = (m[:, None] - values) / (1 - m[:, None])
        return _log_e(bets.harmless, x, counts)

    tiny = 1e-9
    lower = last_rejected(against_less, floor + tiny, 1 - tiny, level)
    upper = last_rejected(lambda v: against_more(-v), -1 + tiny, -floor - tiny, level)
    return floor if lower is None else lower, 1.0 if upper is None else -upper


def count_ratio_interval(
    counts: Floats, *, absolute: float, level: float, bets: Sides = MEANS
) -> tuple[float | None, float | None]:
    """Bounds for (E[c] - absolute) / E[s] - 1; an end is None where nothing is excluded (up to a factor of 1e4)."""
    checks.counts(counts)
    canary, stable = np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])

    def excess(log_ratio: Floats) -> tuple[Floats, Floats]:
        ratio = np.exp(log_ratio)[:, None]
        return canary - ratio * stable - absolute, ratio

    def against_less(v: Floats) -> Floats:
        gain, ratio = excess(v)
        return _log_e(bets.harm, gain / (ratio + absolute), counts)

    def against_more(v: Floats) -> Floats:
        gain, _ = excess(-v)
        return _log_e(bets.harmless, -gain / (1 - absolute), counts)

    reach = math.log(1e4)
    lower = last_rejected(against_less, -reach, reach, level)
    upper = last_rejected(against_more, -reach, reach, level)
    return (None if lower is None else math.expm1(lower), None if upper is None else math.expm1(-upper))


def sign_interval(edges: Floats, histogram: NDArray[np.int64], *, level: float) -> tuple[float | None, float | None]:
    """Bounds for the middle of readings counted between edges (first and last cell are open), by sign votes.

    Each bound is an edge, rounded outward; None where nothing is excluded. Source: Howard & Ramdas, Sequential
    estimation of quantiles (a confidence sequence for a quantile from signs), with the bets of the votes.
    """
    checks.chance(level, "level")
    below = np.cumsum(histogram)[:-1].astype(np.float64)  # readings below each edge
    above = float(histogram.sum()) - below
    needed = math.log(1 / level)
    low = edges[VOTES.harm.mix(VOTES.harm.sign_wealths(above, below)) >= needed]
    high = edges[VOTES.harmless.mix(VOTES.harmless.sign_wealths(below, above)) >= needed]
    return (float(low[-1]) if len(low) else None, float(high[0]) if len(high) else None)


def log_e_signs(for_it: float, against: float) -> float:
    """Log e-value that votes for it are the likelier, from counts of votes, 0 or more each: a sequential sign test."""
    checks.counts((for_it, against))
    return float(MEANS.harm.mix(MEANS.harm.sign_wealths(np.array(for_it), np.array(against))))


def _log_e(bets: Bets, excess: Floats, counts: Floats) -> Floats:
    """Log evidence for each margin: excess (margins, values) >= -1, counts (values,)."""
    x = np.maximum(excess, -1.0)  # rounding may fall an ulp below
    return bets.mix(np.log1p(x[:, None, :] * bets.sizes[:, None]) @ counts)


def last_rejected(log_e: Callable[[Floats], Floats], low: float, high: float, level: float) -> float | None:
    """The largest point in [low, high] with log_e >= log(1/level), log_e falling; None when there is none."""
    checks.chance(level, "level")
    needed = math.log(1 / level)
    for turn in range(_ROUNDS):
        grid = np.linspace(low, high, _POINTS)
        rejected = int((log_e(grid) >= needed).sum())
        if rejected == 0:  # in a later round only by rounding: the first point was rejected before
            return low if turn else None
        if rejected == _POINTS:
            return high
        low, high = float(grid[rejected - 1]), float(grid[rejected])
    return low
