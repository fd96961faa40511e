"""Latencies of the two versions on the same request."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from scipy.signal import fftconvolve

from .information import kl_inf
from .noise import Floats, autoregressive, bursts

GRID: Floats = np.linspace(-8, 8, 8193)  # log ratios at which densities are taken
STEP = float(GRID[1] - GRID[0])


@dataclass(frozen=True)
class Latency:
    """log latency = level + shared AR(1) + one-arm noise + own noise with a Pareto tail."""

    name: str = "latency"
    level: float = math.log(40.0)
    shift: float = 1.0  # median of canary over median of stable
    tail_mult: float = 1.0  # the canary's slow requests are this much slower
    slow_share: float = 0.0  # this share of the canary's requests ...
    slow_mult: float = 2.0  # ... is this much slower
    sd: float = 0.20  # own lognormal noise
    p_tail: float = 0.03  # share of Pareto-tailed requests
    tail_scale: float = 0.5  # 1 / Pareto index
    ar_sd: float = 0.25  # shared noise
    ar_tau_s: float = 5.0
    arm_ar_sd: float = 0.0  # AR(1) noise of one arm
    arm_ar_tau_s: float = 1.0
    arm_burst_duty: float = 0.0  # bursts on one arm
    arm_burst_s: float = 2.0
    arm_burst_log: float = 0.5
    margin_rel: float = 0.05
    tail_q: float = 0.0  # 0: the tail is not watched
    tail_margin_rel: float = 0.15
    role: str = "objective"
    weight: float = 1.0
    kind: str = "positive"

    def draw(self, rng: np.random.Generator, t: Floats, onset: float) -> tuple[Floats, Floats]:
        """Latencies (n,) of stable and canary at times `t`; the canary changes at `onset` seconds."""
        n = t.size
        dt = (t[-1] - t[0]) / max(n - 1, 1) if n > 1 else 1.0
        shared = autoregressive(rng, n, dt=dt, tau=self.ar_tau_s, sd=self.ar_sd) + self.level
        on = t >= onset
        stable, _ = self._own(rng, n)
        canary, in_tail = self._own(rng, n)
        stable = stable + self._one_arm(rng, n, dt)
        canary = canary + self._one_arm(rng, n, dt) + on * math.log(self.shift)
        if self.tail_mult != 1:
            canary = canary + (on & in_tail) * math.log(self.tail_mult)
        if self.slow_share:
            canary = canary + (on & (rng.random(n) < self.slow_share)) * math.log(self.slow_mult)
        return np.exp(shared + stable), np.exp(shared + canary)

    def _own(self, rng: np.random.Generator, n: int) -> tuple[Floats, np.ndarray]:
        noise = rng.standard_normal(n) * self.sd
        in_tail = rng.random(n) < self.p_tail
        return noise + in_tail * rng.exponential(self.tail_scale, n), in_tail

    def _one_arm(self, rng: np.random.Generator, n: int, dt: float) -> Floats:
        noise = np.zeros(n)
        if self.arm_ar_sd:
            noise += autoregressive(rng, n, dt=dt, tau=self.arm_ar_tau_s, sd=self.arm_ar_sd)
        if self.arm_burst_duty:
            lasting = bursts(rng, n, dt=dt, duty=self.arm_burst_duty, mean_seconds=self.arm_burst_s)
            noise += self.arm_burst_log * lasting
        return noise

    def information(self, side: int, rate: float) -> float:
        """Nats a pair about being beyond (+1) or inside (-1) the margin; the null is the same shape on the margin.

        With one-arm AR noise the long-run variance is used where it says less. One-arm bursts are ignored, as if one
        could see them. So this is a reference, not a bound.
        """
        if self.tail_mult != 1 or self.slow_share:
            return self._shape_information() if side > 0 else 0.0
        return self._shift_information(rate) if (side > 0) == (self.shift > 1 + self.margin_rel) else 0.0

    def _shift_information(self, rate: float) -> float:
        true, edge = self._ratio_density(shift=self.shift), self._ratio_density(shift=1 + self.margin_rel)
        found = _divergence(true, edge)
        lasting = 2 * self.arm_ar_sd**2 * 2 * self.arm_ar_tau_s * rate
        if lasting:
            excess = math.log(self.shift) - math.log1p(self.margin_rel)
            variance = float((true * (GRID - (true * GRID).sum() * STEP) ** 2).sum() * STEP)
            found = min(found, excess * excess / (2 * (lasting + variance)))
        return found

    def _shape_information(self) -> float:
        found = 0.0
        if self.tail_mult > 1 + self.tail_margin_rel:
            true = self._ratio_density(shift=self.shift, mult=self.tail_mult, slow=(self.slow_share, self.slow_mult))
            found = _divergence(true, self._ratio_density(mult=1 + self.tail_margin_rel))
        return max(found, self._exceedance_information()) if self.slow_share else found

    def _exceedance_information(self) -> float:
        """The best single threshold for "canary is stochastically slower than (1 + tail margin) x stable"."""
        steady = replace(self, ar_tau_s=0.01)
        stable, canary = steady.draw(np.random.default_rng(54321), np.arange(200_000.0), -1.0)
        best = 0.0
        for quantile in (0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995):
            threshold = np.quantile(stable, quantile)
            slower, slow = canary > threshold * (1 + self.tail_margin_rel), stable > threshold
            for_harm, against = float((slower & ~slow).mean()), float((slow & ~slower).mean())
            law = np.array([for_harm, against, 1 - for_harm - against])
            best = max(best, kl_inf(np.array([1.0, -1.0, 0.0]), law, 1))
        return best

    def _own_density(
        self, at: Floats, *, shift: float = 1.0, mult: float = 1.0, slow: tuple[float, float] = (0.0, 1.0)
    ) -> Floats:
        def base(y: Floats) -> Floats:
            density: Floats = (1 - self.p_tail) * stats.norm.pdf(y, 0, self.sd)
            if self.p_tail:
                tail = stats.exponnorm.pdf(y - math.log(mult), self.tail_scale / self.sd, 0, self.sd)
                density = density + self.p_tail * tail
            return density

        x = at - math.log(shift)
        return (1 - slow[0]) * base(x) + slow[0] * base(x - math.log(slow[1]))

    def _ratio_density(
        self, *, shift: float = 1.0, mult: float = 1.0, slow: tuple[float, float] = (0.0, 1.0)
    ) -> Floats:
        canary, minus_stable = self._own_density(GRID, shift=shift, mult=mult, slow=slow), self._own_density(-GRID)
        density = np.maximum(fftconvolve(canary, minus_stable, mode="same") * STEP, 1e-300)
        normed: Floats = density / (density.sum() * STEP)
        return normed


def _divergence(p: Floats, q: Floats) -> float:
    return float((p * np.log(p / q)).sum() * STEP)
