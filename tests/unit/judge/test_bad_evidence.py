"""Evidence that cannot be, or says nothing: a clear error or no data, never a crash, never a pass."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from haldane.domain.entries import LABEL_DTYPE, READING_DTYPE, Entry, read_entry, schema_of
from haldane.domain.evidence import Finding, Role, Ruling, State, Verdict
from haldane.domain.traffic import PAIR_DTYPE, Batch, Status
from haldane.judge.analysis import Analysis
from haldane.judge.explain import LANGUAGES, explain
from haldane.judge.gauges import Gauge, GaugeRule
from haldane.judge.limit import parse_limits
from haldane.judge.margin import Margin, parse_margin
from haldane.judge.rules import Rules, Tail
from haldane.testing.pairs import metric, pairs, rules

EVERY = rules(
    metric("errors", "1pp"),
    metric("accuracy", "1pp"),
    metric("latency", "+10%", tails=(Tail(quantile=0.99),)),
    metric("loss", "0.1 loss"),
    metric("disagreement", "5pp"),
    metric("drift", "5pp"),
    limits=(*parse_limits("2%", "errors"), *parse_limits({"p99": "250ms"}, "latency")),
    gauges=(
        GaugeRule(name="threads", kind=Gauge.QUERY, query="threads", margin=0.1, role=Role.OBJECTIVE),
        GaugeRule(name="requests", kind=Gauge.QUERY, query="requests", margin=0.1, counter=True),
        GaugeRule(name="cpu", kind=Gauge.CPU, margin=0.1),
        GaugeRule(name="growth", kind=Gauge.GROWTH, limit=1e6),
        GaugeRule(name="memory", kind=Gauge.MEMORY, limit=1e9),
    ),
)
ODD = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, -0.0, 0.0, 5e-324, 0.5, 1.0, 1e-3, 3e38, 1e300])
KINDS = {PAIR_DTYPE: "pairs", READING_DTYPE: "readings", LABEL_DTYPE: "labels"}


def folded(known: Rules, *entries: Entry) -> Analysis:
    analysis = Analysis(known)
    for entry in entries:
        analysis.fold(entry)
    return analysis


def of(ruling: Ruling, name: str) -> Finding:
    return next(finding for finding in ruling.findings if finding.metric == name)


# --- anything at all --------------------------------------------------------------------------------------------------


def bytes_as(dtype: np.dtype[Any]) -> st.SearchStrategy[Entry]:
    """Rows of any bits whatsoever."""
    return st.integers(0, 40).flatmap(
        lambda n: st.binary(min_size=n * dtype.itemsize, max_size=n * dtype.itemsize).map(
            lambda raw: np.frombuffer(raw, dtype)
        )
    )


@st.composite
def odd_rows(draw: st.DrawFn, dtype: np.dtype[Any]) -> Entry:
    """Rows of values at the edge of what their columns mean."""
    n = draw(st.integers(0, 60))
    entry = np.zeros(n, dtype)
    for name in dtype.names or ():
        column = dtype[name]
        if column.kind == "f":
            with np.errstate(over="ignore"):
                entry[name] = draw(arrays.arrays(np.float64, n, elements=ODD, fill=st.just(0.01)))
        elif column.kind == "b":
            entry[name] = draw(st.booleans())
        else:
            entry[name] = draw(arrays.arrays(column, n, elements=st.integers(0, 9), fill=st.just(0)))
    return entry


anything = st.one_of([form(dtype) for dtype in KINDS for form in (bytes_as, odd_rows)])


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # bits that are a signalling NaN
@settings(max_examples=150, deadline=None)
@given(st.lists(anything, max_size=6))
def test_no_evidence_whatever_makes_it_crash_or_pass_without_a_proof(entries: list[Entry]) -> None:
    ruling = folded(EVERY, *entries).ruling(1.0)
    objectives = [finding for finding in ruling.findings if finding.role is Role.OBJECTIVE]
    if ruling.verdict is Verdict.PASS:
        assert all(finding.state is State.HARMLESS and finding.pairs for finding in objectives)
    for finding in ruling.findings:
        assert not math.isnan(finding.log10_harm)
        assert not math.isnan(finding.log10_harmless)
        assert (finding.pairs == 0) <= (finding.state is State.NO_DATA)
    for language in LANGUAGES:
        assert all(explain(ruling, EVERY, language))


@settings(max_examples=60, deadline=None)
@given(odd_rows(PAIR_DTYPE), st.lists(st.integers(0, 60), max_size=5))
def test_how_pairs_are_split_into_batches_changes_no_count(batch: Batch, cuts: list[int]) -> None:
    """One server: setting one aside goes by batches, and needs another that is well."""
    batch["server"] = 0
    known = rules(*EVERY.metrics[:2], *EVERY.metrics[3:], entry_pairs=1000, warmup_pairs=5)
    whole = folded(known, batch)
    parts = folded(known, *np.split(batch, sorted(cuts)))
    assert whole.tally == parts.tally
    for one, other in zip(whole.ruling(1.0).findings, parts.ruling(1.0).findings, strict=True):
        assert one.pairs == other.pairs
        assert one.estimate == pytest.approx(other.estimate)
        assert one.log10_harm == pytest.approx(other.log10_harm)


# --- one by one -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 0.0])
@pytest.mark.parametrize("side", ["stable", "canary"])
def test_seconds_that_cannot_be_are_no_latency_and_no_pass(side: str, value: float) -> None:
    ruling = folded(rules(metric("latency", "+10%")), pairs(3000, **{f"{side}_seconds": value})).ruling(1.0, final=True)
    assert of(ruling, "latency").state is State.NO_DATA
    assert ruling.verdict is Verdict.INCONCLUSIVE
    assert any("held readings that cannot be" in note for note in ruling.notes)


@pytest.mark.parametrize(("column", "value"), [("wrong", 0.5), ("wrong", math.inf), ("wrong", -1), ("loss", -math.inf)])
def test_truth_that_cannot_be_is_no_truth(column: str, value: float) -> None:
    known = rules(metric("accuracy", "1pp"), metric("loss", "0.1 loss"))
    ruling = folded(known, pairs(3000, stable_loss=0.1, **{"canary_loss": 0.1, f"canary_{column}": value})).ruling(1.0)
    assert {finding.state for finding in ruling.findings} == {State.NO_DATA}
    assert ruling.verdict is Verdict.CONTINUE


def test_an_infinite_loss_is_as_bad_as_can_be() -> None:
    ruling = folded(rules(metric("loss", "0.1 loss")), pairs(500, stable_loss=0.1, canary_loss=math.inf)).ruling(1.0)
    assert ruling.verdict is Verdict.FAIL
    assert of(ruling, "loss").estimate == pytest.approx(0.9, abs=1e-6)


def test_constant_outputs_and_no_variance_at_all_pass_as_what_they_are() -> None:
    """Both sides the same to the last bit: harmless, by as many pairs as the margins ask for."""
    known = rules(metric("errors", "1pp"), metric("latency", "+10%"), metric("loss", "0.1 loss"))
    ruling = folded(known, *np.array_split(pairs(3000, stable_loss=0.2, canary_loss=0.2), 30)).ruling(1.0)
    assert ruling.verdict is Verdict.PASS
    assert of(ruling, "latency").estimate == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("margin", [0.1, 0.15])
def test_ties_exactly_on_the_margin_show_neither_harm_nor_its_absence(margin: float) -> None:
    known = rules(metric("latency", f"+{100 * margin:g}%"))
    ruling = folded(known, pairs(5000, canary_seconds=0.01 * (1 + margin))).ruling(1.0, final=True)
    assert ruling.verdict is Verdict.INCONCLUSIVE
    assert of(ruling, "latency").log10_harm == pytest.approx(0.0, abs=1e-9)
    assert of(ruling, "latency").log10_harmless == pytest.approx(0.0, abs=1e-9)


def test_a_metric_that_stops_before_its_proof_never_passes() -> None:
    known = rules(metric("errors", "1pp"), metric("accuracy", "1pp"))
    unknown = pairs(5000, first=150, stable_wrong=math.nan, canary_wrong=math.nan)
    ruling = folded(known, pairs(150), unknown).ruling(1.0, final=True)
    assert ruling.verdict is Verdict.INCONCLUSIVE
    assert of(ruling, "accuracy").pairs == 150
    assert "accuracy has given no data since pair 150 (1 s)" in ruling.notes


@pytest.mark.parametrize("at", [-1e9, math.nan, -math.inf, math.inf])
def test_a_clock_that_jumps_neither_ends_nor_rejuvenates_a_hearing(at: float) -> None:
    analysis = folded(rules(), pairs(200, first=1000), pairs(200, at=at), pairs(200))
    assert analysis.hearing.seconds == pytest.approx(11.99)
    assert analysis.tally.pairs == 600


def readings(n: int, **columns: Any) -> Entry:
    entry = np.zeros(n, READING_DTYPE)
    entry["at"] = 121.0 + 5.0 * np.arange(n)
    for name, values in columns.items():
        entry[name] = values
    return entry


REQUESTS = rules(gauges=(GaugeRule(name="requests", kind=Gauge.QUERY, query="x", margin=0.1, counter=True),))


def test_a_counter_that_was_reset_drops_that_reading_and_says_so() -> None:
    counts = 100.0 * np.arange(120)
    canary = np.where(np.arange(120) < 60, counts, counts - counts[60])
    ruling = folded(REQUESTS, readings(120, metric=0, stable=counts, canary=canary)).ruling(1.0)
    assert "1 of 119 readings dropped (reset or clock)" in of(ruling, "requests").detail
    assert of(ruling, "requests").state is not State.HARMFUL


@pytest.mark.parametrize("jump", [-500.0, 1e6, math.nan, math.inf])
def test_readings_whose_clock_jumps_are_no_harm(jump: float) -> None:
    entry = readings(120, metric=0, stable=100.0 * np.arange(120), canary=100.0 * np.arange(120))
    entry["at"][50] += jump
    finding = of(folded(REQUESTS, entry).ruling(1.0), "requests")
    assert finding.state is not State.HARMFUL


# --- rules and forms that cannot be -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("10", "latency", 'has no unit; write for example "+10%"'),
        ("0.5", "errors", "has no unit"),
        ("0pp", "accuracy", "is zero"),
        ("", "errors", "is empty"),
        ("nan%", "latency", "cannot be read"),
        ("-10%", "latency", "would ask for an improvement"),
    ],
)
def test_a_margin_that_is_none_is_refused_with_one_that_is(text: str, name: str, says: str) -> None:
    with pytest.raises(ValueError, match="for example") as error:
        parse_margin(text, name)
    assert says in str(error.value)


@pytest.mark.parametrize("absolute", [0.0, -0.1, math.nan, math.inf])
def test_a_margin_is_a_finite_size_of_harm(absolute: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        Margin(absolute=absolute)


@pytest.mark.parametrize("key", ["alpha", "beta", "baseline_errors"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.01, math.nan, math.inf])
def test_an_error_rate_of_zero_or_one_is_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        replace(rules(), **{key: value})


@pytest.mark.parametrize("schema", [0, 3, 100, 103, 202, -1])
def test_evidence_of_another_schema_is_refused_with_those_that_can_be_read(schema: int) -> None:
    with pytest.raises(ValueError, match=f"evidence of schema {schema}; this release reads 1, 2"):
        read_entry(schema, b"")


@pytest.mark.parametrize("schema", [1, 2, 101, 102, 201])
def test_a_torn_row_is_refused(schema: int) -> None:
    with pytest.raises(ValueError, match="size"):
        read_entry(schema, b"\0" * 7)


@pytest.mark.parametrize("dtype", [np.dtype("<f8"), np.dtype([("at", "<f8"), ("seq", "<i8")])])
def test_an_entry_of_no_known_kind_is_refused(dtype: np.dtype[Any]) -> None:
    entry = np.zeros(3, dtype)
    with pytest.raises(ValueError, match="columns"):
        Analysis(rules()).fold(entry)
    with pytest.raises(ValueError, match="columns"):
        schema_of(entry)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["alpha", "metrics", "slices", "horizon_pairs", "budget_seconds", "gauges", "schema"]), json_values
)
def test_rules_that_were_tampered_with_are_an_error_in_words_or_rules(key: str, value: Any) -> None:
    text = json.dumps({**json.loads(EVERY.to_json()), key: value})
    try:
        read = Rules.from_json(text)
    except ValueError as error:
        assert str(error)
    else:
        assert 0.0 < read.alpha < 1.0


def test_a_status_nobody_knows_is_a_failure_and_never_an_answer() -> None:
    ruling = folded(rules(), pairs(500, canary_status=99)).ruling(1.0)
    assert ruling.verdict is Verdict.FAIL
    assert Status(0) is Status.OK
