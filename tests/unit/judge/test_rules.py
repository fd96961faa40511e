import json
from typing import Any

import pytest

from haldane.domain.evidence import Role
from haldane.judge.margin import Margin
from haldane.judge.rules import MetricRule, Rules, Slice, Tail
from haldane.testing.pairs import metric, rules


def test_rules_come_back_from_their_json_unchanged() -> None:
    tails = Tail(quantile=0.95), Tail(quantile=0.99, margin=0.4)
    some = rules(metric("errors", "1pp"), metric("latency", "+10%", Role.GUARDRAIL, tails=tails), alpha=0.02)
    assert Rules.from_json(some.to_json()) == some
    assert Rules.from_json(some.to_json()).digest == some.digest


@pytest.mark.parametrize(
    ("stored", "tails"),
    [
        ({"tail_quantile": 0.99, "tail_margin": 0.4}, (Tail(quantile=0.99, margin=0.4),)),
        ({"tail_quantile": 0.99}, (Tail(quantile=0.99),)),
        ({"tail_quantile": None, "tail_margin": 0.25}, ()),
    ],
)
def test_rules_stored_with_a_single_tail_are_still_read(stored: dict[str, Any], tails: tuple[Tail, ...]) -> None:
    text = json.loads(rules(metric("latency", "+10%")).to_json())
    del text["metrics"][0]["tails"]
    text["metrics"][0] |= stored
    assert Rules.from_json(json.dumps(text)).metrics[0].tails == tails


def test_other_rules_have_another_digest() -> None:
    assert rules(metric("errors", "1pp")).digest != rules(metric("errors", "2pp")).digest


def _changed(**values: Any) -> str:
    return json.dumps({**json.loads(rules().to_json()), **values})


def _latency(**values: Any) -> dict[str, Any]:
    return {"name": "latency", "role": "objective", "margin": {"relative": 0.1}, **values}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "no schema"),
        ("{}", "no schema"),
        (_changed(schema=3), "schema 3"),
        (_changed(gamma=0.1), "unknown key gamma"),
        (_changed(metrics="errors"), "must be a list"),
        (_changed(metrics=[{"name": "errors"}]), "Role"),
        (_changed(metrics=[{"name": "errors", "role": "objective"}]), "margin"),
        (_changed(metrics=[]), "at least one metric"),
        (_changed(metrics=[_latency(tails=0.99)]), "tails must be a list"),
        (_changed(metrics=[_latency(tails=[{"quantile": 0.99, "margn": 1}])]), "unknown key margn"),
        (_changed(metrics=[_latency(tails=[{"quantile": 1.5}])]), "between 0.5 and 1"),
        (_changed(alpha=0), "alpha"),
    ],
)
def test_json_that_is_not_rules_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Rules.from_json(text)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("alpha", 0.0),
        ("alpha", 1.0),
        ("beta", -0.1),
        ("alpha", float("nan")),
        ("horizon_pairs", 0),
        ("budget_seconds", 0.0),
        ("rate_per_second", 0.0),
        ("dependence_seconds", -1.0),
        ("entry_pairs", 0),
    ],
)
def test_rules_that_cannot_be_kept_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=setting):
        rules(**{setting: value})


def test_a_metric_is_judged_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        rules(metric("errors", "1pp"), metric("errors", "2pp"))


@pytest.mark.parametrize(
    ("name", "margin", "more"),
    [
        ("throughput", Margin(absolute=0.1), {}),
        ("latency", Margin(absolute=0.1), {}),
        ("accuracy", Margin(relative=0.1), {}),
        ("errors", Margin(absolute=1.0), {}),
        ("errors", Margin(absolute=0.1), {"weight": 0.0}),
        ("errors", Margin(absolute=0.1), {"share": 0.0}),
        ("errors", Margin(absolute=0.1), {"share": 1.5}),
        ("errors", Margin(absolute=0.1), {"tails": (Tail(quantile=0.99),)}),
        ("latency", Margin(relative=0.1), {"tails": (Tail(quantile=0.9), Tail(quantile=0.9))}),
    ],
)
def test_a_metric_rule_that_makes_no_sense_is_refused(name: str, margin: Margin, more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=name):
        MetricRule(name=name, role=Role.OBJECTIVE, margin=margin, **more)


def test_a_rule_of_a_slice_that_is_not_there_is_refused() -> None:
    german = Slice(field="country", value="DE")
    with pytest.raises(ValueError, match="accuracy country=DE: there is no slice 1"):
        rules(metric("accuracy country=DE", "1pp", kind="accuracy", slice=1), slices=(german,))


def test_slices_come_back_from_their_json_unchanged() -> None:
    german = Slice(field="country", value="DE")
    some = rules(metric("accuracy country=DE", "1pp", kind="accuracy", slice=0), slices=(german,))
    assert Rules.from_json(some.to_json()) == some
