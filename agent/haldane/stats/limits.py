"""Evidence on how often the canary alone is bad, against an absolute limit.

A share of failures, or a quantile of latency: "the 99 % quantile is at most
250 ms" says that at most 1 % of requests take longer. Exact whatever the
distribution and the order; no baseline is needed.

Source: Ville's inequality (the betting, as in `betting`); Robbins & Siegmund,
tests of power one (the Beta mixture of the interval).
"""

import math
from collections.abc import Callable

import numpy as np

from haldane.stats import checks
from haldane.stats.betting import HOLD_LOG_E, MEANS, Floats, Interval, Ledger, carrier_of, mix_starts

# Stakes from a fifth of the limit to nearly all: a bet u is best where the share is limit + u (1 - limit).
_STAKES = 12
_PRIOR = 0.5  # Jeffreys: the interval is as good for rare failures as for common ones


class LimitEvidence:
    """Evidence on outcomes of the canary, 1.0 bad and 0.0 good, against "E[c | past] <= share".

    State: two counts, and two for each late start.
    """

    def __init__(self, *, share: float) -> None:
        if not 0.0 < share < 1.0:
            raise ValueError(f"the limit is a share between 0 and 1, got {share!r}")
        self.share = share
        self.ledger = Ledger(entries=2, marked=2)  # bad, good
        self._stakes: Floats = np.geomspace(share / 5, 0.9, _STAKES)

    @property
    def pairs(self) -> int:
        return int(self.ledger.total.sum())

    def fold(self, stable: Floats, canary: Floats) -> None:
        """Take in outcomes, shape (n,) each; stable's say nothing here. ValueError when canary's are not 0 or 1."""
        checks.outcomes(canary, canary)
        bad = float(canary.sum())
        self.ledger.total += (bad, len(canary) - bad)

    def start(self) -> None:
        self.ledger.start()

    def merge(self, other: "LimitEvidence") -> None:
        """Add a shard's counts, the same as feeding both in sequence; ValueError when its limit or starts differ."""
        checks.alike(self, other, "share")
        self.ledger.merge(other.ledger)

    def _by_start(self) -> Floats:
        gains = np.stack([np.log1p(self._stakes * (1 - self.share) / self.share), np.log1p(-self._stakes)])
        mixed: Floats = np.logaddexp.reduce(self.ledger.since() @ gains, axis=-1) - math.log(_STAKES)
        return mixed

    def log_harm(self) -> float:
        """Log e-value against "at most the limit"."""
        return mix_starts(self._by_start())

    def carrier(self) -> int:
        return carrier_of(self._by_start())

    def log_harmless(self) -> float:
        """Log e-value against "at or beyond the limit"."""
        bets = MEANS.harmless
        gains = np.stack([np.log1p(-bets.sizes), np.log1p(bets.sizes * self.share / (1 - self.share))])
        return float(bets.mix(self.ledger.total @ gains))

    def holds(self) -> bool:
        bad, good = self.ledger.recent()
        return bool(self._by_start().max() > HOLD_LOG_E or bad > self.share * (bad + good))

    def estimate(self) -> float | None:
        """The share of bad outcomes."""
        return float(self.ledger.total[0] / self.pairs) if self.pairs else None

    def interval(self, level: float) -> Interval:
        """The constant shares that a Beta mixture does not reject, each side at `level`."""
        bad, good = self.ledger.total.tolist()
        if not bad + good:
            return None, None
        seen, needed = bad / (bad + good), math.log(1 / (2 * level))
        prior = _log_beta(_PRIOR + bad, _PRIOR + good) - _log_beta(_PRIOR, _PRIOR)

        def rejected(share: float) -> bool:
            return prior - _xlog(bad, share) - _xlog(good, 1 - share) >= needed

        return _border(rejected, 0.0, seen), _border(rejected, 1.0, seen)

    def detail(self) -> str:
        return f"{self.ledger.total[0]:,.0f} of {self.pairs:,} requests"


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _xlog(count: float, share: float) -> float:
    """count * log(share), with 0 log 0 = 0."""
    if not count:
        return 0.0
    return count * math.log(share) if share > 0 else -math.inf


def _border(rejected: Callable[[float], bool], outside: float, inside: float) -> float:
    """Where rejection ends between a far end and the share seen, rounded outward; the far end when that stands."""
    if not rejected(outside):
        return outside
    for _ in range(50):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if rejected(middle) else (outside, middle)
    return outside
