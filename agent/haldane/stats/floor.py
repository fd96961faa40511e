"""Evidence on disagreement beyond the noise floor: how much oftener than stable disagrees with itself.

Two samples that are not paired: pairs of stable with canary, and A/A pairs of
stable with itself, which of the two being drawn at random for each request.
They are compared in rounds of a fixed number of pairs. Whatever the requests
of a round are, and however they drift or cluster, a random choice of them is
sent to stable twice; so the share that disagrees among those, taken from the
share that disagrees among the others, has the mean excess of the round as its
expectation, given how many there are of each. That is a bounded excess to bet
on, with no model of either share. A round with one kind only says nothing.

Source: Neyman, On the application of probability theory to agricultural
experiments (the difference of means under random assignment); Waudby-Smith &
Ramdas, Estimating means of bounded random variables by betting (the bets).
"""

import math

import numpy as np

from haldane.stats import checks
from haldane.stats.betting import Floats, Interval, Ledger, Wealths
from haldane.stats.bounds import bounded_interval, count_interval

# Pairs in a round. Short rounds give more bets, which counts where stable hardly disagrees with itself; long ones give
# steadier shares and fewer rounds of one kind, which counts where it does. At A/A shares of 5 to 10 % this length loses
# less than a third of the growth against the best one for either.
ROUND_PAIRS = 10
NODES = 161  # of the histogram of gaps, for the interval


class FloorEvidence(Wealths):
    """Evidence against "P(stable and canary disagree) <= P(stable disagrees with itself) + margin".

    Harmlessness is the average of two e-processes: the rounds, and the plain
    count of disagreements against the margin, which is valid because the floor
    is not below 0 and faster where it is near it. State is constant.
    """

    def __init__(self, *, margin: float) -> None:
        if not 0.0 <= margin < 1.0:
            raise ValueError(f"margin must lie in [0, 1), got {margin!r}")
        self.margin = margin
        # After the wealths of the rounds: pairs with canary and those that disagree, pairs of stable alone likewise.
        self.ledger = Ledger(entries=self._own + 4, marked=self._marked)
        self.histogram: Floats = np.zeros(NODES)
        self._round: Floats = np.empty((2, 0))  # the open round: it waits, and is never scored in part

    @property
    def pairs(self) -> int:
        """Pairs of stable with canary."""
        return int(self.ledger.total[self._own])

    def fold(self, stable: Floats, canary: Floats) -> None:
        """Take in disagreements, 1.0 or 0.0, shape (n,) each, in order of sending.

        Each place is one pair: known in `stable` when it was stable with
        itself, in `canary` when it was stable with canary, NaN in the other.
        ValueError when a place says nothing, or what is no outcome.
        """
        checks.same_length(stable, canary)
        seen = np.where(np.isnan(canary), stable, canary)
        checks.outcomes(seen, seen)
        with_canary, alone = canary[~np.isnan(canary)], stable[~np.isnan(stable)]
        self.ledger.total[self._own :] += (len(with_canary), with_canary.sum(), len(alone), alone.sum())
        waiting = np.concatenate([self._round, np.stack([stable, canary])], axis=1)
        whole = waiting.shape[1] // ROUND_PAIRS * ROUND_PAIRS
        self._round = waiting[:, whole:].copy()
        self._settle(waiting[:, :whole].reshape(2, -1, ROUND_PAIRS))

    def _settle(self, rounds: Floats) -> None:
        """Bet on whole rounds, shape (2, rounds, pairs)."""
        known = ~np.isnan(rounds)
        counts = known.sum(axis=2)
        both = (counts > 0).all(axis=0)
        shares = np.where(known, rounds, 0.0).sum(axis=2)[:, both] / counts[:, both]
        gaps = shares[1] - shares[0]
        excess = gaps - self.margin
        harm = self.bets.harm.wealths(excess / (1 + self.margin))
        harmless = self.bets.harmless.wealths(-excess / (1 - self.margin))
        self.ledger.total[: self._own] += np.concatenate([harm, [excess.sum()], harmless])
        place = (gaps + 1) / 2 * (NODES - 1)
        below = np.clip(np.floor(place), 0, NODES - 2).astype(np.int64)
        self.histogram += np.bincount(below, 1 - (place - below), NODES)
        self.histogram += np.bincount(below + 1, place - below, NODES)

    def merge(self, other: "FloorEvidence") -> None:
        """Add a shard's settled rounds and counts; an open round stays each shard's own. ValueError: another margin."""
        checks.alike(self, other, "margin")
        self.ledger.merge(other.ledger)
        self.histogram = self.histogram + other.histogram

    def log_harmless(self) -> float:
        n, differ = self.ledger.total[self._own : self._own + 2]
        gains = np.array([-1.0, self.margin / (1 - self.margin)])
        bets = self.bets.harmless
        counted = bets.mix(np.array([differ, n - differ]) @ np.log1p(np.multiply.outer(gains, bets.sizes)))
        return float(np.logaddexp(super().log_harmless(), counted)) - math.log(2)

    def estimate(self) -> float | None:
        """Share that disagrees less the floor; the whole share while the floor is not known."""
        n, differ, alone, floor = self.ledger.total[self._own :]
        return float(differ / n - (floor / alone if alone else 0.0)) if n else None

    def interval(self, level: float) -> Interval:
        """The lower end from the rounds; the upper from rounds and counts, at half the level each."""
        n, differ = self.ledger.total[self._own : self._own + 2]
        nodes = np.linspace(-1.0, 1.0, NODES)
        low, _ = bounded_interval(nodes, self.histogram, level=level)
        _, high = bounded_interval(nodes, self.histogram, level=level / 2)
        _, counted = count_interval(np.array([0.0, differ, 0.0, n - differ]), level=level / 2)
        return low, min(high, counted)

    def detail(self) -> str:
        n, differ, alone, floor = self.ledger.total[self._own :]
        seen = f"{differ:,.0f} of {n:,.0f} answers differ"
        if not alone:
            return f"{seen}; the noise floor is not known yet"
        return f"{seen}; stable disagrees with itself on {floor:,.0f} of {alone:,.0f}"
