"""A scenario: what is true of a canary, and the batches a judge sees of it."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .gauge import Gauge
from .latency import Latency
from .noise import Floats
from .paired import Binary, Bounded

Batch = Mapping[str, Floats]
Metric = Binary | Bounded | Latency | Gauge
Truth = Literal["good", "bad", "edge"]


@dataclass(frozen=True)
class Scenario:
    """One truth to draw trials of.

    good: every metric inside its margin, so promotion is right. bad: some
    metric beyond it, so rollback is right. edge: exactly on it, so both
    verdicts are errors, held to alpha and beta: only here a guarantee is tested.
    """

    name: str
    truth: Truth
    metrics: tuple[Metric, ...]
    horizon: int = 20_000  # pairs
    rate: float = 20.0  # pairs per second
    batch: int = 100  # pairs
    min_pairs: int = 0  # a promotion before this many pairs is an error
    alpha: float = 0.01
    beta: float = 0.05
    dependence_s: float = 0.0  # declared time scale of one-arm noise; it may be declared too small
    onset_pairs: int = 0  # the canary changes after this many pairs
    note: str = ""

    def config(self) -> dict[str, Any]:
        """What the judge is told."""
        total = sum(metric.weight for metric in self.metrics)
        return {
            "alpha": self.alpha,
            "beta": self.beta,
            "horizon_pairs": self.horizon,
            "min_pairs": self.min_pairs,
            "rate": self.rate,
            "dependence_s": self.dependence_s,
            "metrics": [_told(metric, metric.weight / total) for metric in self.metrics],
        }

    def batches(self, trial: int, seed: int = 0) -> Iterator[Batch]:
        """One trial: "n" pairs, "t" seconds at the end, and NAME_s, NAME_c of every metric; NaN is unknown.

        Each trial has a generator of its own, so that figures depend neither on the order of trials nor on the judges.
        """
        key = hashlib.sha256(f"{self.name}/{trial}/{seed}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(key[:8], "big"))
        t = (np.arange(self.horizon) + 1) / self.rate
        onset = (self.onset_pairs + 1) / self.rate if self.onset_pairs else -1.0
        pairs, scrapes = {}, {}
        for metric in self.metrics:  # in this order: they share the generator
            if isinstance(metric, Gauge):
                scrapes[metric.name] = metric.draw_scrapes(rng, self.horizon / self.rate, onset)
            else:
                pairs[metric.name] = metric.draw(rng, t, onset)
        for begin in range(0, self.horizon, self.batch):
            end = min(begin + self.batch, self.horizon)
            batch = {"n": np.array(end - begin), "t": np.array(t[end - 1])}
            for name, (stable, canary) in pairs.items():
                batch[f"{name}_s"], batch[f"{name}_c"] = stable[begin:end], canary[begin:end]
            since = t[begin - 1] if begin else 0.0
            for name, (at, stable, canary) in scrapes.items():
                i, j = np.searchsorted(at, [since, t[end - 1]], side="right")
                batch[f"{name}_s"], batch[f"{name}_c"] = stable[i:j], canary[i:j]
            yield batch

    def floor(self) -> float | None:
        """Pairs that a test needs on average at least (see `information`); None on an edge and where it is not known.

        A rollback counts by the best metric, a promotion by the worst objective; alpha (beta) is taken undivided. The
        median of a very good test may lie a little below this floor of the mean.
        """
        if self.truth == "edge":
            return None
        if self.truth == "bad":
            nats, level = max(metric.information(1, self.rate) for metric in self.metrics), self.alpha
        else:
            objectives = [metric for metric in self.metrics if metric.role == "objective"]
            nats, level = min((metric.information(-1, self.rate) for metric in objectives), default=0.0), self.beta
        return math.log(1 / level) / nats if nats > 1e-9 else None


def _told(metric: Metric, weight: float) -> dict[str, Any]:
    told = {
        "name": metric.name,
        "kind": metric.kind,
        "role": metric.role,
        "weight": weight,
        "margin_rel": metric.margin_rel,
        "margin_abs": getattr(metric, "margin_abs", 0.0),
    }
    if isinstance(metric, Latency) and metric.tail_q:
        told |= {"tail_q": metric.tail_q, "tail_margin_rel": metric.tail_margin_rel}
    return told
