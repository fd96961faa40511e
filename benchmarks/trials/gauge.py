"""Levels that are scraped: CPU or memory of one process for each version."""

import math
from dataclasses import dataclass

import numpy as np

from .noise import Floats, autoregressive


@dataclass(frozen=True)
class Gauge:
    """Both arms drift together; each has slow noise of its own."""

    name: str = "cpu"
    shift: float = 1.0
    leak_per_h: float = 0.0  # the canary's drift, log per hour
    both_drift_per_h: float = 0.2
    sd: float = 0.05
    tau_s: float = 20.0
    dt: float = 5.0  # seconds between scrapes
    margin_rel: float = 0.10
    role: str = "guardrail"
    weight: float = 1.0
    kind: str = "gauge"

    def draw_scrapes(self, rng: np.random.Generator, seconds: float, onset: float) -> tuple[Floats, Floats, Floats]:
        """Times of the scrapes, levels of stable, levels of canary."""
        n = max(1, int(seconds / self.dt))
        t: Floats = (np.arange(n) + 1) * self.dt
        shared = autoregressive(rng, n, dt=self.dt, tau=120.0, sd=0.1)
        common = 1.0 + self.both_drift_per_h * t / 3600 + shared
        stable = common + autoregressive(rng, n, dt=self.dt, tau=self.tau_s, sd=self.sd)
        canary = common + autoregressive(rng, n, dt=self.dt, tau=self.tau_s, sd=self.sd)
        canary += (t >= onset) * (math.log(self.shift) + self.leak_per_h * np.maximum(t - onset, 0) / 3600)
        return t, np.exp(stable), np.exp(canary)

    def information(self, side: int, rate: float) -> float:
        """Not known: one process an arm cannot tell this version from this machine."""
        return 0.0
