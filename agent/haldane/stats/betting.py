"""Evidence against a margin by betting: a fixed grid of bets, mixed, with late starts.

For excesses x >= -1 whose mean given the past is at most 0 ("within the
margin"), the wealth prod(1 + u x) of a bet u is a non-negative supermartingale
started at 1. So is every fixed mixture over bets and over starting times, and
by Ville's inequality it ever reaches 1/a with probability at most a. Nothing
is estimated, so the evidence is a function of sums: shards are merged by
adding, and a replay gives the same bits.

Source: Ville, Étude critique de la notion de collectif (the inequality);
Waudby-Smith & Ramdas, Estimating means of bounded random variables by betting
(the bets); Robbins & Siegmund, tests of power one (the mixture).
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float | None, float | None]  # None: not bounded on that side yet


@dataclass(frozen=True, eq=False)
class Bets:
    """A fixed mixture of bets u in [0, 1), sizes and weights of shape (k,) each; weights sum to 1."""

    sizes: Floats
    weights: Floats

    def __len__(self) -> int:
        return len(self.sizes)

    def wealths(self, excess: Floats) -> Floats:
        """Log wealth of each bet over these excesses (n,), each >= -1: shape (k,)."""
        gained: Floats = np.log1p(np.multiply.outer(excess, self.sizes)).sum(axis=0)
        return gained

    def sign_wealths(self, for_it: Floats, against: Floats) -> Floats:
        """Log wealth of each bet over so many votes of +1 and -1, shape (...) each: shape (..., k)."""
        gained: Floats = np.multiply.outer(for_it, np.log1p(self.sizes))
        return gained + np.multiply.outer(against, np.log1p(-self.sizes))

    def mix(self, log_wealths: Floats) -> Floats:
        """Log of the mixed wealth, shape (..., k) to (...): the Robbins-Siegmund mixture on a grid."""
        mixed: Floats = np.logaddexp.reduce(log_wealths + np.log(self.weights), axis=-1)
        return mixed


@dataclass(frozen=True, eq=False)
class Sides:
    """The bets against "within the margin" and those against "at or beyond it": each side is its own game."""

    harm: Bets
    harmless: Bets


# For outcomes and losses: five bets from 0.05 to 0.80 in equal ratios hold what verdicts within some 20,000 pairs are
# made of; the smallest finds small harm among much disagreement, later; the one near 1 serves a canary whose failures
# are nearly a superset of stable's. What other stakes came to was measured: docs/design/0005-latency-votes.md.
_MEANS = Bets(np.array([0.02, *np.geomspace(0.05, 0.80, 5), 0.999]), np.array([0.06, *[0.158] * 5, 0.15]))
MEANS = Sides(harm=_MEANS, harmless=_MEANS)

# For failures, of which stable has hardly any: new ones are a superset of its own, so half of the stake on harm is near
# 1. Where both sides are often wrong, a run of ten on canary alone is luck too often for that.
FAILURES = Sides(
    harm=Bets(np.array([0.02, 0.10, 0.20, 0.40, 0.80, 0.999]), np.array([0.04, 0.11, 0.11, 0.14, 0.09, 0.51])),
    harmless=_MEANS,
)

# For votes of about +-1: harm worth finding moves them by a tenth or more, so nearly all the stake is there. The
# largest is for blocks of which hardly one votes against; the smallest keeps small harm from never being found.
# Harmlessness has little on the largest: six first votes that agree because they are one event would do with more.
_VOTES = np.array([0.03, 0.12, 0.35, 0.95])
VOTES = Sides(
    harm=Bets(_VOTES, np.array([0.06, 0.24, 0.30, 0.40])),
    harmless=Bets(_VOTES, np.array([0.06, 0.34, 0.50, 0.10])),
)

# A process started at 0 pays for a good past. 32 later starts, fixed beforehand, share 0.2 of the stake.
LATE_STARTS = 32
LATE_SHARE = 0.2

# No promotion while any start of a rollback process holds more than this.
HOLD_LOG_E = math.log(5.0)


class Evidence(Protocol):
    """What every kind of evidence can say. Logarithms are natural; harm is canary minus stable, positive is worse."""

    @property
    def pairs(self) -> int:
        """Readings taken in."""

    def fold(self, stable: Floats, canary: Floats) -> None:
        """Take in readings, shape (n,) each, in order."""

    def start(self) -> None:
        """Open a late start: to be called at times fixed beforehand."""

    def log_harm(self) -> float:
        """Log e-value against "within the margin"."""

    def carrier(self) -> int:
        """The start that holds most of the e-value for harm: 0 is the beginning, j the j-th late start."""

    def log_harmless(self) -> float:
        """Log e-value against "at or beyond the margin"."""

    def holds(self) -> bool:
        """There is enough suspicion of harm, lately, that promotion should wait."""

    def estimate(self) -> float | None:
        """The harm seen, in the unit of the interval; None without data."""

    def interval(self, level: float) -> Interval:
        """The harms not rejected, each side at `level`: a confidence sequence."""

    def detail(self) -> str:
        """Counts or votes, as a short phrase."""


class Ledger:
    """Additive evidence, from the beginning and from each late start.

    The books are a vector of sums: the first `marked` entries are what a late
    start must remember. Subclasses say how log wealths follow from sums, by
    linear maps: that is what makes merging by addition right.
    """

    def __init__(self, entries: int, marked: int) -> None:
        self.total: Floats = np.zeros(entries)
        self.starts: Floats = np.zeros((1, marked))  # the sums at the beginning and at each late start

    def start(self) -> None:
        """Open a late start here; at most LATE_STARTS are kept, further calls do nothing."""
        if len(self.starts) <= LATE_STARTS:
            self.starts = np.vstack([self.starts, self._marked])

    def merge(self, other: "Ledger") -> None:
        """Add a shard's books. Both must have been started equally often; ValueError otherwise."""
        if other.starts.shape != self.starts.shape or other.total.shape != self.total.shape:
            raise ValueError("shards with different late starts cannot be added")
        self.total = self.total + other.total
        self.starts = self.starts + other.starts

    def since(self) -> Floats:
        """Sums since the beginning (row 0) and since each late start: shape (1 + starts, marked)."""
        since: Floats = self._marked - self.starts
        return since

    def recent(self) -> Floats:
        """Sums since the second last late start (since the beginning when there are fewer): shape (marked,)."""
        recent: Floats = self._marked - self.starts[-2 if len(self.starts) > 2 else 0]
        return recent

    @property
    def _marked(self) -> Floats:
        return self.total[: self.starts.shape[1]]


