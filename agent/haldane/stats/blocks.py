"""Evidence on a typical ratio by block votes, and the ladder that lengthens blocks.

Raw latency is heavy tailed, drifts, and is autocorrelated. Pairing takes out
what hits both arms; blocks longer than the noise of one arm take out the
rest, whatever happens inside them. The one assumption: given the past, a
block's location is not likelier far above the margin than far below it.

Scoring pairs one by one is faster on independent noise and wrong under
one-arm noise (28 to 49 % false rollbacks on the margin, nominal 1 %).
"""

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from haldane.stats.betting import Floats, Interval, Ledger, Wealths, log_wealths
from haldane.stats.bounds import sign_interval

TRIM = 0.2  # each side: a burst shorter than a fifth of a block has no effect
SIGN_BLOCKS = 8  # votes are plain signs until this many blocks have shown their scale
SCALE_BLOCKS = 64  # the scale is taken from that many blocks before
SCALE_REACH = 1.5  # a vote is full at this many scales beyond the margin
LEVELS = 10
TIE = 1e-9  # a location this near the margin (log ratio) is on it, up to rounding
FEWEST_BLOCKS = 24  # blocks are not doubled past this many in a horizon

# Cells of the histogram of block locations (log ratio): 0.2 % wide near equality, wider outward, up to a factor of 50.
EDGES: Floats = 0.05 * np.sinh(0.042 * (np.arange(-120, 120) + 0.5))


def block_length(*, dependence_seconds: float, pairs_per_second: float) -> int:
    """Pairs in a base block: four times the declared time scale of one-arm noise, at least 4."""
    return max(4, math.ceil(4 * dependence_seconds * pairs_per_second))


def trimmed_means(blocks: Floats) -> Floats:
    """The 20 % trimmed mean of each row, shape (blocks, pairs) to (blocks,)."""
    size = blocks.shape[1]
    cut = int(TRIM * size)
    kept = np.sort(blocks, axis=1)[:, cut : size - cut] if cut else blocks
    means: Floats = kept.mean(axis=1)
    return means


class Ladder:
    """Says when blocks are too short for the noise, from successive differences of block means.

    For independent blocks the mean of two has half the variance of one.
    Differences are used, not variances: a trend or a level shift (the very
    harm one looks for) would pass for dependence and stall the test.
    """

    def __init__(self) -> None:
        self.last: list[float | None] = [None] * LEVELS
        self.half: list[float | None] = [None] * LEVELS
        self.squares = [0.0] * LEVELS
        self.count = [0] * LEVELS

    def add(self, mean: float) -> None:
        """Take in the location of the next base block."""
        for level in range(LEVELS):
            last = self.last[level]
            if last is not None:
                self.squares[level] += (mean - last) ** 2 / 2
                self.count[level] += 1
            self.last[level] = mean
            half = self.half[level]
            if half is None:
                self.half[level] = mean
                return
            self.half[level] = None
            mean = (half + mean) / 2

    def too_short(self, level: int) -> bool:
        """Blocks of base size * 2**level still depend on each other."""
        if level + 1 >= LEVELS or self.count[level + 1] < 3 or self.squares[level] == 0.0:
            return False
        here = self.squares[level] / self.count[level]
        above = self.squares[level + 1] / self.count[level + 1]
        return 2 * above / here - 1 > 0.1 + 0.7 / math.sqrt(self.count[level + 1])


