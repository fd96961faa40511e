"""A judge after the public description of Flagger's and Argo Rollouts' analysis; our code, tuned in its favour.

The canary alone against fixed limits, window by window. In its favour: it is
told the true stable level, which in life it is not.
Source: Flagger and Argo Rollouts analysis documentation.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np

from .gauge import Gauge
from .latency import Latency
from .noise import Floats
from .scenario import Batch, Metric, Scenario

WINDOWS = 30  # in a horizon
FAILURES, PASSES = 5, 10

Limit = tuple[float, float | None]  # of the window's mean (median for latency), and of its tail quantile


class FlaggerLike:
    """Five windows beyond a limit roll back, ten within promote."""

    def __init__(self, scenario: Scenario) -> None:
        self.config, self.limits = scenario.config(), limits(scenario)
        self.window = max(scenario.batch, scenario.horizon / WINDOWS)
        self.due, self.n, self.failed, self.passed = self.window, 0, 0, 0
        self.waiting: dict[str, list[Floats]] = {}

    def update(self, batch: Batch) -> str:
        self.n += int(batch["n"])
        for metric in self.config["metrics"]:
            self.waiting.setdefault(metric["name"], []).append(batch[metric["name"] + "_c"])
        if self.n + 1e-9 < self.due:
            return "continue"
        self.due += self.window
        beyond = self._beyond()
        self.failed += beyond
        self.passed += not beyond
        if self.failed >= FAILURES:
            return "rollback"
        return "promote" if self.passed >= PASSES and self.n >= self.config["min_pairs"] else "continue"

    def _beyond(self) -> bool:
        found = False
        for metric in self.config["metrics"]:
            values = np.concatenate(self.waiting.pop(metric["name"]))
            values = values[~np.isnan(values)]
            if values.size:
                middle, tail = self.limits[metric["name"]]
                found |= bool((np.median(values) if metric["kind"] == "positive" else values.mean()) > middle)
                found |= tail is not None and bool(np.quantile(values, metric["tail_q"]) > tail)
        return found


@cache
def limits(scenario: Scenario) -> Mapping[str, Limit]:
    """The true long-run level of stable, plus the margin."""
    return {metric.name: _limit(metric, scenario) for metric in scenario.metrics}


def _limit(metric: Metric, scenario: Scenario) -> Limit:
    never = 1e18
    if isinstance(metric, Gauge):
        _, stable, _ = metric.draw_scrapes(np.random.default_rng(1), 50_000.0, never)
        scrapes = int(scenario.horizon / scenario.rate / metric.dt) + 1
        return stable[:scrapes].mean() * (1 + metric.margin_rel), None
    stable, _ = metric.draw(np.random.default_rng(1), np.arange(200_000) / scenario.rate, never)
    stable = stable[~np.isnan(stable)]
    if isinstance(metric, Latency):
        tail = np.quantile(stable, metric.tail_q) * (1 + metric.tail_margin_rel) if metric.tail_q else None
        return float(np.median(stable)) * (1 + metric.margin_rel), tail
    return stable.mean() * (1 + metric.margin_rel) + metric.margin_abs, None