_LOG_SHARES: Floats = np.log([1 - LATE_SHARE, *[LATE_SHARE / LATE_STARTS] * LATE_STARTS])


def mix_starts(log_e_by_start: Floats) -> float:
    """Log e-value mixed over starts, shape (1 + starts,); starts not yet opened hold exactly their stake."""
    mixed = np.logaddexp.reduce(log_e_by_start + _LOG_SHARES[: len(log_e_by_start)])
    if unopened := LATE_STARTS + 1 - len(log_e_by_start):
        mixed = np.logaddexp(mixed, math.log(unopened) + _LOG_SHARES[-1])
    return float(mixed)


def carrier_of(log_e_by_start: Floats) -> int:
    """The start that holds most of the e-value mixed over starts, shape (1 + starts,)."""
    return int(np.argmax(log_e_by_start + _LOG_SHARES[: len(log_e_by_start)]))


class Wealths:
    """What evidence kept as log wealths says.

    The ledger begins with a log wealth for each bet on harm, the excess, and a
    log wealth for each bet on harmlessness; what follows is the metric's own.
    """

    bets: Sides = MEANS
    ledger: Ledger

    @property
    def _own(self) -> int:
        """Where the metric's own sums begin."""
        return self._marked + len(self.bets.harmless)

    @property
    def _marked(self) -> int:
        """How many sums late starts remember: the wealths for harm, and the excess."""
        return len(self.bets.harm) + 1

    def start(self) -> None:
        self.ledger.start()

    def _by_start(self) -> Floats:
        return self.bets.harm.mix(self.ledger.since()[:, : len(self.bets.harm)])

    def log_harm(self) -> float:
        return mix_starts(self._by_start())

    def carrier(self) -> int:
        return carrier_of(self._by_start())

    def log_harmless(self) -> float:
        return float(self.bets.harmless.mix(self.ledger.total[self._marked : self._own]))

    def holds(self) -> bool:
        return bool(self._by_start().max() > HOLD_LOG_E or self.ledger.recent()[len(self.bets.harm)] > 0)
