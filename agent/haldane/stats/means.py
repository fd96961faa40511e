"""Evidence on the paired means of outcomes and losses, against a margin.

Exact and non-asymptotic whatever the distribution; the one assumption is in
the claim itself: the mean excess given the past.

Source: Waudby-Smith & Ramdas, Estimating means of
bounded random variables by betting; McNemar, on correlated proportions.
"""

import math

import numpy as np

from haldane.stats import checks
from haldane.stats.betting import (
    FAILURES,
    HOLD_LOG_E,
    MEANS,
    Floats,
    Interval,
    Ledger,
    Sides,
    Wealths,
    carrier_of,
    mix_starts,
)
from haldane.stats.bounds import bounded_interval, count_interval, count_ratio_interval


class CountEvidence:
    """Evidence on a paired bad/good outcome against "E[c] <= (1 + relative) E[s] + absolute".

    Exact whatever the distribution; with both margins 0 a sequential McNemar
    test. `rare`: of failures, which stable hardly has. State: four counts,
    and four for each late start.
    Source: McNemar, on correlated proportions.
    """

    def __init__(self, *, absolute: float = 0.0, relative: float = 0.0, rare: bool = False) -> None:
        if not (0.0 <= absolute < 1.0 and 0.0 <= relative < math.inf):
            raise ValueError(f"margins must lie in [0, 1) and [0, inf), got {absolute!r} and {relative!r}")
        self.absolute, self.relative, self.rare = absolute, relative, rare
        self.ledger = Ledger(entries=4, marked=4)  # both bad, canary only, stable only, neither

    @property
    def bets(self) -> Sides:
        return FAILURES if self.rare else MEANS

    @property
    def pairs(self) -> int:
        return int(self.ledger.total.sum())

    def fold(self, stable: Floats, canary: Floats) -> None:
        """Take in outcomes, 1.0 bad and 0.0 good, shape (n,) each; ValueError when they are not."""
        checks.outcomes(stable, canary)
        both = float(stable @ canary)
        only_canary, only_stable = float(canary.sum()) - both, float(stable.sum()) - both
        self.ledger.total += (both, only_canary, only_stable, len(stable) - both - only_canary - only_stable)

    def start(self) -> None:
        self.ledger.start()

    def merge(self, other: "CountEvidence") -> None:
        """Add a shard's counts, the same as feeding both in sequence; ValueError when its margins or starts differ."""
        checks.alike(self, other, "absolute", "relative", "rare")
        self.ledger.merge(other.ledger)

    def _gains(self) -> Floats:
        """Excess over the margin of each of the four outcomes."""
        r, m = 1 + self.relative, self.absolute
        return np.array([1 - r - m, 1 - m, -r - m, -m])

    def _by_start(self) -> Floats:
        x = self._gains() / (1 + self.relative + self.absolute)
        bets = self.bets.harm
        return bets.mix(self.ledger.since() @ np.log1p(np.multiply.outer(x, bets.sizes)))

    def log_harm(self) -> float:
        return mix_starts(self._by_start())

    def carrier(self) -> int:
        return carrier_of(self._by_start())

    def log_harmless(self) -> float:
        x = -self._gains() / (1 - self.absolute)
        bets = self.bets.harmless
        return float(bets.mix(self.ledger.total @ np.log1p(np.multiply.outer(x, bets.sizes))))

    def holds(self) -> bool:
        return bool(self._by_start().max() > HOLD_LOG_E or self.ledger.recent() @ self._gains() > 0)

    def estimate(self) -> float | None:
        """Mean of c - s; with a relative margin (E[c] - absolute) / E[s] - 1 (None while stable has not failed)."""
        both, only_canary, only_stable, _ = self.ledger.total
        if not self.pairs:
            return None
        if not self.relative:
            return float((only_canary - only_stable) / self.pairs)
        bad = both + only_stable
        return float((both + only_canary - self.absolute * self.pairs) / bad - 1) if bad else None

    def interval(self, level: float) -> Interval:
        if self.relative:
            return count_ratio_interval(self.ledger.total, absolute=self.absolute, level=level, bets=self.bets)
        return count_interval(self.ledger.total, level=level, bets=self.bets)

    def detail(self) -> str:
        _, only_canary, only_stable, _ = self.ledger.total
        return f"{only_canary:.0f} bad on canary only, {only_stable:.0f} on stable only"


class BoundedEvidence(Wealths):
    """The same for losses in [0, 1].

    State: log wealths and sums, and for the interval a histogram of the loss
    differences in which each value is shared between its two neighbouring
    nodes. As log is concave this never overstates a wealth, for any margin.
    """

    NODES = 161

    def __init__(self, *, absolute: float = 0.0, relative: float = 0.0) -> None:
        if not (0.0 <= absolute < 1.0 and 0.0 <= relative < math.inf):
            raise ValueError(f"margins must lie in [0, 1) and [0, inf), got {absolute!r} and {relative!r}")
        self.absolute, self.relative = absolute, relative
        # after the wealths: n, sum of s, sum of c
        self.ledger = Ledger(entries=self._own + 3, marked=self._marked)
        self.histogram: Floats = np.zeros(self.NODES)

    @property
    def pairs(self) -> int:
        return int(self.ledger.total[self._own])

    def fold(self, stable: Floats, canary: Floats) -> None:
        """Take in losses in [0, 1], shape (n,) each; ValueError when they are not."""
        checks.losses(stable, canary)
        if not len(stable):
            return
        difference = canary - (1 + self.relative) * stable
        excess = difference - self.absolute
        harm = self.bets.harm.wealths(excess / (1 + self.relative + self.absolute))
        harmless = self.bets.harmless.wealths(-excess / (1 - self.absolute))
        sums = [excess.sum()], harmless, [len(stable), stable.sum(), canary.sum()]
        self.ledger.total += np.concatenate([harm, *sums])
        self._count(difference)

    def merge(self, other: "BoundedEvidence") -> None:
        """Add a shard's log wealths: each shard's product is a supermartingale of its own data. ValueError as above."""
        checks.alike(self, other, "absolute", "relative")
        self.ledger.merge(other.ledger)
        self.histogram = self.histogram + other.histogram

    def _count(self, difference: Floats) -> None:
        place = (difference + 1 + self.relative) / (2 + self.relative) * (self.NODES - 1)
        below = np.clip(np.floor(place), 0, self.NODES - 2).astype(np.int64)
        share = np.clip(place - below, 0.0, 1.0)
        self.histogram += np.bincount(below, 1 - share, self.NODES) + np.bincount(below + 1, share, self.NODES)

    def estimate(self) -> float | None:
        """Mean of c - s; with a relative margin the mean of c - (1 + relative) s."""
        n, stable, canary = self.ledger.total[self._own :]
        return float((canary - (1 + self.relative) * stable) / n) if n else None

    def interval(self, level: float) -> Interval:
        nodes = np.linspace(-(1 + self.relative), 1.0, self.NODES)
        return bounded_interval(nodes, self.histogram, level=level)

    def detail(self) -> str:
        n, stable, canary = self.ledger.total[self._own :]
        return f"mean loss {stable / n:.4g} stable, {canary / n:.4g} canary" if n else "no losses yet"
