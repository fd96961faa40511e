"""Recorded pairs drawn anew keep their noise, lose their direction, and take harm of a known size."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from haldane.domain.entries import LABEL_DTYPE
from haldane.domain.traffic import Batch, Status
from haldane.judge.gauges import Gauge, GaugeRule
from haldane.judge.margin import Margin
from haldane.judge.resample import Harm, Noise, comparable, harm, noise, paired, swapped
from haldane.judge.rules import MetricRule, Rules, Slice
from haldane.judge.series import from_series, series_rules
from haldane.testing.pairs import metric, pairs, rules

RULES = rules(metric("errors", "1pp"), metric("accuracy", "1pp"), metric("latency", "+10%"))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def uneven(n: int, **columns: Any) -> Batch:
    """Pairs whose canary is wrong more often and slower."""
    draw = rng(7)
    return pairs(
        n,
        stable_wrong=draw.random(n) < 0.02,
        canary_wrong=draw.random(n) < 0.10,
        stable_seconds=draw.lognormal(-4.6, 0.2, n),
        canary_seconds=1.5 * draw.lognormal(-4.6, 0.2, n),
        **columns,
    )


def source(table: Batch, by: Rules = RULES) -> Noise:
    return noise([table], by)


def test_swapping_keeps_every_pair_and_turns_whole_blocks() -> None:
    table = uneven(1000)
    made = swapped(table, block=10, rng=rng())
    same = (made["canary_seconds"] == table["canary_seconds"]).reshape(-1, 10)
    turned = (made["canary_seconds"] == table["stable_seconds"]).reshape(-1, 10)
    assert (same.all(axis=1) | turned.all(axis=1)).all()
    assert 30 < turned.all(axis=1).sum() < 70
    for name in ("wrong", "seconds", "status"):
        both = [np.sort(np.concatenate([one[f"stable_{name}"], one[f"canary_{name}"]])) for one in (table, made)]
        assert np.array_equal(*both)


def test_swapped_sides_do_not_differ_however_the_versions_do() -> None:
    made = swapped(uneven(20_000), block=4, rng=rng())
    assert made["canary_wrong"].mean() == pytest.approx(made["stable_wrong"].mean(), abs=0.006)
    assert np.median(np.log(made["canary_seconds"] / made["stable_seconds"])) == pytest.approx(0.0, abs=0.05)


def test_a_table_has_no_pairs_of_stable_with_itself_and_the_labels_that_came_later() -> None:
    batch = pairs(4, request=[11, 22, 33, 44], aa=[0, 1, 0, 0], stable_wrong=np.nan, canary_wrong=np.nan)
    labels = np.zeros(2, LABEL_DTYPE)
    labels["request"], labels["canary_wrong"] = [44, 99], [1, 1]
    table = paired([batch, labels])
    assert table["request"].tolist() == [11, 33, 44]
    assert table["canary_wrong"].tolist() == pytest.approx([np.nan, np.nan, 1.0], nan_ok=True)
    assert table["stable_wrong"].tolist() == pytest.approx([np.nan, np.nan, 0.0], nan_ok=True)


def test_a_log_without_pairs_is_an_empty_table() -> None:
    assert len(paired([])) == 0
    assert len(paired([np.zeros(1, LABEL_DTYPE)])) == 0


def test_a_stream_is_put_together_of_whole_stretches() -> None:
    table = pairs(1000, row=np.arange(1000))
    found = source(table)
    made = found.stream(500, rng())
    steps = np.diff(made["row"]).reshape(-1)
    assert len(made) == 500
    assert (steps == 1).sum() >= 500 - 500 // found.stretch - 1
    assert np.array_equal(made["seq"], np.arange(500))


def test_a_typical_difference_of_latency_is_no_noise() -> None:
    made = source(uneven(4000)).stream(4000, rng())
    ratio = np.log(made["canary_seconds"] / made["stable_seconds"])
    assert np.median(ratio.reshape(-1, 200), axis=1) == pytest.approx(np.zeros(20), abs=0.1)


def test_no_stretch_crosses_from_one_log_into_the_next() -> None:
    tables = [pairs(400, row=np.arange(400) + 1000 * log) for log in range(3)]
    found = noise(tables, RULES)
    for seed in range(20):
        rows = found.stream(300, rng(seed))["row"].reshape(-1, found.stretch)
        assert (rows // 1000 == rows[:, :1] // 1000).all()


def test_a_stretch_outlasts_declared_dependence_twenty_times() -> None:
    slow = replace(RULES, dependence_seconds=2.0, rate_per_second=10.0)
    assert source(pairs(2000), slow).stretch == 400
    assert source(pairs(1000), slow).stretch == 250  # four to choose from


def test_the_warm_up_of_each_server_is_no_noise() -> None:
    table = pairs(600, server=np.arange(600) % 2, row=np.arange(600))
    found = source(table, replace(RULES, warmup_pairs=50))
    assert found.pairs["row"].min() == 100


def test_too_few_pairs_are_said_to_be_too_few() -> None:
    with pytest.raises(ValueError, match="7 pairs past the warm-up are too few: give at least 12"):
        source(pairs(7))


@pytest.mark.parametrize(
    ("rule", "column"),
    [
        (metric("errors", "1pp"), "status"),
        (metric("accuracy", "2pp"), "wrong"),
        (metric("errors", "+100% +0.1pp"), "status"),
        (metric("loss", "0.02 loss"), "loss"),
    ],
)
def test_one_margin_of_harm_puts_the_canary_on_its_margin(rule: MetricRule, column: str) -> None:
    draw, n = rng(3), 40_000
    table = pairs(
        n,
        stable_status=np.where(draw.random(n) < 0.01, int(Status.INTERNAL), 0),
        canary_status=np.where(draw.random(n) < 0.01, int(Status.INTERNAL), 0),
        stable_wrong=draw.random(n) < 0.05,
        canary_wrong=draw.random(n) < 0.05,
        stable_loss=draw.beta(1, 9, n),
        canary_loss=draw.beta(1, 9, n),
    )
    found = harm(rule, source(table))
    assert found is not None
    made = found.into(table, 1.0, rng(5))
    answered = (table["canary_status"] == 0) | (column == "status")
    before, after, stable = (
        (values != 0).mean() if column == "status" else values.mean()
        for values in (
            table[f"canary_{column}"][answered],
            made[f"canary_{column}"][answered],
            table[f"stable_{column}"],
        )
    )
    assert after - before == pytest.approx(found.size, abs=0.0025)
    assert found.size == pytest.approx(rule.margin.relative * stable + rule.margin.absolute, abs=0.0015)


def test_latency_is_stretched_by_the_margin() -> None:
    table = uneven(1000)
    found = harm(metric("latency", "+10%"), source(table))
    assert found is not None
    made = found.into(table, 2.0, rng())
    assert made["canary_seconds"] == pytest.approx(1.2 * table["canary_seconds"])
    assert (found.size, found.unit) == (0.1, "ratio")


def test_failures_put_in_are_not_counted_as_wrong_answers_too() -> None:
    table = uneven(5000)
    found = harm(metric("errors", "5pp"), source(table))
    assert found is not None
    made = found.into(table, 1.0, rng())
    failed = made["canary_status"] != 0
    assert failed.sum() > 150
    assert not made["fresh"][failed].any()


def test_harm_in_a_slice_stays_in_the_slice() -> None:
    table = pairs(4000, slices=np.arange(4000) % 2)
    rule = replace(metric("accuracy", "5pp"), slice=0)
    found = harm(rule, source(table, replace(RULES, slices=(Slice(field="c", value="de"),))))
    assert found is not None
    made = found.into(table, 1.0, rng())
    assert made["canary_wrong"][table["slices"] == 0].sum() == 0
    assert made["canary_wrong"][table["slices"] == 1].mean() == pytest.approx(0.05, abs=0.02)


def test_no_harm_can_be_put_where_there_are_no_data() -> None:
    blind = source(pairs(1000, stable_wrong=np.nan, canary_wrong=np.nan))
    assert harm(metric("accuracy", "1pp"), blind) is None
    assert harm(metric("disagreement", "1pp"), blind) is None


def test_all_answers_bad_is_the_most_harm_there_is() -> None:
    found = harm(metric("errors", "5pp"), source(pairs(1000)))
    assert isinstance(found, Harm)
    assert found.most == pytest.approx(20.0)
    assert (found.into(pairs(100), 1000.0, rng())["canary_status"] != 0).all()


def test_what_swapping_cannot_try_is_named() -> None:
    cpu = GaugeRule(name="queue", kind=Gauge.QUERY, query="q", margin=0.1)
    mixed = rules(metric("errors", "1pp"), metric("disagreement", "1pp"), gauges=(cpu,))
    kept, names = comparable(mixed)
    assert ([rule.name for rule in kept.metrics], names) == (["errors"], ("disagreement", "queue"))
    with pytest.raises(ValueError, match="nothing to try on pairs: disagreement"):
        comparable(rules(metric("disagreement", "1pp")))


def test_series_are_pairs_a_step_apart_and_the_worse_side_is_above() -> None:
    at, ones = np.array([60.0, 75.0, 90.0]), np.ones(3)
    higher = from_series(at, ones, 2 * ones)
    lower = from_series(at, ones, 2 * ones, lower_is_worse=True)
    assert higher["at"].tolist() == [0.0, 15.0, 30.0]
    assert (higher["canary_seconds"][0], lower["canary_seconds"][0]) == (2.0, 1.0)
    assert np.isnan(higher["canary_wrong"]).all()
    with pytest.raises(ValueError, match="above 0"):
        from_series(at, ones, 0 * ones)


@pytest.mark.parametrize(("step", "block"), [(5.0, 12), (15.0, 4), (60.0, 4)])
def test_a_series_is_judged_in_blocks_of_a_minute_or_four_steps(step: float, block: int) -> None:
    made = series_rules(RULES, 0.1, name="heap", points=500, step_seconds=step)
    assert made.block_pairs == block
    assert made.metrics[0].margin == Margin(relative=0.1)
    assert (made.alpha, made.last_pair, made.least_pairs) == (RULES.alpha, 500, 0)
