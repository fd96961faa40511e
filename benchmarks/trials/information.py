"""How much one pair can tell: the growth rate that no test can beat.

A test of level a and power one needs on average at least log(1/a) / KLinf
pairs, KLinf being the smallest Kullback-Leibler divergence of the true law
from the laws on the margin.
Source: Wald, Sequential Tests of Statistical Hypotheses; Lorden, on 2-SPRTs;
Garivier & Kaufmann; the dual form as in Kaufmann & Koolen, Mixture
martingales revisited.
"""

import numpy as np
from scipy.optimize import minimize_scalar

from .noise import Floats


def kl_inf(gains: Floats, shares: Floats, side: int, *, bound: float | None = None) -> float:
    """max over l of E log(1 + l side g): exact information about the mean of g, in nats a pair.

    `gains` (k,) occur with `shares` (k,). `side` +1 asks for proof that the mean is above 0, -1 below. `bound`: the
    least g that the null allows, where that is less than the least one seen.
    """
    g = side * np.asarray(gains, float)
    least = -(bound if bound is not None else -g[shares > 0].min() if (g[shares > 0] < 0).any() else 1.0)
    least = min(least, g.min())
    if (shares * g).sum() <= 0:
        return 0.0
    top = 1 / -least
    best = minimize_scalar(
        lambda stake: -growth(stake, g, shares),
        bounds=(0, top * (1 - 1e-9)),
        method="bounded",
        options={"xatol": 1e-9 * top},
    )
    return max(0.0, -float(best.fun))


def growth(stake: float, gains: Floats, shares: Floats) -> float:
    """Mean log wealth that betting `stake` on each gain wins."""
    return float((shares * np.log1p(np.maximum(stake * gains, -1 + 1e-12))).sum())
