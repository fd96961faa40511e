"""Stochastic order: whether one side's readings are slower at several sizes, and by how much at least.

At a threshold the share of canary's readings above it is compared with the
share of stable's, in whole blocks of pairs: noise of one side that lasts a
block is then one reading, not many. The thresholds are fixed by the first
pairs, from both sides alike.

Source: Waudby-Smith & Ramdas, Estimating means of bounded random variables by
betting, on the block's difference of shares.
"""

from dataclasses import dataclass

import numpy as np

from haldane.stats import checks
from haldane.stats.betting import Floats
from haldane.stats.bounds import bounded_interval

LEARNING_PAIRS = 200  # the first of them fix the thresholds, and are not counted
SHARES: Floats = np.array([0.5, 0.75, 0.9, 0.95, 0.99])
NODES = 41  # of the histogram of a block's difference


@dataclass(frozen=True, slots=True)
class Exceedance:
    """Shares of readings above a threshold, and the difference proven: canary minus stable, 0.0 when none is."""

    threshold: float
    stable: float
    canary: float
    proven: float


class Order:
    """Differences in shares above five thresholds, by blocks. State is constant."""

    def __init__(self, *, block_pairs: int) -> None:
        if block_pairs < 1:
            raise ValueError(f"blocks hold a pair, got {block_pairs!r}")
        self.block_pairs = block_pairs
        self.thresholds: Floats | None = None
        self.counts: Floats = np.zeros((3, len(SHARES)))  # pairs, above on stable, above on canary
        self.histogram: Floats = np.zeros((len(SHARES), NODES))
        self._first: Floats = np.empty((2, 0))
        self._open: Floats = np.zeros((2, len(SHARES)))  # above on stable and canary, in the open block
        self._filled = 0

    def fold(self, stable: Floats, canary: Floats) -> None:
        """Take in readings, shape (n,) each; ValueError when one is not finite. An open block waits, never scored."""
        checks.finite(stable, canary)
        both = np.stack([stable, canary])
        if self.thresholds is None:
            wanted = LEARNING_PAIRS - self._first.shape[1]
            self._first = np.concatenate([self._first, both[:, :wanted]], axis=1)
            if self._first.shape[1] < LEARNING_PAIRS:
                return
            self.thresholds = np.quantile(self._first, SHARES)
            self._first, both = np.empty((2, 0)), both[:, wanted:]
        above = (both[:, None, :] > self.thresholds[:, None]).astype(np.float64)
        self.counts += np.concatenate([np.full((1, len(SHARES)), both.shape[1]), above.sum(axis=2)])
        fills = min(both.shape[1], self.block_pairs - self._filled)
        self._add(above[:, :, :fills])
        rest = above[:, :, fills:]
        whole = rest.shape[2] // self.block_pairs * self.block_pairs
        self._score(rest[:, :, :whole].reshape(2, len(SHARES), -1, self.block_pairs).sum(axis=3))
        self._add(rest[:, :, whole:])

    def _add(self, above: Floats) -> None:
        """Readings for the open block, which is scored once it is whole."""
        self._open = self._open + above.sum(axis=2)
        self._filled += above.shape[2]
        if self._filled == self.block_pairs:
            self._score(self._open[:, :, None])
            self._open, self._filled = np.zeros_like(self._open), 0

    def _score(self, above: Floats) -> None:
        """Count blocks by their difference, from readings above each threshold: shape (2, thresholds, blocks)."""
        places = ((above[1] - above[0]) / self.block_pairs + 1) / 2 * (NODES - 1)
        for row, place in enumerate(places):
            below = np.minimum(place.astype(np.int64), NODES - 2)
            # Each is shared between its neighbours; as log is concave, no wealth is overstated by that.
            self.histogram[row] += np.bincount(below, 1 - (place - below), NODES)
            self.histogram[row] += np.bincount(below + 1, place - below, NODES)

    def clearest(self, level: float) -> Exceedance | None:
        """The threshold at which the sides differ most clearly; None while too few pairs were seen.

        Any of ten differences (five thresholds, two ways) may be the one, so its bound is held to a tenth of `level`.
        """
        if self.thresholds is None or not self.histogram.any():
            return None
        nodes, blocks = np.linspace(-1.0, 1.0, NODES), self.histogram[0].sum()
        means, squares = self.histogram @ nodes / blocks, self.histogram @ nodes**2 / blocks
        spread = np.sqrt(np.maximum(squares - means**2, 0.0) / blocks)
        at = int((np.abs(means) / (spread + 1e-12)).argmax())
        low, high = bounded_interval(nodes, self.histogram[at], level=level / (2 * len(SHARES)))
        _, stable, canary = self.counts[:, at] / self.counts[0, at]
        return Exceedance(float(self.thresholds[at]), float(stable), float(canary), max(0.0, low) + min(0.0, high))
