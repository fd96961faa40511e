"""Evidence on the slow tail of a ratio, by votes on who exceeds a high threshold.

Tolerated is a canary stochastically no slower than (1 + margin) x stable.
Both sides are turned by half the margin and measured against a local level
made of both: a level taken from stable alone would follow stable's own noise
and let canary exceed more often for no reason. One vote per block makes a
cluster of slow requests count once.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from haldane.stats import checks
from haldane.stats.betting import HOLD_LOG_E, VOTES, Floats, Ledger, carrier_of, mix_starts
from haldane.stats.blocks import RatioEvidence

LEVEL_PAIRS = 10  # time constant of the local level: short, or shared noise that it lags behind hides a slower tail
REFRESH_PAIRS = 100  # thresholds are read anew this often, whatever the batches
# Thresholds cut off the share of readings beyond the quantile, a half and a quarter of it. None is lower: where only
# the tail has slowed, canary turned by the margin has *fewer* readings just below it, and those votes hide the harm.
CUTS: Floats = np.array([1.0, 0.5, 0.25])
TAILS_SHARE = 0.4  # of the stake on harm of latency; the rest is on the typical ratio, where most harm is seen first
CELLS, WIDTH = 1200, 0.01  # histogram of log ratios to the level, 1 % wide, a factor of 400 each way


def least_pairs(quantile: float) -> float:
    """Pairs before a tail's first thresholds are read: some four readings lie beyond the quantile then."""
    return 2 / (1 - quantile)


class TailEvidence:
    """Evidence against "in the tail, canary is no slower than (1 + margin) x stable".

    The average over three thresholds at and beyond the quantile; each is an e-process
    while, given the past, canary is not likelier than stable to have the more
    exceedances in a block. State is constant.
    """

    def __init__(self, *, quantile: float, margin: float) -> None:
        if not (0.5 < quantile < 1.0 and -1.0 < margin < math.inf):
            raise ValueError(
                f"quantile must lie in (0.5, 1), margin be finite and exceed -1, got {quantile!r} and {margin!r}"
            )
        self.shift = math.log1p(margin)
        self.quantiles: Floats = 1 - (1 - quantile) * CUTS
        self._least = least_pairs(quantile)
        self.pairs = 0
        self.ledger = Ledger(entries=6, marked=6)  # votes for harm at three thresholds, votes against
        self.histogram: NDArray[np.int64] = np.zeros(CELLS, np.int64)
        self._level: float | None = None
        self._thresholds: Floats | None = None
        self._filled = 0  # pairs in the open block
        self._size = 0  # of the open block, fixed when it opens
        self._sums: Floats = np.zeros(3)

    def fold(self, stable: Floats, canary: Floats, *, block_pairs: int) -> None:
        """Take in log readings, shape (n,) each; ValueError unless all are finite.

        Blocks opened from here on hold `block_pairs`.
        """
        checks.finite(stable, canary)
        if block_pairs < 1:
            raise ValueError(f"blocks hold at least a pair, got {block_pairs!r}")
        self.take(stable, canary, block_pairs=block_pairs)

    def take(self, stable: Floats, canary: Floats, *, block_pairs: int) -> None:
        """Fold readings that were looked at before."""
        if not len(stable):
            return
        levels = self._levels((stable + canary - self.shift) / 2)
        beside = np.stack([stable - levels, canary - levels - self.shift])
        cells = np.clip(np.floor(beside / WIDTH + CELLS / 2), 0, CELLS - 1).astype(np.int64)
        at, votes = 0, []
        while at < len(stable):
            upto = min(len(stable), at + REFRESH_PAIRS - self.pairs % REFRESH_PAIRS)
            if self._thresholds is not None:
                beyond = beside[:, None, at:upto] > self._thresholds[:, None]
                votes.append(beyond[1].astype(np.float64) - beyond[0])
            self.histogram += np.bincount(cells[:, at:upto].ravel(), minlength=CELLS)
            self.pairs, at = self.pairs + upto - at, upto
            if self.pairs % REFRESH_PAIRS == 0 and self.pairs >= self._least:
                self._read_thresholds()
        if votes:
            self._vote(np.concatenate(votes, axis=1), block_pairs)

    def _levels(self, middles: Floats) -> Floats:
        """The exponential mean of the middles before each pair; a first pair is its own level."""
        level = float(middles[0]) if self._level is None else self._level
        levels = []
        for middle in middles.tolist():
            levels.append(level)
            level += (middle - level) / LEVEL_PAIRS
        self._level = level
        return np.array(levels)

    def _read_thresholds(self) -> None:
        upto = np.cumsum(self.histogram)
        cells = np.searchsorted(upto, np.ceil(self.quantiles * upto[-1]).astype(np.int64))
        self._thresholds = (cells + 1 - CELLS / 2) * WIDTH

    def _vote(self, exceedances: Floats, block_pairs: int) -> None:
        """Close blocks along the columns of exceedances, shape (3, n)."""
        at, n = 0, exceedances.shape[1]
        while at < n:
            if self._filled == 0:
                self._size = block_pairs
                whole = (n - at) // block_pairs
                if whole:
                    blocks = exceedances[:, at : at + whole * block_pairs].reshape(3, whole, block_pairs).sum(axis=2)
                    self.ledger.total += np.concatenate([(blocks > 0).sum(axis=1), (blocks < 0).sum(axis=1)])
                    at += whole * block_pairs
                    continue
            take = min(n - at, self._size - self._filled)
            self._sums = self._sums + exceedances[:, at : at + take].sum(axis=1)
            self._filled, at = self._filled + take, at + take
            if self._filled == self._size:
                self.ledger.total += np.concatenate([self._sums > 0, self._sums < 0])
                self._sums, self._filled = np.zeros(3), 0

    def start(self) -> None:
        self.ledger.start()

    def merge(self, other: "TailEvidence") -> None:
        """Add a shard's votes; level and open block stay each shard's own. ValueError when its terms differ."""
        checks.alike(self, other, "shift")
        if not np.array_equal(self.quantiles, other.quantiles):
            raise ValueError(f"shards with different quantiles cannot be added: {self.quantiles}, {other.quantiles}")
        self.ledger.merge(other.ledger)
        self.histogram = self.histogram + other.histogram
        self.pairs += other.pairs

    def log_e_by_start(self) -> Floats:
        """Log of the average e-value over the three thresholds, shape (1 + starts,)."""
        votes = self.ledger.since()
        log_e = VOTES.harm.mix(VOTES.harm.sign_wealths(votes[:, :3], votes[:, 3:]))
        averaged: Floats = np.logaddexp.reduce(log_e, axis=1) - math.log(3)
        return averaged

    def log_harm(self) -> float:
        return mix_starts(self.log_e_by_start())

    def holds(self) -> bool:
        return bool(self.log_e_by_start().max() > HOLD_LOG_E)

    def detail(self) -> str:
        """Votes at the threshold that speaks loudest."""
        votes = self.ledger.total[:3], self.ledger.total[3:]
        loudest = int(np.argmax(votes[0] - votes[1]))
        slower, faster = votes[0][loudest], votes[1][loudest]
        return f"{slower:.0f} of {slower + faster:.0f} tail votes for canary being slower"


