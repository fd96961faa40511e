"""Slices: their rules and shares, who belongs to one, and what is said of it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from haldane.domain.evidence import Finding, Role, Ruling, State, Verdict
from haldane.domain.traffic import Batch
from haldane.judge.analysis import Analysis
from haldane.judge.explain import explain
from haldane.judge.margin import parse_margin
from haldane.judge.rules import Rules, Slice, Tail
from haldane.judge.slices import SliceRule, as_text, membership, sliced
from haldane.judge.verdict import why_failed
from haldane.testing.pairs import metric, pairs, rules

DE, FR = Slice(field="country", value="DE"), Slice(field="country", value="FR")
ACCURACY, ERRORS = metric("accuracy", "3pp", weight=0.4), metric("errors", "1pp", weight=0.3)


def slice_rule(one: Slice, role: Role = Role.GUARDRAIL, **margins: str | None) -> SliceRule:
    parsed = {name: text and parse_margin(text, name) for name, text in (margins or {"accuracy": None}).items()}
    return SliceRule(slice=one, role=role, margins=parsed)  # type: ignore[arg-type]


def by_country(*more: SliceRule, **settings: Any) -> Rules:
    given = more or (slice_rule(DE), slice_rule(FR))
    some = sliced((ACCURACY, ERRORS), given, weight=0.5)
    return rules(ACCURACY, ERRORS, *some, slices=tuple(one.slice for one in given), **settings)


def ruled(some: Rules, *batches: Batch, **more: Any) -> Ruling:
    analysis = Analysis(some)
    for batch in batches:
        analysis.fold(batch)
    return analysis.ruling(1.0, **more)


def of(ruling: Ruling, name: str) -> Finding:
    return next(finding for finding in ruling.findings if finding.metric == name)


def german_harm(n: int = 3000) -> list[Batch]:
    """Every tenth request is German; a fifth of those is answered wrong by the canary alone, the rest never."""
    german = np.arange(n) % 10 == 0
    wrong = german & (np.arange(n) % 50 == 0)
    return np.array_split(pairs(n, slices=np.where(german, 1, 2), canary_wrong=wrong), n // 100)


def test_slices_are_guardrails_with_the_metrics_own_margin_and_share_half_its_weight() -> None:
    some = sliced((ACCURACY, ERRORS), (slice_rule(DE, accuracy=None, errors="2pp"), slice_rule(FR)), weight=0.5)
    assert [(rule.name, rule.measures, rule.slice) for rule in some] == [
        ("accuracy country=DE", "accuracy", 0),
        ("errors country=DE", "errors", 0),
        ("accuracy country=FR", "accuracy", 1),
    ]
    assert {rule.role for rule in some} == {Role.GUARDRAIL}
    assert [rule.margin.absolute for rule in some] == [0.03, 0.02, 0.03]
    assert [rule.weight for rule in some] == pytest.approx([0.1, 0.15, 0.1])


def test_a_slice_has_no_tail_watch_of_its_own() -> None:
    latency = metric("latency", "+10%", tails=(Tail(quantile=0.99),))
    (rule,) = sliced((latency,), (slice_rule(DE, latency="+30%"),), weight=0.5)
    assert rule.tails == () and rule.margin.relative == pytest.approx(0.3)


def test_slices_that_cannot_roll_back_take_no_part_of_the_weight() -> None:
    some = sliced((ACCURACY,), (slice_rule(DE), slice_rule(FR, Role.SIGNAL)), weight=0.5)
    assert some[0].weight == pytest.approx(0.2)


def test_latency_of_a_slice_is_judged_in_blocks_of_its_share() -> None:
    latency = metric("latency", "+10%")
    german = replace(slice_rule(DE, latency="+30%"), share=0.05)
    some = rules(
        latency, *sliced((latency,), (german,), weight=0.5), slices=(DE,), dependence_seconds=2.0, rate_per_second=100.0
    )
    whole, few = (watch.evidence.block_pairs for watch in Analysis(some).hearing.watches)  # type: ignore[attr-defined]
    assert few == pytest.approx(whole / 20, abs=1)


@pytest.mark.parametrize(
    ("one", "complaint"),
    [
        (slice_rule(DE, loss="+5%"), "country=DE: loss is not judged; judged are accuracy, errors"),
        (SliceRule(slice=DE, role=Role.GUARDRAIL, margins={}), "no metric is judged in it"),
    ],
)
def test_a_slice_of_nothing_is_refused(one: SliceRule, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        sliced((ACCURACY, ERRORS), (one,), weight=0.5)


def test_the_shares_of_all_slices_are_there_from_the_start() -> None:
    weights = Analysis(by_country()).hearing.weights
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["accuracy country=DE"] + weights["accuracy country=FR"] == pytest.approx(weights["accuracy"] / 2)


def test_a_request_belongs_to_the_slices_whose_field_has_their_value() -> None:
    new = Slice(field="segment", value="new")
    assert membership({"country": "FR", "segment": "new"}, (DE, FR, new)) == 0b110
    assert membership({"country": "de"}, (DE, FR, new)) == 0
    assert membership({}, (DE,)) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("DE", "DE"),
        (b"DE", "DE"),
        (3, "3"),
        (3.0, "3"),
        (np.float32(0.1), "0.1"),
        (np.int64(-7), "-7"),
        (True, "true"),
        (np.bool_(False), "false"),
        (float("nan"), None),
        (None, None),
        ([1], None),
    ],
)
def test_a_value_is_named_as_people_write_it(value: object, text: str | None) -> None:
    assert as_text(value) == text


def test_harm_in_one_slice_rolls_back_and_names_it() -> None:
    ruling = ruled(by_country(entry_pairs=1000), *german_harm())
    assert ruling.verdict is Verdict.FAIL
    assert ruling.named == ("accuracy country=DE",)
    assert of(ruling, "accuracy country=DE").slice == "country=DE"
    assert "worse in country=DE: accuracy +20.00 pp" in ruling.why
    assert "Worse in country=DE: accuracy." in explain(ruling, by_country())
    assert "在 country=DE 中更差：准确率。" in explain(ruling, by_country(), "zh")


def test_without_slices_the_same_pairs_pass() -> None:
    assert ruled(rules(ACCURACY), *german_harm()).verdict is Verdict.PASS


def test_a_slice_without_data_never_enters_and_says_so() -> None:
    ruling = ruled(by_country(), *np.array_split(pairs(3000, slices=2), 30))
    german = of(ruling, "accuracy country=DE")
    assert ruling.verdict is Verdict.PASS
    assert german.state is State.NO_DATA
    assert german.detail == "no data of country=DE when the metrics to judge were fixed"


def test_a_slice_that_must_be_shown_harmless_keeps_a_canary_from_passing_without_data() -> None:
    some = by_country(slice_rule(DE, Role.OBJECTIVE))
    ruling = ruled(some, *np.array_split(pairs(3000), 30), final=True)
    assert ruling.verdict is Verdict.INCONCLUSIVE
    assert "accuracy country=DE: no data" in ruling.why


def test_one_bad_answer_in_a_small_slice_does_not_hold_a_promotion() -> None:
    small = np.where(np.arange(3000) % 100 == 0, 1, 0)
    wrong = np.arange(3000) == 2900
    ruling = ruled(by_country(), *np.array_split(pairs(3000, slices=small, canary_wrong=wrong), 30))
    assert of(ruling, "accuracy country=DE").pairs == 30
    assert ruling.verdict is Verdict.PASS


def test_evidence_in_a_slice_holds_a_promotion() -> None:
    some = by_country(slice_rule(DE, Role.GUARDRAIL), entry_pairs=500)
    german = np.where(np.arange(1500) % 50 == 0, 1, 0)
    wrong = np.arange(1500) % 200 == 50
    ruling = ruled(some, *np.array_split(pairs(1500, slices=german, canary_wrong=wrong), 15))
    assert ruling.verdict is Verdict.CONTINUE
    assert "held: lately accuracy country=DE leaned" in ruling.why


def test_what_is_shown_jointly_lists_no_slice_that_speaks_for_the_canary() -> None:
    def told(one: str, log10_harm: float) -> Finding:
        name = f"accuracy country={one}" if one else "accuracy"
        of_slice = f"country={one}" if one else ""
        return Finding(
            metric=name,
            slice=of_slice,
            role=Role.GUARDRAIL,
            state=State.UNDECIDED,
            unit="share",
            pairs=9,
            log10_harm=log10_harm,
        )

    findings = [told("", -1.0), told("DE", 2.5), told("FR", -0.1)]
    why = why_failed(findings, (), log10_harm=2.1, alpha=0.01, pairs=500)
    assert why.endswith("from accuracy 1:10, accuracy country=DE 316:1")
