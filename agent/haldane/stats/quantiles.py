"""Quantiles of two sides' positive readings, with intervals that hold at all times at once.

That a reading lies below a quantile has one known chance, whatever the
distribution, so for any value x the count of readings below it is evidence on
whether x lies left or right of the quantile. The interval is the values not
rejected. What the sides share is not taken out here, as it is in the ratio of
pairs: these are the quantiles of what was met, drift and bursts included.

Source: Howard & Ramdas, Sequential estimation of quantiles with applications
to A/B testing and best-arm identification (confidence sequences for a quantile
from a mixture over the count below it).
"""

import math

import numpy as np
from numpy.typing import NDArray

from haldane.stats import checks
from haldane.stats.betting import Floats

CELL = 0.02  # width of a cell of the histogram, in log: 2 %
LOWEST, HIGHEST = -14.0, 12.0  # log of the readings told apart: a microsecond to two days; others count at the ends

# Alternatives of the mixture: log odds of lying above the value, this far from what the quantile says. From what a
# million readings tell apart at a quantile of 99 % to what a handful do.
ODDS: Floats = np.geomspace(0.01, 3.0, 12)


class Quantiles:
    """Histograms of two sides, and what they say of any quantile.

    `lasting` readings in a row may be slow together: evidence is counted in
    blocks of so many, each worth its mean. As log is concave that never
    overstates it, if given the past a block's share below the quantile is what
    it should be on average. State: a cell of 2 % for each size met.
    """

    def __init__(self, *, lasting: int = 1) -> None:
        if lasting < 1:
            raise ValueError(f"a block holds a reading at least, got {lasting!r}")
        self.lasting = lasting
        self._first = 0  # number of the first cell
        self._counts: NDArray[np.uint32] = np.zeros((2, 0), np.uint32)  # stable, canary

    @property
    def pairs(self) -> int:
        return int(self._counts[0].sum())

    def fold(self, stable: Floats, canary: Floats) -> None:
        """Take in readings, shape (n,) each; ValueError unless all are positive and finite."""
        checks.positive(stable, canary)
        if not len(stable):
            return
        logs = np.clip(np.log(np.stack([stable, canary])), LOWEST, HIGHEST)
        cells = np.floor(logs / CELL).astype(np.int64)
        self._cover(int(cells.min()), int(cells.max()))
        for side in (0, 1):
            counted = np.bincount(cells[side] - self._first, minlength=self._counts.shape[1])
            self._counts[side] += counted.astype(np.uint32)

    def _cover(self, low: int, high: int) -> None:
        width = self._counts.shape[1]
        if not width:
            self._first = low
        before, after = max(0, self._first - low), max(0, high + 1 - self._first - width)
        if before or after:
            self._counts = np.pad(self._counts, ((0, 0), (before, after)))
            self._first -= before

    def merge(self, other: "Quantiles") -> None:
        """Add a shard's counts."""
        if other.pairs:
            self._cover(other._first, other._first + other._counts.shape[1] - 1)
            at = other._first - self._first
            self._counts[:, at : at + other._counts.shape[1]] += other._counts

    def _borders(self) -> Floats:
        """Logs of the borders of the cells, the outer ones included: shape (cells + 1,)."""
        return (self._first + np.arange(self._counts.shape[1] + 1)) * CELL

    def estimates(self, shares: Floats) -> Floats:
        """The values below which these shares of readings lie: shape (2, shares), NaN without readings."""
        if not self.pairs:
            return np.full((2, len(shares)), np.nan)
        # Between the borders of a cell its readings count as evenly spread, in log.
        places = [
            np.interp(shares * self.pairs, np.append(0, np.cumsum(side)), self._borders()) for side in self._counts
        ]
        return np.exp(np.stack(places))

    def interval(self, shares: Floats, level: float) -> Floats:
        """Bounds of the same quantiles, each end at `level`: shape (2, shares, 2).

        Rounded outward to the borders of cells; 0 and inf where there is none yet.
        """
        found = np.empty((2, len(shares), 2))
        found[..., 0], found[..., 1] = 0.0, np.inf
        n = self.pairs
        if not n:
            return found
        few_below = most_that_reject(n, shares, level=level, lasting=self.lasting)
        few_above = most_that_reject(n, 1 - shares, level=level, lasting=self.lasting)
        edges = np.exp(self._borders())
        for side in (0, 1):
            below = np.append(0, np.cumsum(self._counts[side]))  # readings below each border
            low = np.searchsorted(below, few_below, side="right") - 1
            high = np.searchsorted(below, n - few_above, side="left")
            found[side, :, 0] = np.where(few_below >= 0, edges[low], 0.0)
            found[side, :, 1] = np.where(few_above >= 0, edges[np.minimum(high, len(edges) - 1)], np.inf)
        return found


def most_that_reject(n: int, shares: Floats, *, level: float, lasting: int = 1) -> NDArray[np.int64]:
    """The largest count out of n that rejects, at `level`, a chance of at least each share; -1 where none does."""
    needed = math.log(1 / level) + math.log(len(ODDS))
    above = np.log((1 - shares) / shares)[:, None] + ODDS  # log odds of not being counted
    counted, missed = -np.logaddexp(0, above), -np.logaddexp(0, -above)
    per_counted, per_missed = counted - np.log(shares)[:, None], missed - np.log1p(-shares)[:, None]

    def rejects(count: NDArray[np.int64]) -> NDArray[np.bool_]:
        log_e = (count[:, None] * per_counted + (n - count[:, None]) * per_missed) / lasting
        return np.asarray(np.logaddexp.reduce(log_e, axis=1) >= needed)

    low, high = np.full(len(shares), -1), np.full(len(shares), n)
    while (high - low > 1).any():
        middle = (low + high) // 2
        inside = rejects(middle)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return low
