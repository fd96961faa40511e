"""Before the hearing: what this traffic can show under these rules, and in which time.

Expected figures for a typical run, not promises: half of all runs take
longer. Source: the growth rate of the best bet of the grid; Wald, Sequential
Tests of Statistical Hypotheses (log(1/a) over the information per pair).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from haldane.domain.evidence import Role
from haldane.judge import laws
from haldane.judge.gauges import Gauge, GaugeRule
from haldane.judge.laws import Law, steps_needed
from haldane.judge.limit import LimitRule
from haldane.judge.margin import margin_text
from haldane.judge.rules import MetricRule, Rules, Tail
from haldane.judge.traffic import Traffic
from haldane.stats.betting import FAILURES, LATE_SHARE, MEANS, VOTES, Sides
from haldane.stats.blocks import OPENING_HARM, OPENING_HARMLESS, OPENING_SHARE
from haldane.stats.drift import LEARNING_PAIRS, PLACES
from haldane.stats.tail import TAILS_SHARE, least_pairs

LATE_TRUTH = ("accuracy", "loss")  # measures that need the right answers
OUTPUTS = (*LATE_TRUTH, "disagreement", "drift")  # measures that take a row once, warm-up included


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
    bound: str = "margin"  # or "limit": then harm is what canary does, not how it differs
    fact: bool = False  # measured once on each server, so nothing is waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """One metric as the forecast asks about it."""

    name: str
    role: Role
    weight: float
    unit: str
    margin: float
    text: str
    law: Law
    harmless: float = 0.0  # the harm of a harmless canary
    step: float = 1.0  # pairs a step of evidence
    harm_step: float | None = None  # the same for harm, where it differs
    start: float = 0.0  # pairs before the first that counts
    reach: int | None = None  # pairs it can have at all
    share: float = 1.0  # of all pairs
    against: float = 0.0  # what the evidence for harm is divided by, in nats
    in_favour: float = 0.0
    harm_law: Law | None = None
    bound: str = "margin"
    top: float = 1.0  # no harm is larger
    bets: Sides = MEANS
    opening: bool = False  # the first steps count in part only


def forecast(rules: Rules, traffic: Traffic) -> tuple[Outlook, ...]:
    """What can be shown under these rules with this traffic: each metric, its tail, each limit and gauge."""
    weights = [(rule.role, rule.weight) for rule in rules.metrics]
    weights += [(limit.role, limit.weight) for limit in rules.limits]
    weights += [(gauge.role, gauge.weight) for gauge in rules.gauges]
    total = sum(weight for role, weight in weights if role.rolls_back) or 1.0
    asked = [_outlook(question, rules, traffic, total) for question in _questions(rules, traffic)]
    return (*asked, *(_fact(rule) for rule in rules.gauges if rule.kind.fact))


def _questions(rules: Rules, traffic: Traffic) -> Iterator[_Question]:
    for rule in rules.metrics:
        yield _metric(rule, rules.seen_by(rule), traffic)
        yield from (_tail(rule, tail, rules.seen_by(rule), traffic) for tail in rule.tails)
    yield from (_limit(limit, rules, traffic) for limit in rules.limits)
    # Growth has no stable side to be compared with: how it spreads is not known before.
    yield from (_gauge(one, traffic) for one in rules.gauges if not one.kind.fact and one.kind is not Gauge.GROWTH)


def _outlook(asked: _Question, rules: Rules, traffic: Traffic, total: float) -> Outlook:
    rate = traffic.pairs_per_second
    left = max(0.0, rules.budget_seconds * rate - asked.start)
    reach = math.inf if asked.reach is None else asked.reach
    limit = int(min(rules.horizon_pairs, left, reach) * asked.share)
    weight = asked.weight / total if asked.role.rolls_back else 1.0
    against = asked.against - math.log(rules.alpha * weight * (1 - LATE_SHARE))

    lost = (OPENING_HARM * (1 - OPENING_SHARE), OPENING_HARMLESS) if asked.opening else (0.0, 0.0)

    def promote(margin: float) -> float:
        needed = asked.in_favour - math.log(rules.beta)
        return asked.step * (lost[1] + steps_needed(asked.law(margin, asked.harmless), -1, needed, asked.bets.harmless))

    def rollback(harm: float) -> float:
        law = asked.harm_law or asked.law
        return (asked.harm_step or asked.step) * (
            lost[0] + steps_needed(law(asked.margin, harm), 1, against, asked.bets.harm)
        )

    promotes, rolls = promote(asked.margin), rollback(2 * asked.margin)
    promotes_in = math.ceil(max(promotes / asked.share, rules.least_pairs) + asked.start) if promotes <= limit else None
    rolls_in = math.ceil(rolls / asked.share + asked.start) if rolls <= limit else None
    return Outlook(
        metric=asked.name,
        role=asked.role,
        unit=asked.unit,
        margin=asked.margin,
        margin_text=asked.text,
        limit=limit,
        promote_pairs=promotes_in,
        promote_seconds=None if promotes_in is None else promotes_in / rate,
        least_margin=_least(lambda margin: promote(margin) <= limit, asked.harmless, asked.top),
        rollback_pairs=rolls_in,
        rollback_seconds=None if rolls_in is None else rolls_in / rate,
        least_harm=_least(lambda harm: rollback(harm) <= limit, asked.margin, asked.top),
        share=asked.share,
        bound=asked.bound,
    )


def _metric(rule: MetricRule, rules: Rules, traffic: Traffic) -> _Question:
    outputs = rule.measures in OUTPUTS
    relative = rule.measures == "latency" or bool(rule.margin.relative and not (rule.margin.absolute and outputs))
    asked = _Question(
        name=rule.name,
        role=rule.role,
        weight=rule.weight,
        unit="ratio" if relative else "loss" if rule.measures == "loss" else "share",
        margin=rule.margin.relative if relative else rule.margin.absolute,
        text=margin_text(rule.margin, rule.measures),
        law=laws.share_law(traffic.discordance),
        start=0 if outputs else rules.warmup_pairs * traffic.servers,
        reach=traffic.labelled_rows if outputs else None,
        share=traffic.share_of(rule, rules),
        top=100.0 if relative else rule.reach if rule.measures == "loss" else 1.0,
    )
    match rule.measures:
        case "accuracy":
            return asked
        case "latency":
            tail = -math.log(1 - TAILS_SHARE) if rule.tails else 0.0  # its share beside the tails
            opening = rules.dependence_seconds > 0
            asked = replace(asked, law=laws.latency_law(rules, traffic), step=rules.block_pairs, against=tail)
            return replace(asked, bets=VOTES, opening=opening)
        case "loss":
            return replace(asked, law=laws.loss_law(rule, traffic))
        case "disagreement":
            asked = replace(asked, law=laws.share_law(0.0), harmless=traffic.disagreement)
            if not rule.floor:
                return asked
            rounds, step = laws.round_law(traffic), laws.pairs_a_round(traffic)
            return replace(asked, harm_law=rounds, harm_step=step, in_favour=math.log(2))  # averaged with the rounds'
        case "drift":
            return replace(asked, start=LEARNING_PAIRS, against=math.log(2 * PLACES))
        case _:  # errors
            law = laws.share_law(2 * traffic.error_rate)
            if rule.margin.relative:
                law = laws.relative_law(rule, traffic)
            return replace(asked, law=law, bets=FAILURES)


def _tail(rule: MetricRule, tail: Tail, rules: Rules, traffic: Traffic) -> _Question:
    """It can only show harm, at the middle one of its three thresholds."""
    return _Question(
        name=f"{rule.name} p{100 * tail.quantile:g}",
        role=rule.role if not rule.role.rolls_back else Role.GUARDRAIL,
        weight=rule.weight,
        unit="ratio",
        margin=tail.margin,
        text=f"+{100 * tail.margin:g}%",
        law=laws.tail_law(tail.quantile, rules, traffic),
        step=rules.block_pairs,
        start=rules.warmup_pairs * traffic.servers + least_pairs(tail.quantile),
        share=traffic.share_of(rule, rules),
        against=math.log(3 * len(rule.tails) / TAILS_SHARE),
        bets=VOTES,
        top=100.0,
    )


def _limit(limit: LimitRule, rules: Rules, traffic: Traffic) -> _Question:
    """Canary alone; a harmless one is taken to be bad as often as stable fails, or a tenth as often as it may."""
    usual = traffic.error_rate if limit.measures == "errors" else limit.share / 10
    return _Question(
        name=limit.name,
        role=limit.role,
        weight=limit.weight,
        unit="rate",
        margin=limit.share,
        text=limit.name.rpartition(" ")[2],
        law=laws.limit_law(),
        harmless=min(usual, limit.share / 2),
        start=rules.warmup_pairs * traffic.servers,
        bound="limit",
    )


def _gauge(rule: GaugeRule, traffic: Traffic) -> _Question:
    law, part = laws.block_law(traffic.gauge_sd), 2.0 if rule.kind is Gauge.CPU else 1.0  # stable is half of a pair
    return _Question(
        name=rule.name,
        role=rule.role,
        weight=rule.weight,
        unit="ratio",
        margin=rule.ratio * part,
        text=f"{'+' if rule.higher_is_worse else '-'}{100 * rule.margin:g}%",
        law=lambda margin, harm: law(margin / part, harm / part),
        step=rule.vote_seconds * traffic.pairs_per_second,
        start=rule.warmup_seconds * traffic.pairs_per_second,
        bets=VOTES,
        top=100.0,
    )


def _fact(rule: GaugeRule) -> Outlook:
    limit = rule.limit if rule.limit is not None else rule.margin
    return Outlook(
        metric=rule.name,
        role=rule.role,
        unit="ratio",
        margin=limit,
        margin_text=f"{limit:g}",
        limit=0,
        promote_pairs=0,
        promote_seconds=0.0,
        least_margin=None,
        rollback_pairs=0,
        rollback_seconds=0.0,
        least_harm=None,
        fact=True,
    )


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