class LatencyEvidence(RatioEvidence):
    """The typical ratio, with watches on the tail: any shows harm, the typical ratio alone shows harmlessness.

    `tails` are (quantile, margin); they share TAILS_SHARE of the stake on harm,
    the rest is on the typical ratio.
    """

    def __init__(
        self,
        *,
        margin: float,
        block_pairs: int,
        horizon_pairs: int | None,
        tails: Sequence[tuple[float, float]],
        opening: bool = False,
    ) -> None:
        super().__init__(margin=margin, block_pairs=block_pairs, horizon_pairs=horizon_pairs, opening=opening)
        self.tails = {
            quantile: TailEvidence(quantile=quantile, margin=tail_margin) for quantile, tail_margin in sorted(tails)
        }

    def fold(self, stable: Floats, canary: Floats) -> None:
        checks.positive(stable, canary)
        # The tails first: their blocks may know of these pairs only what was known before them.
        logs = np.log(stable), np.log(canary)
        for tail in self.tails.values():
            tail.take(*logs, block_pairs=self.block_pairs)
        self._take(logs[1] - logs[0])

    def start(self) -> None:
        super().start()
        for tail in self.tails.values():
            tail.start()

    def merge(self, other: RatioEvidence) -> None:
        """Add a shard's settled blocks and votes; ValueError unless it watches the same tails."""
        if not isinstance(other, LatencyEvidence) or self.tails.keys() != other.tails.keys():
            raise ValueError("shards that watch different tails cannot be added")
        super().merge(other)
        for quantile, tail in self.tails.items():
            tail.merge(other.tails[quantile])

    def log_harm(self) -> float:
        """The e-value of the typical ratio and the average one of the tails, each by its share of the stake."""
        tails = np.logaddexp.reduce([tail.log_harm() for tail in self.tails.values()]) - math.log(len(self.tails))
        return float(np.logaddexp(super().log_harm() + math.log(1 - TAILS_SHARE), tails + math.log(TAILS_SHARE)))

    def carrier(self) -> int:
        """Of whichever speaks loudest."""
        loudest = max(self.tails.values(), key=TailEvidence.log_harm)
        if loudest.log_harm() > super().log_harm():
            return carrier_of(loudest.log_e_by_start())
        return super().carrier()

    def holds(self) -> bool:
        return super().holds() or any(tail.holds() for tail in self.tails.values())

    def detail(self) -> str:
        tails = (f"p{100 * quantile:g}: {tail.detail()}" for quantile, tail in self.tails.items())
        return "; ".join([super().detail(), *tails])
