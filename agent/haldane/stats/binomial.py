"""A counted share with its exact interval, for trials of which the number was fixed beforehand."""

import math
from collections.abc import Callable
from dataclasses import dataclass

_ROUNDS = 60  # of bisection: exact to the last bit of a double


@dataclass(frozen=True, slots=True)
class Rate:
    """`hits` of `trials`.

    `low` and `high` bound the share behind them with 95 % confidence, for one
    look at the end. Source: Clopper & Pearson, The use of confidence or
    fiducial limits illustrated in the case of the binomial.
    """

    hits: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.trials:
            raise ValueError(f"{self.hits} of {self.trials} is no share")

    @property
    def share(self) -> float | None:
        return self.hits / self.trials if self.trials else None

    @property
    def low(self) -> float:
        return 0.0 if not self.hits else _share_where(lambda p: _log_at_least(self.hits, self.trials, p))

    @property
    def high(self) -> float:
        misses = self.trials - self.hits
        return 1.0 if not misses else 1.0 - _share_where(lambda p: _log_at_least(misses, self.trials, p))


def chance_beyond(hits: int, trials: int, share: float) -> float:
    """Twice the chance, at most 1, of a count as far to that side of its mean if the share behind it is `share`.

    ValueError unless 0 < share < 1.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"share must lie in (0, 1), got {share}")
    above = _log_at_least(hits, trials, share)
    below = _log_at_least(trials - hits, trials, 1.0 - share)
    return min(1.0, 2.0 * math.exp(min(above, below)))


def _share_where(log_chance: Callable[[float], float], level: float = 0.025) -> float:
    """The share at which that chance, which grows with it, is `level`."""
    low, high, wanted = 0.0, 1.0, math.log(level)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if log_chance(middle) < wanted else (low, middle)
    return low


def _log_at_least(hits: int, trials: int, share: float) -> float:
    """Log of the chance of so many hits or more."""
    logs = [_log_exactly(k, trials, share) for k in range(hits, trials + 1)]
    most = max(logs)
    return most + math.log(sum(math.exp(log - most) for log in logs))


def _log_exactly(hits: int, trials: int, share: float) -> float:
    ways = math.lgamma(trials + 1) - math.lgamma(hits + 1) - math.lgamma(trials - hits + 1)
    return ways + hits * math.log(share) + (trials - hits) * math.log1p(-share)
