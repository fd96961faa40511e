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

from haldane.stats import checks
from haldane.stats.betting import VOTES, Floats, Interval, Ledger, Wealths
from haldane.stats.bounds import sign_interval

TRIM = 0.2  # each side: a burst shorter than a fifth of a block has no effect
SIGN_BLOCKS = 6  # votes are plain signs until this many blocks have shown their scale
SCALE_BLOCKS = 64  # the scale is taken from that many blocks before
SCALE_REACH = 1.0  # a vote is full at this many scales beyond the margin
NOISE_TIMES = 3.5  # a base block lasts this many times the declared noise
LEAST_PAIRS = 3  # in a block: of two, nine are above a margin by chance in one of 3,000 identical canaries

# The opening. Where noise of one arm is declared it may last longer than declared, and the first votes then agree by
# chance before the ladder has seen enough blocks to know. So for harm they count in part, for harmlessness not at all.
# What it costs and saves was measured: docs/design/0005-latency-votes.md.
OPENING_HARM, OPENING_SHARE = 12, 0.7
OPENING_HARMLESS = 20

LEVELS = 9
MOST_UNITS = 256  # in a base block: longer ones are made of means of neighbouring readings, so that the state is small
TIE = 1e-9  # a location this near the margin (log ratio) is on it, up to rounding
FEWEST_BLOCKS = 24  # blocks are not doubled past this many in a horizon

# Cells of the histogram of block locations (log ratio): 0.2 % wide near equality, wider outward, up to a factor of 50.
EDGES: Floats = 0.05 * np.sinh(0.042 * (np.arange(-120, 120) + 0.5))


def block_length(*, dependence_seconds: float, pairs_per_second: float) -> int:
    """Pairs in a base block: 3.5 times the declared time scale of one-arm noise, at least 3.

    ValueError unless the scale is finite and not negative, the rate finite and positive.
    """
    if not (0.0 <= dependence_seconds < math.inf and 0.0 < pairs_per_second < math.inf):
        raise ValueError(
            "noise must last 0 s or more and pairs arrive at a positive finite rate, "
            f"got {dependence_seconds!r} s and {pairs_per_second!r} a second"
        )
    return max(LEAST_PAIRS, math.ceil(NOISE_TIMES * dependence_seconds * pairs_per_second - 1e-9))


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
        self.squares = [0.0] * LEVELS
        self.count = [0] * LEVELS

    def add(self, mean: float, first: int = 0) -> None:
        """Take in the location of the next block of base size * 2**first; no shorter ones may follow."""
        for level in range(first, LEVELS):
            last, self.last[level] = self.last[level], mean
            if last is None:
                return
            self.squares[level] += (mean - last) ** 2 / 2
            self.count[level] += 1
            if self.count[level] % 2 == 0:  # it waits for the other half of its pair
                return
            mean = (last + mean) / 2

    def too_short(self, level: int) -> bool:
        """Blocks of base size * 2**level still depend on each other."""
        if level + 1 >= LEVELS or self.count[level + 1] < 3 or self.squares[level] == 0.0:
            return False
        here = self.squares[level] / self.count[level]
        above = self.squares[level + 1] / self.count[level + 1]
        return 2 * above / here - 1 > 0.1 + 0.7 / math.sqrt(self.count[level + 1])


