"""Absolute limits: as people write them, and on the canary alone."""

from typing import Any

import numpy as np
import pytest

from haldane.domain.evidence import Finding, Ruling, State, Verdict
from haldane.domain.traffic import Batch, Status
from haldane.judge.analysis import Analysis
from haldane.judge.explain import explain
from haldane.judge.limit import LimitRule, parse_limits
from haldane.judge.rules import Rules
from haldane.testing.pairs import metric, pairs, rules

ONE_PERCENT = LimitRule(measures="errors", share=0.01)
QUARTER_SECOND = LimitRule(measures="latency", share=0.01, seconds=0.25)


def ruled(some: Rules, *batches: Batch, **more: Any) -> Ruling:
    analysis = Analysis(some)
    for batch in batches:
        analysis.fold(batch)
    return analysis.ruling(1.0, **more)


def only(ruling: Ruling, name: str) -> Finding:
    return next(finding for finding in ruling.findings if finding.metric == name)


@pytest.mark.parametrize(
    ("given", "metric", "limits"),
    [
        ("1%", "errors", [("errors limit 1%", 0.01, None)]),
        ("0.05 %", "errors", [("errors limit 0.05%", 0.0005, None)]),
        ({"p99": "250ms"}, "latency", [("latency p99 limit 250ms", 0.01, 0.25)]),
        (
            {"p50": "2s", "p99.9": "1500 ms"},
            "latency",
            [("latency p50 limit 2000ms", 0.5, 2.0), ("latency p99.9 limit 1500ms", 0.001, 1.5)],
        ),
    ],
)
def test_a_limit_is_read_as_people_write_it(given: object, metric: str, limits: list[Any]) -> None:
    found = [(limit.name, pytest.approx(limit.share), limit.seconds) for limit in parse_limits(given, metric)]
    assert found == limits


@pytest.mark.parametrize(
    ("given", "metric", "complaint"),
    [
        ("1", "errors", 'no unit; write for example "1%"'),
        (0.01, "errors", "no unit"),
        ("1pp", "errors", "cannot be read"),
        ("0%", "errors", "above 0 %"),
        ("100%", "errors", "below 100 %"),
        ("250ms", "latency", "names no quantile; write for example {p99: 250ms}"),
        ({}, "latency", "names no quantile"),
        ({"p99": 250}, "latency", "p99: 250 for latency has no unit"),
        ({"p99": "soon"}, "latency", "is no time"),
        ({"p99": "0ms"}, "latency", "above 0"),
        ({"q99": "1s"}, "latency", "'q99' is no quantile"),
        ({"p0": "1s"}, "latency", "below 100 %"),
        ("5%", "accuracy", "accuracy takes none"),
    ],
)
def test_a_limit_that_says_nothing_is_refused(given: object, metric: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_limits(given, metric)


def test_limits_come_back_from_their_json_unchanged() -> None:
    some = rules(metric("errors", "1pp"), limits=(ONE_PERCENT, QUARTER_SECOND))
    assert Rules.from_json(some.to_json()) == some


def test_a_canary_no_worse_than_a_bad_stable_fails_on_the_limit() -> None:
    """Both fail at three percent, each on requests of its own."""
    n = np.arange(4000)
    bad = pairs(
        4000,
        stable_status=np.where(n % 33 == 0, Status.INTERNAL, Status.OK),
        canary_status=np.where(n % 33 == 1, Status.INTERNAL, Status.OK),
    )
    ruling = ruled(rules(metric("errors", "1pp"), limits=(ONE_PERCENT,)), *np.array_split(bad, 40))
    assert ruling.verdict is Verdict.FAIL
    assert ruling.named == ("errors limit 1%",)
    assert only(ruling, "errors").state is State.UNDECIDED or only(ruling, "errors").state is State.HARMLESS
    text = " ".join(explain(ruling, rules()))
    assert "share of the canary's requests that failed 3.0" in text
    assert "limit 1 %" in text and "beyond the limit" in text


def test_a_canary_as_slow_as_stable_fails_on_the_limit() -> None:
    slow = np.where(np.arange(4000) % 20 == 0, 0.3, 0.01)
    ruling = ruled(
        rules(metric("latency", "+10%"), limits=(QUARTER_SECOND,)),
        *np.array_split(pairs(4000, stable_seconds=slow, canary_seconds=slow), 40),
    )
    assert ruling.named == ("latency p99 limit 250ms",)


def test_a_time_out_is_beyond_any_limit_and_other_failures_take_no_time() -> None:
    status = np.array([Status.TIMEOUT, Status.INTERNAL, Status.OK])
    some = rules(metric("errors", "1pp"), limits=(QUARTER_SECOND,))
    found = only(ruled(some, pairs(3, canary_status=status)), QUARTER_SECOND.name)
    assert (found.pairs, found.estimate) == (2, 0.5)


def test_a_limit_takes_what_canary_answered_while_stable_was_not_asked() -> None:
    times = [0.3, 0.01, np.nan]
    gone = pairs(3, stable_status=Status.NOT_FOUND, canary_seconds=times)
    found = only(ruled(rules(metric("errors", "1pp"), limits=(QUARTER_SECOND,)), gone), QUARTER_SECOND.name)
    assert (found.pairs, found.estimate) == (2, 0.5)


def test_a_limit_is_judged_without_a_baseline() -> None:
    """Stable's side is never looked at, whatever stands there."""
    some = rules(limits=(ONE_PERCENT, QUARTER_SECOND))
    failed = np.where(np.arange(1000) % 10 == 0, Status.INTERNAL, Status.OK)
    batch = pairs(1000, canary_status=failed, stable_seconds=np.nan)
    ruling = ruled(some, batch)
    assert ruling.verdict is Verdict.FAIL and ruling.named == (ONE_PERCENT.name,)


def test_a_limit_that_is_kept_withdraws_nothing_and_says_so() -> None:
    ruling = ruled(rules(metric("errors", "1pp"), limits=(ONE_PERCENT, QUARTER_SECOND)), pairs(3000))
    assert ruling.verdict is Verdict.PASS
    assert {only(ruling, limit.name).state for limit in (ONE_PERCENT, QUARTER_SECOND)} == {State.HARMLESS}


def test_two_limits_of_one_quantile_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        rules(limits=(ONE_PERCENT, ONE_PERCENT))


@pytest.mark.parametrize(
    "wrong",
    [
        {"measures": "accuracy", "share": 0.1},
        {"measures": "latency", "share": 0.1},
        {"measures": "errors", "share": 0.1, "seconds": 1.0},
        {"measures": "errors", "share": 0.1, "weight": 0.0},
        {"measures": "errors", "share": float("nan")},
    ],
)
def test_a_limit_rule_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=wrong["measures"]):
        LimitRule(**wrong)
