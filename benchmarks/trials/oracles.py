"""Betting with the best bet for the true law, which nobody knows: what the floor means in practice."""

import math

import numpy as np
from scipy.optimize import minimize_scalar

from .information import growth
from .paired import Binary
from .scenario import Batch, Scenario
from .zscores import excess


class WaldOracle:
    """Told the scenario; binary metrics alone."""

    def __init__(self, scenario: Scenario) -> None:
        metric = scenario.metrics[0]
        if not isinstance(metric, Binary):
            raise TypeError(f"{scenario.name}: the best bet is known for binary outcomes only")
        self.scenario, self.metric, self.n = scenario, scenario.config()["metrics"][0], 0
        gains, shares = metric.gain_law()
        self.log_wealth = {1: 0.0, -1: 0.0}
        self.stakes = {}
        for side in (1, -1):
            turned = side * gains
            if (shares * turned).sum() > 1e-9:
                top = 1 / -turned.min() * (1 - 1e-6)
                best = minimize_scalar(lambda u, g=turned: -growth(u, g, shares), bounds=(0, top), method="bounded")
                self.stakes[side] = best.x

    def update(self, batch: Batch) -> str:
        beyond = excess(self.metric, batch)
        self.n += int(batch["n"])
        for side, stake in self.stakes.items():
            self.log_wealth[side] += np.log1p(stake * side * beyond).sum()
        if self.log_wealth[1] >= math.log(1 / self.scenario.alpha):
            return "rollback"
        proven = self.log_wealth[-1] >= math.log(1 / self.scenario.beta)
        return "promote" if proven and self.n >= self.scenario.min_pairs else "continue"