class RatioEvidence(Wealths):
    """Evidence against "the typical ratio canary / stable is at most 1 + margin".

    With an `opening` the first votes count less: for readings whose one-arm
    noise was declared by a guess. State is constant: sums, 64 block
    locations, one open block, a histogram. Source: a sign test in the sense
    of Howard & Ramdas, Sequential estimation of quantiles, with scaled votes.
    """

    bets = VOTES

    def __init__(
        self,
        *,
        margin: float,
        block_pairs: int = LEAST_PAIRS,
        horizon_pairs: int | None = None,
        opening: bool = False,
    ) -> None:
        if not -1.0 < margin < math.inf or block_pairs < 1:
            raise ValueError(
                f"margin must be finite and exceed -1 and blocks hold a pair, got {margin!r} and {block_pairs!r}"
            )
        self.threshold = math.log1p(margin)
        self.unit_pairs = math.ceil(block_pairs / MOST_UNITS)
        self.base_units = math.ceil(block_pairs / self.unit_pairs)
        self.longest = horizon_pairs // FEWEST_BLOCKS if horizon_pairs else math.inf
        self.rung = 0  # a block is the trimmed mean of 2**rung base blocks, each of base_units means of unit_pairs
        self.pairs = 0
        self.opening = opening
        # after the wealths: blocks, and those above; the excess is the sum of votes
        self.ledger = Ledger(entries=self._own + 2, marked=self._marked)
        self.ladder = Ladder()
        self.histogram: NDArray[np.int64] = np.zeros(len(EDGES) + 1, np.int64)
        self._scored = 0  # blocks since the size last changed
        self._scale = 0.0
        self._recent: deque[float] = deque(maxlen=SCALE_BLOCKS)
        self._readings: Floats = np.empty(0)  # of the open unit
        self._units: Floats = np.empty(0)  # of the open base block
        self._bases: list[float] = []  # of the open block

    @property
    def block_pairs(self) -> int:
        """Pairs in a block now."""
        return self.unit_pairs * self.base_units << self.rung

    @property
    def blocks(self) -> tuple[int, int]:
        """Blocks scored, and those above the margin."""
        return int(self.ledger.total[-2]), int(self.ledger.total[-1])

    def fold(self, stable: Floats, canary: Floats) -> None:
        """Take in readings, shape (n,) each; ValueError unless all are positive and finite.

        An open block waits; it is never scored.
        """
        checks.positive(stable, canary)
        self._take(np.log(canary) - np.log(stable))

    def _take(self, log_ratios: Floats) -> None:
        self.pairs += len(log_ratios)
        units, self._readings = _cut(np.concatenate([self._readings, log_ratios]), self.unit_pairs)
        bases, self._units = _cut(np.concatenate([self._units, units.mean(axis=1)]), self.base_units)
        votes, locations = [], []
        for base in trimmed_means(bases).tolist():
            self._bases.append(base)
            if len(self._bases) < 1 << self.rung:
                continue
            self.ladder.add(sum(self._bases) / len(self._bases), self.rung)
            locations.append(_trimmed_mean(self._bases) if self.rung else base)
            votes.append(self._vote(locations[-1]))
            self._bases.clear()
            self._lengthen()
        if votes:
            self._settle(np.array(votes), np.array(locations))

    def merge(self, other: "RatioEvidence") -> None:
        """Add a shard's settled blocks; open blocks, scale and ladder stay each shard's own.

        ValueError when its margin or its late starts differ.
        """
        checks.alike(self, other, "threshold")
        self.ledger.merge(other.ledger)
        self.histogram = self.histogram + other.histogram
        self.pairs += other.pairs

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

    def _lengthen(self) -> None:
        """Double the blocks to come, where the ladder says so and enough of them fit into the horizon."""
        if self._scored % 2:  # it learns by pairs of blocks
            return
        if 2 * self.block_pairs <= self.longest and self.ladder.too_short(self.rung):
            self.rung += 1
            self._scored, self._scale = 0, 0.0
            self._recent.clear()

    def _settle(self, votes: Floats, locations: Floats) -> None:
        harm, harmless = (votes, -votes) if not self.opening else self._open(votes)
        counts = [len(votes), (votes > 0).sum()]
        wealths = self.bets.harm.wealths(harm), [votes.sum()], self.bets.harmless.wealths(harmless)
        self.ledger.total += np.concatenate([*wealths, counts])
        self.histogram += np.bincount(np.searchsorted(EDGES, locations), minlength=len(EDGES) + 1)

    def _open(self, votes: Floats) -> tuple[Floats, Floats]:
        """What these votes count for harm and for harmlessness, by how many came before."""
        place = self.blocks[0] + np.arange(len(votes))
        return votes * np.where(place < OPENING_HARM, OPENING_SHARE, 1.0), -votes * (place >= OPENING_HARMLESS)

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
        blocks, above = self.blocks
        return f"{above} of {blocks} blocks of {self.block_pairs} pairs above the margin"


def _cut(values: Floats, size: int) -> tuple[Floats, Floats]:
    """Whole stretches of this size, shape (n, size), and the rest."""
    whole = len(values) // size * size
    return values[:whole].reshape(-1, size), values[whole:].copy()


def _trimmed_mean(values: list[float]) -> float:
    """The same for one short list, at a tenth of the cost."""
    cut = int(TRIM * len(values))
    kept = sorted(values)[cut : len(values) - cut]
    return sum(kept) / len(kept)


def _median_deviation(values: deque[float]) -> float:
    """Median absolute deviation from the median."""
    ordered = sorted(values)
    middle = _middle(ordered)
    return _middle(sorted([abs(value - middle) for value in ordered]))


def _middle(ordered: list[float]) -> float:
    half, odd = divmod(len(ordered), 2)
    return ordered[half] if odd else (ordered[half - 1] + ordered[half]) / 2
