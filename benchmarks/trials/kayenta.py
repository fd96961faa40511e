"""A judge after the public description of Kayenta's NetflixACAJudge; our code, tuned in its favour.

Every metric becomes one point an interval and arm; a rank test's 98 % interval
for the shift calls a metric high; every metric is critical; passing is the
default. Repeated judgements are not corrected. In its favour: it knows the
margins, and the interval is a thirtieth of the horizon.
Source: Kayenta's judge documentation.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from scipy import stats

from .noise import Floats
from .scenario import Batch

POINTS = 30  # intervals in a horizon
TOLERANCE = 0.25  # of the estimated shift
MARGINAL, PASSING = 75, 95  # scores


def shift_interval(x: Floats, y: Floats, *, confidence: float = 0.98) -> tuple[float, float, float]:
    """Mann-Whitney interval and estimate of the shift x - y, by normal approximation with tie correction."""
    differences = np.sort((x[:, None] - y[None, :]).ravel())
    n = x.size + y.size
    variance = x.size * y.size / 12 * (n + 1 - (_ties(x) + _ties(y)) / (n * (n - 1)))
    middle = float(np.median(differences))
    if variance <= 0:
        return differences[0], differences[-1], middle
    z = stats.norm.isf((1 - confidence) / 2)
    cut = max(0, math.floor(x.size * y.size / 2 - 0.5 - z * math.sqrt(variance)))
    return differences[cut], differences[differences.size - 1 - cut], middle


def _ties(values: Floats) -> float:
    counts = np.unique(values, return_counts=True)[1]
    return float((counts.astype(float) ** 3 - counts).sum())


class KayentaLike:
    """Judged once at the horizon, or `looks` times over the growing window, failing fast."""

    def __init__(self, config: Mapping[str, Any], looks: int = 1) -> None:
        self.config, self.looks, self.n, self.done = config, looks, 0, 0
        self.horizon = config["horizon_pairs"]
        self.next_point = self.horizon / POINTS
        self.waiting: dict[tuple[str, str], list[Floats]] = {}
        self.points: dict[str, list[tuple[float, float]]] = {}

    def update(self, batch: Batch) -> str:
        self.n += int(batch["n"])
        for metric in self.config["metrics"]:
            for arm in "sc":
                self.waiting.setdefault((metric["name"], arm), []).append(batch[f"{metric['name']}_{arm}"])
        if self.n + 1e-9 >= self.next_point:
            self.next_point += self.horizon / POINTS
            self._add_points()
        end, due = self.n >= self.horizon, int(self.n * self.looks / self.horizon)
        if not end and due <= self.done:
            return "continue"
        self.done = due
        score = self._score()
        if score < MARGINAL:
            return "rollback"
        return "promote" if end and score >= PASSING else "continue"

    def _series(self) -> Iterator[tuple[str, Callable[[Floats], float], Mapping[str, Any]]]:
        for metric in self.config["metrics"]:
            yield metric["name"], np.mean, metric
            if "tail_q" in metric:
                yield metric["name"] + "#tail", lambda v, q=metric["tail_q"]: np.quantile(v, q), metric

    def _add_points(self) -> None:
        arms = {key: np.concatenate(parts) for key, parts in self.waiting.items()}
        self.waiting.clear()
        for series, figure, metric in self._series():
            stable, canary = (v[~np.isnan(v)] for v in (arms[metric["name"], "s"], arms[metric["name"], "c"]))
            if stable.size and canary.size:
                self.points.setdefault(series, []).append((figure(stable), figure(canary)))

    def _score(self) -> float:
        """0 or 100: every metric is critical, so one that is high fails all."""
        judged = [(series, metric) for series, _, metric in self._series() if self.points.get(series)]
        if not judged or any(self._high(series, metric) for series, metric in judged):
            return 0.0
        return 100.0

    def _high(self, series: str, metric: Mapping[str, Any]) -> bool:
        points = np.array(self.points[series])
        stable, canary = points[:, 0], points[:, 1]
        if np.array_equal(np.sort(stable), np.sort(canary)) or np.unique(points).size < 2:
            return False
        low, _, estimate = shift_interval(canary, stable)
        positive = stable.mean() > 0 and canary.mean() > 0
        effect = canary.mean() / stable.mean() if positive else math.nan
        return bool(
            low > TOLERANCE * abs(estimate) and (math.isnan(effect) or effect >= _allowed(series, metric, stable))
        )


def _allowed(series: str, metric: Mapping[str, Any], stable: Floats) -> float:
    """The ratio of means that the margin permits."""
    if metric["kind"] in ("binary", "bounded"):
        return 1 + metric["margin_rel"] + (metric["margin_abs"] / stable.mean() if stable.mean() > 0 else 0.0)
    return 1 + metric["tail_margin_rel" if series.endswith("#tail") else "margin_rel"]
