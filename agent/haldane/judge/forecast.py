"""Before the hearing: what this traffic can show under these rules, and in which time.

Expected figures for a typical run, not promises: half of all runs take
longer. Source: the growth rate of the best bet of the grid; Wald, Sequential
Tests of Statistical Hypotheses (log(1/a) over the information per pair).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from haldane.domain.evidence import Role
from haldane.judge.margin import margin_text
from haldane.judge.rules import MetricRule, Rules
from haldane.judge.verdict import quantity
from haldane.stats.betting import BETS, LATE_SHARE, LOG_WEIGHTS, Floats
from haldane.stats.blocks import SCALE_REACH

_QUANTILES: Floats = np.array([NormalDist().inv_cdf((i + 0.5) / 64) for i in range(64)])
SLICE_SHARE = 0.1  # of all requests, where nobody says
_MEAN_OF_BLOCK = 1.1  # sd of a 20 % trimmed mean over that of the mean, for readings with heavy tails


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is known or guessed of the traffic beforehand.

    `discordance` is the share of pairs of which exactly one side is wrong
    when both versions are equally good; `error_rate` the share of requests
    that fail; `disagreement` the share of answers that differ for a harmless
    canary; `log_ratio_sd` the spread of log(canary / stable) latency;
    `loss_sd` the spread of the paired loss difference. `labelled_rows`: rows
    of a finite labelled set, each judged once; None for a labelled stream.
    `shares` of all requests by slice; one not named there has what its rule says, or a tenth.
    """

    pairs_per_second: float
    servers: int = 1
    labelled_rows: int | None = None
    discordance: float = 0.03
    error_rate: float = 1e-4
    disagreement: float = 0.005
    log_ratio_sd: float = 0.35
    loss_sd: float = 0.1
    shares: Mapping[str, float] = field(default_factory=dict)

    def share_of(self, rule: MetricRule, rules: Rules) -> float:
        """The share of requests that this rule sees."""
        if rule.slice is None:
            return 1.0
        return self.shares.get(rules.slices[rule.slice].name, rule.share if rule.share < 1.0 else SLICE_SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What one metric can show. Pairs and seconds count from the start, with warm-up and other slices; None: never."""

    metric: str
    role: Role
    unit: str
    margin: float
    margin_text: str
    limit: int  # pairs that can be had for this metric
    promote_pairs: int | None  # until an identical canary is shown harmless
    promote_seconds: float | None
    least_margin: float | None  # the smallest margin an identical canary can keep within `limit`
    rollback_pairs: int | None  # until a canary worse by twice the margin is rolled back
    rollback_seconds: float | None
    least_harm: float | None  # the smallest harm that is rolled back within `limit`
    share: float = 1.0  # of all requests that it sees

    def sentence(self) -> str:
        """What to expect, in plain words."""
        seen = f", {100 * self.share:.3g} % of requests" if self.share < 1 else ""
        parts = [f"{self.metric} (margin {self.margin_text}{seen})"]
        if self.role is Role.OBJECTIVE:
            parts.append(self._promotion())
        if self.rollback_pairs is not None and self.rollback_seconds is not None:
            worse = quantity(2 * self.margin, self.unit)
            parts.append(f"a canary worse by {worse} is caught after about {_many(self.rollback_pairs)} pairs")
            parts[-1] += f" ({duration(self.rollback_seconds)})"
        if self.least_harm is None:
            parts.append(f"no harm can be shown with {_many(self.limit)} pairs")
        else:
            parts.append(f"harm of less than {quantity(self.least_harm, self.unit)} will not be caught in time")
        return f"{parts[0]}: " + "; ".join(parts[1:])

    def _promotion(self) -> str:
        if self.promote_pairs is not None and self.promote_seconds is not None:
            return (
                f"an identical canary passes after about {_many(self.promote_pairs)} pairs "
                f"({duration(self.promote_seconds)})"
            )
        reason = f"even an identical canary will not pass with the {_many(self.limit)} pairs that can be had"
        if self.least_margin is None:
            return reason
        return f"{reason}; the smallest margin it could keep is {quantity(self.least_margin, self.unit)}"


def forecast(rules: Rules, traffic: Traffic) -> tuple[Outlook, ...]:
    """What can be shown under these rules with this traffic, per metric."""
    return tuple(_outlook(rule, rules, traffic) for rule in rules.metrics)


Excesses = Callable[[float, float], tuple[Floats, Floats]]  # (margin, harm) -> excess over the margin, probability


def _outlook(rule: MetricRule, rules: Rules, traffic: Traffic) -> Outlook:
    law, harmless, unit, step = _law(rule, rules.seen_by(rule), traffic)
    size = _size(rule, unit)
    outputs = rule.measures in ("accuracy", "loss", "disagreement", "drift")
    seen = traffic.share_of(rule, rules)
    warmup = 0 if outputs else rules.warmup_pairs * traffic.servers
    budget = int(rules.budget_seconds * traffic.pairs_per_second)
    limit = min(rules.horizon_pairs, max(0, budget - warmup))
    if outputs and traffic.labelled_rows is not None:
        limit = min(limit, traffic.labelled_rows)
    limit = int(limit * seen)
    share = rule.weight / _weight_of_all(rules) if rule.role.rolls_back else 1.0
    against = -math.log(rules.alpha * share * (1 - LATE_SHARE))

    def promote(margin: float) -> float:
        return step * _needed(law(margin, harmless), -1, -math.log(rules.beta))

    def rollback(harm: float) -> float:
        return step * _needed(law(size, harm), 1, against)

    promotes, rolls = promote(size), rollback(2 * size)
    promotes_in = math.ceil(max(promotes / seen, rules.least_pairs) + warmup) if promotes <= limit else None
    rolls_in = math.ceil(rolls / seen + warmup) if rolls <= limit else None
    top = 1.0 if unit != "ratio" else 100.0
    return Outlook(
        metric=rule.name,
        role=rule.role,
        unit=unit,
        margin=size,
        margin_text=margin_text(rule.margin, rule.measures),
        limit=limit,
        promote_pairs=promotes_in,
        promote_seconds=None if promotes_in is None else promotes_in / traffic.pairs_per_second,
        least_margin=_least(lambda margin: promote(margin) <= limit, harmless, top),
        rollback_pairs=rolls_in,
        rollback_seconds=None if rolls_in is None else rolls_in / traffic.pairs_per_second,
        least_harm=_least(lambda harm: rollback(harm) <= limit, size, top),
        share=seen,
    )


def _weight_of_all(rules: Rules) -> float:
    """What everything that can roll back weighs together."""
    able = [rule.weight for rule in rules.metrics if rule.role.rolls_back]
    able += [limit.weight for limit in rules.limits if limit.role.rolls_back]
    able += [gauge.weight for gauge in rules.gauges if gauge.role.rolls_back]
    return sum(able)


def _size(rule: MetricRule, unit: str) -> float:
    return rule.margin.relative if unit == "ratio" else rule.margin.absolute


def _law(rule: MetricRule, rules: Rules, traffic: Traffic) -> tuple[Excesses, float, str, float]:
    """The law of a step's excess, the harm of a harmless canary, the unit, and pairs a step."""
    if rule.measures == "latency":
        return _block_law(rules, traffic), 0.0, "ratio", rules.block_pairs
    if rule.measures == "disagreement":
        return _share_law(0.0), traffic.disagreement, "share", 1
    if rule.measures == "loss":
        return _loss_law(rule, traffic), 0.0, "ratio" if not rule.margin.absolute else "loss", 1
    if rule.margin.relative:
        return _relative_law(rule, traffic), 0.0, "ratio", 1
    discordance = traffic.discordance if rule.measures in ("accuracy", "drift") else 2 * traffic.error_rate
    return _share_law(discordance), 0.0, "share", 1


def _share_law(discordance: float) -> Excesses:
    def law(margin: float, harm: float) -> tuple[Floats, Floats]:
        worse, better = min(1.0, discordance / 2 + harm), discordance / 2
        chance = np.array([worse, better, max(0.0, 1 - worse - better)])
        return np.array([1.0, -1.0, 0.0]) - margin, chance / chance.sum()

    return law


def _relative_law(rule: MetricRule, traffic: Traffic) -> Excesses:
    """Failures of both sides taken as independent: the hardest case."""

    def law(margin: float, harm: float) -> tuple[Floats, Floats]:
        stable = traffic.error_rate
        canary = min(0.5, stable * (1 + harm))
        excess = np.array([1.0, -(1 + margin), 0.0]) - rule.margin.absolute
        return excess / (1 + margin), np.array([canary, stable, 1 - canary - stable])

    return law


def _loss_law(rule: MetricRule, traffic: Traffic) -> Excesses:
    def law(margin: float, harm: float) -> tuple[Floats, Floats]:
        excess = (traffic.loss_sd * _QUANTILES + harm - margin) / rule.reach
        return np.clip(excess, -1.0, 1.0), np.full(len(_QUANTILES), 1 / len(_QUANTILES))

    return law


def _block_law(rules: Rules, traffic: Traffic) -> Excesses:
    spread = _MEAN_OF_BLOCK * max(traffic.log_ratio_sd, 1e-6) / math.sqrt(rules.block_pairs)

    def law(margin: float, harm: float) -> tuple[Floats, Floats]:
        votes = (math.log1p(harm) - math.log1p(margin) + spread * _QUANTILES) / (SCALE_REACH * spread)
        return np.clip(votes, -1.0, 1.0), np.full(len(_QUANTILES), 1 / len(_QUANTILES))

    return law


def _needed(law: tuple[Floats, Floats], side: int, log_threshold: float) -> float:
    """Steps until the evidence typically crosses: the best single bet, its stake paid for."""
    excess, chance = law
    scale = max(1.0, float((-side * excess).max()))
    growth = np.log1p(np.multiply.outer(BETS, side * excess / scale)) @ chance
    steps = np.where(growth > 0, (log_threshold - LOG_WEIGHTS) / np.maximum(growth, 1e-12), np.inf)
    return float(steps.min())


def _least(enough: Callable[[float], bool], low: float, high: float) -> float | None:
    """The smallest value above `low` that is enough, to 1 %; None when not even `high` is."""
    if not enough(high * (1 - 1e-6)):
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
        if high - low < 0.01 * high:
            break
    return high


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _many(pairs: int) -> str:
    """A count to two significant digits: more would promise too much."""
    digits = max(0, len(str(pairs)) - 2)
    return f"{round(pairs, -digits):,}"
