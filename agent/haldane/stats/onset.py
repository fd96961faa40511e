"""Whether a share stands above its limit now: a bet that forgets what came before.

An e-process looks back to the beginning and so is slow to see that something
broke, and slower to see that it is well again. Here each bet's log wealth is
kept between 0 and a cap: it rises within a handful of events and falls within
tens of quiet readings. For states that come and go, never for a verdict.

Source: Page, Continuous inspection schemes (the floor at zero: CUSUM); Shin,
Ramdas, Rinaldo, E-detectors (bets in place of likelihoods: at or below the
limit a false alarm comes once in exp(PROOF) readings or more, on average).
"""

import math

import numpy as np
from numpy.typing import NDArray

from haldane.stats.betting import MEANS, Floats

_BETS = MEANS.harm
PROOF = math.log(1e4)  # five events in a row at a limit of 10 %
_CAP = PROOF - math.log(_BETS.weights.min())  # the bet of least weight alone can still prove it


class Onset:
    """Watches one share. State: a number per bet and two counts."""

    def __init__(self, limit: float) -> None:
        if not 0.0 < limit < 1.0:
            raise ValueError(f"a limit for a share lies between 0 and 1, got {limit!r}")
        self._event, self._quiet = np.log1p(_BETS.sizes * (1 - limit) / limit), np.log1p(-_BETS.sizes)
        self._log_wealth: Floats = np.zeros(len(_BETS))
        self.readings = 0  # since the share last looked ordinary
        self.events = 0  # among them

    def fold(self, happened: NDArray[np.bool_]) -> None:
        """Take in readings, shape (n,), in order: whether the event happened."""
        places = np.flatnonzero(happened)
        if not len(places):  # nearly always
            self._rest(len(happened))
            return
        quiet = np.diff(np.concatenate([[-1], places, [len(happened)]])) - 1
        for run in quiet[:-1].tolist():
            self._rest(run)
            self._log_wealth = np.minimum(self._log_wealth + self._event, _CAP)
            self.readings, self.events = self.readings + 1, self.events + 1
        self._rest(int(quiet[-1]))

    def _rest(self, run: int) -> None:
        self._log_wealth = np.maximum(self._log_wealth + run * self._quiet, 0.0)
        ordinary = not self._log_wealth.any()
        self.readings, self.events = (0, 0) if ordinary else (self.readings + run, self.events)

    @property
    def above(self) -> bool:
        """The share stands above the limit now."""
        return float(_BETS.mix(self._log_wealth)) >= PROOF