class RatioEvidence(Wealths):
    """Evidence against "the typical ratio canary / stable is at most 1 + margin".

    State is constant: sums, 64 block locations, one partial block, a
    histogram. Source: a sign test in the sense
    of Howard & Ramdas, Sequential estimation of quantiles, with scaled votes.
    """

    def __init__(self, *, margin: float, block_pairs: int = 4, horizon_pairs: int | None = None) -> None:
        if not margin > -1.0 or block_pairs < 1:
            raise ValueError(f"margin must exceed -1 and blocks hold a pair, got {margin!r} and {block_pairs!r}")
        self.threshold = math.log1p(margin)
        self.base = block_pairs
        self.longest = max(block_pairs, horizon_pairs // FEWEST_BLOCKS) if horizon_pairs else None
        self.rung = 0  # blocks hold base * 2**rung pairs
        self.pairs = 0
        self.ledger = Ledger(entries=19, marked=9)  # 8 log wealths for harm, votes; 8 for harmless, blocks, for harm
        self.ladder = Ladder()
        self.histogram: NDArray[np.int64] = np.zeros(len(EDGES) + 1, np.int64)
        self._scored = 0  # blocks since the size last changed
        self._scale = 0.0
        self._recent: deque[float] = deque(maxlen=SCALE_BLOCKS)
        self._partial: Floats = np.empty(0)

    @property
    def block_pairs(self) -> int:
        """Pairs in a block now."""
        return self.base << self.rung

    def fold(self, stable: Floats, canary: Floats) -> None:
        """Take in positive finite readings, shape (n,) each. A partial block waits; it is never scored."""
        self.pairs += len(stable)
        values = np.concatenate([self._partial, np.log(canary) - np.log(stable)])
        while len(values) >= self.block_pairs:
            values = values[self._score(values) :]
        self._partial = values.copy()

    def merge(self, other: "RatioEvidence") -> None:
        """Add a shard's settled blocks; partial blocks, scale and ladder stay each shard's own."""
        self.ledger.merge(other.ledger)
        self.histogram = self.histogram + other.histogram
        self.pairs += other.pairs

    def _score(self, values: Floats) -> int:
        """Vote on whole blocks until none is left or the block size changes; the pairs used."""
        size, whole = self.block_pairs, len(values) // self.block_pairs
        locations = trimmed_means(values[: whole * size].reshape(whole, size))
        bases = locations if self.rung == 0 else trimmed_means(values[: whole * size].reshape(-1, self.base))
        votes, step, rung = [], 1 << self.rung, self.rung
        base_list, location_list = bases.tolist(), locations.tolist()
        for index, location in enumerate(location_list):
            votes.append(self._vote(location))
            for mean in base_list[index * step : (index + 1) * step]:
                self.ladder.add(mean)
            if self._lengthen():
                break
        self._settle(np.array(votes), locations[: len(votes)])
        return len(votes) * (self.base << rung)

    def _vote(self, location: float) -> float:
        """A bet's outcome in [-1, 1]; its scale is taken from blocks before this one."""
        beyond = location - self.threshold
        if self._scored >= SIGN_BLOCKS and (self._scored < 32 or self._scored % 8 == 0):
            self._scale = SCALE_REACH * 1.4826 * _median_deviation(self._recent)
        self._recent.append(location)
        self._scored += 1
        if abs(beyond) < TIE:
            return 0.0
        if self._scale > 0.0:
            return max(-1.0, min(1.0, beyond / self._scale))
        return math.copysign(1.0, beyond)

    def _lengthen(self) -> bool:
        if self.longest is not None and 2 * self.block_pairs > self.longest:
            return False
        if not self.ladder.too_short(self.rung):
            return False
        self.rung += 1
        self._scored, self._scale = 0, 0.0
        self._recent.clear()
        return True

    def _settle(self, votes: Floats, locations: Floats) -> None:
        self.ledger.total += np.concatenate(
            [log_wealths(votes), [votes.sum()], log_wealths(-votes), [len(votes), (votes > 0).sum()]]
        )
        self.histogram += np.bincount(np.searchsorted(EDGES, locations), minlength=len(EDGES) + 1)

    def estimate(self) -> float | None:
        """The typical ratio minus 1: the middle of the block locations; None before the first block."""
        blocks = int(self.histogram.sum())
        if not blocks:
            return None
        upto = np.cumsum(self.histogram)
        cell = int(np.searchsorted(upto, blocks / 2))
        if cell in (0, len(EDGES)):
            return math.expm1(float(EDGES[min(cell, len(EDGES) - 1)]))
        share = (blocks / 2 - float(upto[cell] - self.histogram[cell])) / float(self.histogram[cell])
        return math.expm1(float(EDGES[cell - 1] + share * (EDGES[cell] - EDGES[cell - 1])))

    def interval(self, level: float) -> Interval:
        low, high = sign_interval(EDGES, self.histogram, level=level)
        return (None if low is None else math.expm1(low), None if high is None else math.expm1(high))

    def detail(self) -> str:
        blocks, above = self.ledger.total[17:19]
        return f"{above:.0f} of {blocks:.0f} blocks of {self.block_pairs} pairs above the margin"


def _median_deviation(values: deque[float]) -> float:
    """Median absolute deviation from the median."""
    ordered = sorted(values)
    middle = _middle(ordered)
    return _middle(sorted([abs(value - middle) for value in ordered]))


def _middle(ordered: list[float]) -> float:
    half, odd = divmod(len(ordered), 2)
    return ordered[half] if odd else (ordered[half - 1] + ordered[half]) / 2
