"""A policy held against traffic of which the truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from haldane.domain.evidence import Role, Verdict
from haldane.domain.traffic import Batch
from haldane.judge.backtest import LOOK_PAIRS, Outcome, alike, judged, length, sensitivities, streams, tally
from haldane.judge.resample import harm, noise, paired
from haldane.judge.rules import Rules
from haldane.stats.binomial import Rate
from haldane.testing.gallery import canary_pairs
from haldane.testing.pairs import metric, pairs, rules

SHORT = rules(metric("accuracy", "2pp"), metric("latency", "+15%"), horizon_pairs=2000, rate_per_second=20.0)
GOOD = paired(canary_pairs(3000))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_stream_ends_with_its_first_verdict() -> None:
    bad = judged(SHORT, paired(canary_pairs(2000, wrong=0.3)))
    assert bad.verdict is Verdict.FAIL
    assert bad.pairs == LOOK_PAIRS
    assert judged(SHORT, GOOD).verdict is Verdict.PASS


def test_a_stream_without_a_verdict_is_inconclusive_at_the_horizon() -> None:
    strict = rules(metric("accuracy", "0.01pp"), horizon_pairs=600)
    assert judged(strict, GOOD) == Outcome(Verdict.INCONCLUSIVE, 600)


def test_swapped_sides_raise_no_alarm_where_the_versions_differ() -> None:
    """The recorded canary is harmful, and the swapped log is not: noise is counted, not harm."""
    harmful = paired(canary_pairs(2000, wrong=0.06, slower=1.4))
    assert judged(SHORT, harmful).verdict is Verdict.FAIL
    found = tally(list(alike(SHORT, [harmful], times=40, rng=rng())))
    assert found.rollback.hits == 0


def test_noise_that_lasts_longer_than_declared_shows_on_the_edge() -> None:
    """What a user wants to learn before the first rollout: this declaration does not fit this service."""
    draw, n = rng(4), 12_000
    burst = np.repeat(draw.normal(0.0, 0.5, n // 100), 100)  # one arm slower or faster for a second
    table = pairs(n, canary_seconds=0.01 * np.exp(burst + draw.normal(0, 0.05, n)))

    def rolled_back(dependence_seconds: float) -> Rate:
        by = rules(
            metric("latency", "+1%"), horizon_pairs=n, dependence_seconds=dependence_seconds, rate_per_second=100.0
        )
        source = noise([table], by)
        put_in = harm(by.metrics[0], source)
        assert put_in is not None
        return tally(list(streams(by, source, put_in, 1.0, seeds=range(40)))).rollback

    assert rolled_back(0.0).low > 0.01
    assert rolled_back(1.0).hits <= 2


def test_logs_take_turns_and_the_same_seed_gives_the_same_outcomes() -> None:
    tables = [GOOD, paired(canary_pairs(600, seed=5))]
    first = list(alike(SHORT, tables, times=6, rng=rng(3)))
    assert first == list(alike(SHORT, tables, times=6, rng=rng(3)))
    assert {one.pairs <= 600 for one in first[1::2]} == {True}


@pytest.mark.parametrize(("more", "pairs_"), [({"budget_seconds": 50.0}, 1000), ({}, 2000)])
def test_a_stream_is_as_long_as_horizon_and_budget_allow(more: dict[str, float], pairs_: int) -> None:
    limited = replace(SHORT, **more)  # type: ignore[arg-type]
    assert length(limited, noise([GOOD], limited)) == pytest.approx(pairs_, abs=1)


def harm_of(name: str, by: Rules, table: Batch = GOOD) -> float:
    """Share of streams with three margins of that harm that are rolled back."""
    source = noise([table], by)
    put_in = harm(next(rule for rule in by.metrics if rule.name == name), source)
    assert put_in is not None
    found = tally(list(streams(by, source, put_in, 3.0, seeds=range(20))))
    assert found.rollback.share is not None
    return found.rollback.share


@pytest.mark.parametrize("name", ["accuracy", "latency"])
def test_harm_far_beyond_the_margin_is_found(name: str) -> None:
    assert harm_of(name, SHORT) == 1.0


def test_what_is_found_lies_beyond_the_margin_and_most_streams_find_it() -> None:
    ticks: list[int] = []
    found = list(sensitivities(SHORT, noise([GOOD], SHORT), times=20, rng=rng(), tick=lambda: ticks.append(1)))
    assert [one.metric for one in found] == ["accuracy", "latency"]
    for one in found:
        assert one.edge.rollback.hits <= 1
        assert one.edge.promotion.hits <= 3
        assert one.found is not None and one.power is not None
        assert one.margin < one.found < 4 * one.margin
        assert one.power.hits >= 16
    assert len(ticks) >= 40


def test_with_less_evidence_only_larger_harm_is_found() -> None:
    def smallest(horizon: int) -> float:
        by = rules(metric("accuracy", "2pp"), horizon_pairs=horizon, rate_per_second=20.0)
        (one,) = sensitivities(by, noise([GOOD], by), times=20, rng=rng())
        assert one.found is not None
        return one.found

    assert smallest(400) > smallest(4000)


def test_harm_that_cannot_be_found_in_time_is_none() -> None:
    by = rules(metric("accuracy", "90pp"), horizon_pairs=200, rate_per_second=20.0, alpha=1e-30)
    (one,) = sensitivities(by, noise([GOOD], by), times=20, rng=rng())
    assert (one.found, one.power, one.pairs) == (None, None, None)


def test_metrics_that_never_roll_back_or_have_no_data_are_left_out() -> None:
    blind = GOOD.copy()
    blind["stable_loss"] = np.nan
    by = rules(
        metric("accuracy", "20pp", Role.INFO), metric("loss", "0.5 loss"), metric("errors", "50pp"), horizon_pairs=300
    )
    assert [one.metric for one in sensitivities(by, noise([blind], by), times=20, rng=rng())] == ["errors"]


def test_outcomes_are_counted() -> None:
    outcomes = [Outcome(Verdict.FAIL, 10), Outcome(Verdict.FAIL, 30), Outcome(Verdict.PASS, 5)]
    found = tally([*outcomes, Outcome(Verdict.INCONCLUSIVE, 99)])
    assert (found.rollback, found.promotion, found.pairs) == (Rate(2, 4), Rate(1, 4), 20)
    assert tally([]).pairs is None
