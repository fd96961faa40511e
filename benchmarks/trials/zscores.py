"""One-sided z tests: repeated at every batch as dashboards invite one to, and done once as textbooks ask."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from .noise import Floats
from .scenario import Batch, Scenario

FEWEST = 30  # readings before a z score is looked at
POWER = 0.9  # of the single look


def excess(metric: Mapping[str, Any], batch: Batch) -> Floats:
    """How far each known pair lies beyond the margin; positive is worse."""
    stable, canary = batch[metric["name"] + "_s"], batch[metric["name"] + "_c"]
    known = ~(np.isnan(stable) | np.isnan(canary))
    stable, canary = stable[known], canary[known]
    if metric["kind"] in ("binary", "bounded"):
        beyond: Floats = canary - (1 + metric["margin_rel"]) * stable - metric["margin_abs"]
        return beyond
    slower: Floats = np.log(canary / stable) - math.log1p(metric["margin_rel"])
    return slower


class Moments:
    """Count, sum and sum of squares, so far."""

    def __init__(self) -> None:
        self.n, self.total, self.squares = 0, 0.0, 0.0

    def add(self, values: Floats) -> None:
        self.n += values.size
        self.total += values.sum()
        self.squares += (values * values).sum()

    def z(self) -> float:
        mean = self.total / self.n
        return mean / math.sqrt(max(self.squares / self.n - mean**2, 1e-12) / self.n)


class NaivePeek:
    """A z test at level alpha (beta) at every batch, as if each were the only one."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.metrics, self.min_pairs, self.n = config["metrics"], config["min_pairs"], 0
        self.seen = {metric["name"]: Moments() for metric in self.metrics}
        self.beyond, self.inside = stats.norm.isf(config["alpha"]), -stats.norm.isf(config["beta"])

    def update(self, batch: Batch) -> str:
        self.n += int(batch["n"])
        harmful, proven = False, []
        for metric in self.metrics:
            seen = self.seen[metric["name"]]
            seen.add(excess(metric, batch))
            z = seen.z() if seen.n >= FEWEST else 0.0
            harmful |= bool(z > self.beyond)
            if metric["role"] == "objective":
                proven.append(z < self.inside)
        if harmful:
            return "rollback"
        return "promote" if proven and all(proven) and self.n >= self.min_pairs else "continue"


class FixedN:
    """One z test at the sample size that has 90 % power for the true effect, or at the horizon.

    It is told the scenario: what a test without peeking would cost if one knew what will go wrong.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.metric = scenario, scenario.config()["metrics"][0]
        self.look, self.n, self.seen = self._planned(), 0, Moments()

    def _planned(self) -> float:
        scenario, metric = self.scenario, self.scenario.metrics[0]
        if scenario.truth == "edge":
            return scenario.horizon
        t = (np.arange(200_000) + 1) / scenario.rate
        stable, canary = metric.draw(np.random.default_rng(7), t, -1.0)  # type: ignore[union-attr]
        beyond = excess(self.metric, {f"{metric.name}_s": stable, f"{metric.name}_c": canary})
        level = scenario.beta if scenario.truth == "good" else scenario.alpha
        z = (stats.norm.isf(level) + stats.norm.ppf(POWER)) * beyond.std() / max(abs(beyond.mean()), 1e-9)
        return min(scenario.horizon, max(float(FEWEST), z * z * stable.size / beyond.size))

    def update(self, batch: Batch) -> str:
        self.seen.add(excess(self.metric, batch))
        self.n += int(batch["n"])
        if self.n < self.look:
            return "continue"
        self.look, z = math.inf, self.seen.z()
        if z > stats.norm.isf(self.scenario.alpha):
            return "rollback"
        inside = z < -stats.norm.isf(self.scenario.beta)
        return "promote" if inside and self.n >= self.scenario.min_pairs else "continue"
