"""A policy held against recorded traffic: how often it errs there, and the least harm it finds.

Three questions, each answered by judging streams of which the truth is known:
alarms where both sides are alike, verdicts where the canary sits exactly on a
margin, and the smallest harm that is found in most streams. Chance is passed
in; the same seed gives the same answers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from haldane.domain.evidence import Role, Verdict
from haldane.domain.traffic import Batch
from haldane.judge.analysis import Analysis
from haldane.judge.resample import Harm, Noise, Rng, harm, swapped
from haldane.judge.rules import Rules
from haldane.stats.binomial import Rate

LOOK_PAIRS = 200  # between looks; the promises hold for any, and more looks only take longer
POWER = 0.8  # of streams in which harm must be found to be called detectable
FARTHEST = 64.0  # margins; harm beyond that is not searched for
HALVINGS = 4  # of the search between two sizes of harm: to about 6 % of the larger

SEARCH_FEWEST = 20  # streams for each size that is tried; a quarter of the trials will do to find one

Tick = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one stream led to first, and after how many pairs."""

    verdict: Verdict
    pairs: int


def judged(rules: Rules, pairs: Batch) -> Outcome:
    """Judge the pairs, with a look after every LOOK_PAIRS, up to the first verdict."""
    analysis = Analysis(rules)
    for first in range(0, len(pairs), LOOK_PAIRS):
        analysis.fold(pairs[first : first + LOOK_PAIRS])
        if analysis.hearing.verdict is not Verdict.CONTINUE:
            return Outcome(analysis.hearing.verdict, analysis.hearing.judged)
        if analysis.hearing.pairs >= rules.last_pair:
            break
    return Outcome(Verdict.INCONCLUSIVE, analysis.hearing.judged)


@dataclass(frozen=True, slots=True)
class Tally:
    """Many outcomes, counted."""

    rollback: Rate
    promotion: Rate
    pairs: float | None = None  # median to a rollback; None without one


def tally(outcomes: Sequence[Outcome]) -> Tally:
    """The outcomes, counted."""
    back = [one.pairs for one in outcomes if one.verdict is Verdict.FAIL]
    passed = sum(one.verdict is Verdict.PASS for one in outcomes)
    return Tally(Rate(len(back), len(outcomes)), Rate(passed, len(outcomes)), median(back) if back else None)


def alike(rules: Rules, tables: Sequence[Batch], *, times: int, rng: Rng) -> Iterator[Outcome]:
    """Each log in turn with its sides swapped block by block: a rollback of one is a false alarm.

    Whether blocks are as independent as declared does not show here, since a
    coin decides for each; it shows on the edge, in `sensitivities`.
    """
    for number in range(times):
        table = tables[number % len(tables)]
        yield judged(rules, swapped(table, block=rules.block_pairs, rng=rng))


def length(rules: Rules, source: Noise) -> int:
    """Pairs in a stream: the horizon, or what the budget of time allows at the recorded rate."""
    return max(1, min(rules.last_pair, math.floor(rules.last_second * source.rate)))


def streams(rules: Rules, source: Noise, put_in: Harm, margins: float, *, seeds: Sequence[int]) -> Iterator[Outcome]:
    """One outcome per seed, of streams with so many margins of harm. A seed keeps its noise whatever the harm."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        drawn = source.stream(length(rules, source), rng)
        yield judged(rules, put_in.into(drawn, margins, rng))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What the policy does about one metric on this noise; harm in `unit`.

    `edge`: verdicts with the canary exactly on its margin, where a rollback
    and a promotion are both errors; `found`: the smallest harm rolled back in
    at least 80 % of streams, None when there is none within reach.
    """

    metric: str
    role: Role
    unit: str
    margin: float
    edge: Tally
    found: float | None
    power: Rate | None  # at `found`
    pairs: float | None  # median to the rollback at `found`


def sensitivities(
    rules: Rules, source: Noise, *, times: int, rng: Rng, tick: Tick = lambda: None
) -> Iterator[Sensitivity]:
    """One metric after the other; `tick` is called after every stream. Metrics without data are left out."""
    rules = replace(rules, warmup_pairs=0)  # the noise is warm
    for rule in rules.metrics:
        put_in = harm(rule, source)
        if put_in is None or not rule.role.rolls_back:
            continue
        seeds = rng.integers(0, 2**63, times).tolist()
        edge = []
        for outcome in streams(rules, source, put_in, 1.0, seeds=seeds):
            edge.append(outcome)
            tick()
        margins, at_found = _smallest(rules, source, put_in, seeds[: max(SEARCH_FEWEST, times // 4)], tick)
        yield Sensitivity(
            metric=rule.name,
            role=rule.role,
            unit=put_in.unit,
            margin=put_in.size,
            edge=tally(edge),
            found=None if margins is None else margins * put_in.size,
            power=at_found.rollback if at_found else None,
            pairs=at_found.pairs if at_found else None,
        )


def _smallest(
    rules: Rules, source: Noise, put_in: Harm, seeds: Sequence[int], tick: Tick
) -> tuple[float | None, Tally | None]:
    """The least number of margins that is found: doubled until it is, then halved in between."""
    farthest = min(FARTHEST, put_in.most)
    low, high, found = 1.0, min(2.0, farthest), None
    while (found := _enough(rules, source, put_in, high, seeds, tick)) is None:
        if high >= farthest:
            return None, None
        low, high = high, min(2 * high, farthest)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if at_middle := _enough(rules, source, put_in, middle, seeds, tick):
            high, found = middle, at_middle
        else:
            low = middle
    return high, found


def _enough(
    rules: Rules, source: Noise, put_in: Harm, margins: float, seeds: Sequence[int], tick: Tick
) -> Tally | None:
    """The tally when harm of that size is found often enough, else None as soon as it cannot be any more."""
    outcomes, misses = [], 0
    for outcome in streams(rules, source, put_in, margins, seeds=seeds):
        outcomes.append(outcome)
        misses += outcome.verdict is not Verdict.FAIL
        tick()
        if misses > (1 - POWER) * len(seeds):
            return None
    return tally(outcomes)
