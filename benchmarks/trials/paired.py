"""Outcomes and losses of the two versions on the same input."""

import math
from dataclasses import dataclass

import numpy as np

from .information import kl_inf
from .noise import Floats


@dataclass(frozen=True)
class Binary:
    """Paired bad/good outcomes, 1.0 bad, NaN where the truth is not known. `rho`: correlation of both arms' errors."""

    name: str = "accuracy"
    base: float = 0.02
    delta: float = 0.0
    rho: float = 0.3
    margin_abs: float = 0.01
    margin_rel: float = 0.0
    labelled: float = 1.0  # share of pairs with known truth
    role: str = "objective"
    weight: float = 1.0
    kind: str = "binary"

    def shares(self, *, on: bool = True) -> tuple[float, float, float]:
        """Shares of pairs: both bad, only canary, only stable. Not `on`: before the change."""
        stable, canary = self.base, self.base + (self.delta if on else 0.0)
        both = stable * canary + self.rho * math.sqrt(stable * (1 - stable) * canary * (1 - canary))
        both = min(both, stable, canary)
        return both, canary - both, stable - both

    def draw(self, rng: np.random.Generator, t: Floats, onset: float) -> tuple[Floats, Floats]:
        """Outcomes (n,) of stable and canary at times `t`; the canary changes at `onset` seconds."""
        u = rng.random(t.size)
        stable, canary = np.empty(t.size), np.empty(t.size)
        for on, chosen in ((False, t < onset), (True, t >= onset)):
            if chosen.any():
                both, only_canary, only_stable = self.shares(on=on)
                v = u[chosen]
                canary[chosen] = v < both + only_canary
                stable[chosen] = (v < both) | ((v >= both + only_canary) & (v < both + only_canary + only_stable))
        if self.labelled < 1:
            lost = rng.random(t.size) >= self.labelled
            stable[lost] = canary[lost] = np.nan
        return stable, canary

    def gain_law(self) -> tuple[Floats, Floats]:
        """Excess over the margin of the four outcomes, and their shares."""
        both, only_canary, only_stable = self.shares()
        r, m = 1 + self.margin_rel, self.margin_abs
        gains = np.array([1 - r - m, 1 - m, -r - m, -m])
        return gains, np.array([both, only_canary, only_stable, 1 - both - only_canary - only_stable])

    def information(self, side: int, rate: float) -> float:
        """Nats a pair (labelled or not) about being beyond (+1) or inside (-1) the margin."""
        gains, shares = self.gain_law()
        return self.labelled * kl_inf(gains, shares, side)


@dataclass(frozen=True)
class Bounded:
    """Paired losses in [0, 1]: |error| of a regression model, clipped at 1."""

    name: str = "loss"
    scale: float = 0.15
    ratio: float = 1.0  # the canary's scale of loss over stable's
    rho: float = 0.6
    margin_abs: float = 0.01
    margin_rel: float = 0.0
    role: str = "objective"
    weight: float = 1.0
    kind: str = "bounded"

    def draw(self, rng: np.random.Generator, t: Floats, onset: float) -> tuple[Floats, Floats]:
        """Losses (n,) of stable and canary."""
        z = rng.standard_normal((3, t.size))
        a, b = math.sqrt(self.rho), math.sqrt(1 - self.rho)
        ratio = np.where(t >= onset, self.ratio, 1.0)
        stable: Floats = np.minimum(1, np.abs(a * z[0] + b * z[1]) * self.scale)
        canary: Floats = np.minimum(1, np.abs(a * z[0] + b * z[2]) * self.scale * ratio)
        return stable, canary

    def information(self, side: int, rate: float) -> float:
        """Nats a pair, from a large fixed sample of the true law."""
        stable, canary = self.draw(np.random.default_rng(12345), np.zeros(200_000), -1.0)
        gains = canary - (1 + self.margin_rel) * stable - self.margin_abs
        shares = np.full(gains.size, 1 / gains.size)
        return kl_inf(gains, shares, side, bound=1 + self.margin_rel + self.margin_abs)
