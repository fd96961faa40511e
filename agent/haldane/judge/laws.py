"""How the excess over a margin is spread, per kind of metric: what a forecast is worked out from.

A law gives, for a margin and a true harm, the values one step of evidence may
take and their chances. A step is a pair, a block of pairs, or a block of time.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from haldane.judge.rules import MetricRule, Rules
from haldane.judge.traffic import Traffic
from haldane.stats.betting import Bets, Floats
from haldane.stats.blocks import SCALE_REACH
from haldane.stats.floor import ROUND_PAIRS

Law = Callable[[float, float], tuple[Floats, Floats]]  # (margin, harm) -> excess over the margin, chances

_NORMAL = NormalDist()
_QUANTILES: Floats = np.array([_NORMAL.inv_cdf((i + 0.5) / 64) for i in range(64)])
_EVENLY: Floats = np.full(64, 1 / 64)
_MEAN_OF_BLOCK = 1.1  # sd of a 20 % trimmed mean over that of the mean, for readings with heavy tails


def share_law(discordance: float) -> Law:
    """Pairs of which one side is bad: `discordance` of them when both versions are equally good."""

    def law(margin: float, harm: float) -> tuple[Floats, Floats]:
        worse, better = min(1.0, discordance / 2 + harm), discordance / 2
        chance = np.array([worse, better, max(0.0, 1 - worse - better)])
        return np.array([1.0, -1.0, 0.0]) - margin, chance / chance.sum()

    return law


def relative_law(rule: MetricRule, traffic: Traffic) -> Law:
    """Failures of both sides taken as independent: the hardest case."""

    def law(margin: float, harm: float) -> tuple[Floats, Floats]:
        stable = traffic.error_rate
        canary = min(0.5, stable * (1 + harm))
        excess = np.array([1.0, -(1 + margin), 0.0]) - rule.margin.absolute
        return excess / (1 + margin), np.array([canary, stable, 1 - canary - stable])

    return law


def loss_law(rule: MetricRule, traffic: Traffic) -> Law:
    def law(margin: float, harm: float) -> tuple[Floats, Floats]:
        excess = (traffic.loss_sd * _QUANTILES + harm - margin) / rule.reach
        return np.clip(excess, -1.0, 1.0), _EVENLY

    return law


def block_law(spread: float) -> Law:
    """Votes of blocks whose log ratios spread by so much."""

    def law(margin: float, harm: float) -> tuple[Floats, Floats]:
        votes = (math.log1p(harm) - math.log1p(margin) + spread * _QUANTILES) / (SCALE_REACH * spread)
        return np.clip(votes, -1.0, 1.0), _EVENLY

    return law


def latency_law(rules: Rules, traffic: Traffic) -> Law:
    return block_law(_MEAN_OF_BLOCK * max(traffic.log_ratio_sd, 1e-6) / math.sqrt(rules.block_pairs))


def tail_law(quantile: float, rules: Rules, traffic: Traffic) -> Law:
    """Votes of blocks by which side exceeds the tail's threshold oftener; each side's own noise taken as a bell."""
    own = max(traffic.log_ratio_sd, 1e-6) / math.sqrt(2)

    def law(margin: float, harm: float) -> tuple[Floats, Floats]:
        shift = (math.log1p(harm) - math.log1p(margin)) / own
        low, high = -10.0, 10.0 + abs(shift)
        while high - low > 1e-6:  # the threshold holds for both sides together
            middle = (low + high) / 2
            above = 2 - _NORMAL.cdf(middle) - _NORMAL.cdf(middle - shift)
            low, high = (middle, high) if above > 2 * (1 - quantile) else (low, middle)
        stable, canary = (_counts(rules.block_pairs, 1 - _NORMAL.cdf(low - by)) for by in (0.0, shift))
        more = float(sum(canary[k] * stable[:k].sum() for k in range(1, len(canary))))
        fewer = float(sum(stable[k] * canary[:k].sum() for k in range(1, len(stable))))
        return np.array([1.0, -1.0, 0.0]), np.array([more, fewer, 1 - more - fewer])

    return law


def _counts(n: int, share: float) -> Floats:
    """Chances of 0..n events among n."""
    share = min(max(share, 1e-12), 1 - 1e-12)
    k = np.arange(n + 1)
    choose = np.array([math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(n + 1)])
    chances: Floats = np.exp(choose + k * math.log(share) + (n - k) * math.log1p(-share))
    return chances


def steps_needed(law: tuple[Floats, Floats], side: int, log_threshold: float, bets: Bets) -> float:
    """Steps until the evidence crosses in half of all runs; infinite when it never would.

    The mixture of all bets, each grown at its mean rate g, crosses at the mean time. Runs spread like a first
    passage: with variance v of a step's log wealth the square of their relative spread is v / (g log_threshold),
    and the median lies below the mean by the root of 1 plus that. Measured: without it forecasts for failures and
    wrong answers came out 1.25 times too long.
    Source: Wald, Sequential Tests of Statistical Hypotheses (log(1/a) over the growth per step).
    """
    excess, chance = law
    scale = max(1.0, float((-side * excess).max()))
    gained = np.log1p(np.multiply.outer(bets.sizes, side * excess / scale))
    growth = gained @ chance
    if not (growth > 0).any():
        return math.inf
    alone = np.where(growth > 0, (log_threshold - np.log(bets.weights)) / np.maximum(growth, 1e-300), math.inf)
    best = int(alone.argmin())
    low, high = 0.0, float(alone[best])  # the best bet alone is there by then, all together sooner
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if bets.mix(middle * growth) >= log_threshold else (middle, high)
    variance = float(gained[best] ** 2 @ chance - growth[best] ** 2)
    return high / math.sqrt(1 + variance / (growth[best] * log_threshold))


def limit_law() -> Law:
    """Requests of the canary, `harm` of them bad, against a share."""

    def law(share: float, harm: float) -> tuple[Floats, Floats]:
        return np.array([1 - share, -share]) / share, np.array([harm, 1 - harm])

    return law


def round_law(traffic: Traffic) -> Law:
    """Rounds of disagreement where stable agrees with itself: the share among a round's pairs with canary."""
    with_canary = round(ROUND_PAIRS * (1 - traffic.aa_share))

    def law(margin: float, harm: float) -> tuple[Floats, Floats]:
        return np.arange(with_canary + 1) / with_canary - margin, _counts(with_canary, harm)

    return law


def pairs_a_round(traffic: Traffic) -> float:
    """Pairs until a round that holds both kinds: one that does not says nothing."""
    return ROUND_PAIRS / max(1e-9, 1 - (1 - traffic.aa_share) ** ROUND_PAIRS)
