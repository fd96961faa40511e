"""What a pair may say, and what follows when pairs say nothing."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.domain.evidence import Finding, Role, Ruling, State, Verdict
from haldane.domain.traffic import Batch, Status, empty_batch
from haldane.judge.analysis import Analysis, trace
from haldane.judge.rules import Rules, Tail
from haldane.testing.pairs import metric, pairs, rules

ERRORS = metric("errors", "1pp")
ACCURACY = metric("accuracy", "1pp")
LATENCY = metric("latency", "+10%")


def ruled(rules_: Rules, *batches: Batch, **more: Any) -> Ruling:
    analysis = Analysis(rules_)
    for batch in batches:
        analysis.fold(batch)
    return analysis.ruling(1.0, **more)


def of(ruling: Ruling, name: str) -> Finding:
    return next(finding for finding in ruling.findings if finding.metric == name)


def noisy(n: int, *, seed: int = 0, slow: float = 1.0, **columns: Any) -> Batch:
    rng = np.random.default_rng(seed)
    stable, canary = 0.01 * np.exp(rng.normal(0, 0.2, (2, n)))
    return pairs(n, stable_seconds=stable, canary_seconds=slow * canary, **columns)


def test_no_pairs_is_no_evidence() -> None:
    ruling = ruled(rules(ERRORS, LATENCY), empty_batch())
    assert ruling.verdict is Verdict.CONTINUE
    assert ruling.log10_harm == pytest.approx(0.0, abs=1e-12)
    assert {finding.state for finding in ruling.findings} == {State.NO_DATA}


@pytest.mark.parametrize("role", list(Role))
def test_missing_data_never_passes(role: Role) -> None:
    unlabelled = noisy(3000, stable_wrong=np.nan, canary_wrong=np.nan)
    ruling = ruled(rules(ERRORS, metric("accuracy", "1pp", role)), unlabelled)
    assert of(ruling, "accuracy").state is State.NO_DATA
    assert (ruling.verdict is Verdict.PASS) == (role is not Role.OBJECTIVE)


def test_an_objective_whose_data_stay_out_ends_inconclusive_and_says_so() -> None:
    ruling = ruled(rules(ERRORS, ACCURACY), noisy(3000, stable_wrong=np.nan, canary_wrong=np.nan), final=True)
    assert ruling.verdict is Verdict.INCONCLUSIVE
    assert "accuracy: no data" in ruling.why


def test_a_metric_without_data_at_the_end_of_entry_never_enters() -> None:
    late = pairs(3000, first=200)
    analysis = Analysis(rules(ERRORS, ACCURACY))
    analysis.fold(pairs(200, stable_wrong=np.nan, canary_wrong=np.nan))
    analysis.fold(late)
    ruling = analysis.ruling(1.0)
    assert of(ruling, "accuracy").state is State.NO_DATA
    assert of(ruling, "accuracy").pairs == 0
    assert analysis.hearing.weights == {"errors": 1.0}


def test_only_info_metrics_never_pass() -> None:
    assert ruled(rules(metric("errors", "1pp", Role.INFO)), noisy(3000), final=True).verdict is Verdict.INCONCLUSIVE


def test_an_identical_canary_passes() -> None:
    ruling = ruled(rules(ERRORS, ACCURACY, LATENCY), *np.array_split(noisy(4000), 40))
    assert ruling.verdict is Verdict.PASS
    assert {finding.state for finding in ruling.findings} == {State.HARMLESS}
    assert ruling.decided_pairs is not None and ruling.decided_pairs <= 1000


def test_a_slow_canary_fails_and_latency_is_named() -> None:
    ruling = ruled(rules(ERRORS, ACCURACY, LATENCY), *np.array_split(noisy(2000, slow=1.3), 20))
    assert ruling.verdict is Verdict.FAIL
    assert ruling.named == ("latency",)
    found = of(ruling, "latency")
    assert found.estimate == pytest.approx(0.3, abs=0.05)
    assert found.lower is not None and found.lower > 0.1


def test_a_failing_canary_fails_on_errors() -> None:
    status = np.where(np.arange(1000) % 20 == 0, Status.INTERNAL, Status.OK)
    ruling = ruled(rules(ERRORS, LATENCY), pairs(1000, canary_status=status))
    assert ruling.verdict is Verdict.FAIL
    assert ruling.named == ("errors",)


def test_a_failing_stable_does_not_blame_the_canary() -> None:
    status = np.where(np.arange(1000) % 20 == 0, Status.INTERNAL, Status.OK)
    assert ruled(rules(ERRORS), pairs(1000, stable_status=status)).verdict is Verdict.PASS


def test_fail_stands_whatever_comes_later() -> None:
    wrong = np.arange(500) % 10 == 0
    ruling = ruled(rules(ACCURACY), pairs(500, canary_wrong=wrong), pairs(20_000, first=500))
    assert ruling.verdict is Verdict.FAIL
    assert ruling.decided_pairs == 500


def test_harm_after_a_pass_fails() -> None:
    wrong = np.arange(2000) % 10 == 0
    analysis = Analysis(rules(ACCURACY))
    analysis.fold(pairs(2000))
    assert analysis.ruling(1.0).verdict is Verdict.PASS
    analysis.fold(pairs(2000, first=2000, canary_wrong=wrong))
    assert analysis.ruling(2.0).verdict is Verdict.FAIL


def test_nothing_passes_before_the_least_pairs() -> None:
    few = rules(ERRORS, least_pairs=5000)
    assert ruled(few, pairs(4999)).verdict is Verdict.CONTINUE
    assert ruled(few, pairs(5000)).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("more", "seconds", "word"),
    [({}, 3600.0, "budget"), ({"horizon_pairs": 50}, 1.0, "horizon")],
)
def test_a_spent_budget_is_inconclusive(more: dict[str, Any], seconds: float, word: str) -> None:
    analysis = Analysis(rules(ERRORS, **more))
    analysis.fold(pairs(60))
    ruling = analysis.ruling(seconds)
    assert ruling.verdict is Verdict.INCONCLUSIVE
    assert word in ruling.why


def test_an_extension_gives_horizon_and_budget_once_more_and_keeps_the_evidence() -> None:
    short = rules(ACCURACY, horizon_pairs=300, budget_seconds=10.0)
    longer = replace(short, extensions=1)
    batches = np.array_split(noisy(800), 8)
    assert ruled(short, *batches[:3]).verdict is Verdict.INCONCLUSIVE
    assert ruled(longer, *batches[:3]).verdict is Verdict.CONTINUE
    assert ruled(longer, *batches[:3]).findings == ruled(short, *batches[:3]).findings
    assert ruled(longer, *batches).verdict is Verdict.PASS


def test_a_pass_does_not_run_out_with_the_budget() -> None:
    analysis = Analysis(rules(ERRORS, horizon_pairs=2000))
    analysis.fold(pairs(1900))
    assert analysis.ruling(1.0).verdict is Verdict.PASS
    analysis.fold(pairs(200, first=1900))
    assert analysis.ruling(10_000.0).verdict is Verdict.PASS


def test_a_passed_canary_is_held_while_evidence_against_it_gathers() -> None:
    analysis = Analysis(rules(ERRORS, horizon_pairs=20_000))
    analysis.fold(pairs(2000))
    analysis.fold(pairs(650, first=2000, canary_status=Status.INTERNAL * (np.arange(650) > 639)))
    ruling = analysis.ruling(10_000.0)
    assert ruling.verdict is Verdict.CONTINUE
    assert "held" in ruling.why


def test_a_signal_that_shows_harm_holds_the_promotion_and_never_rolls_back() -> None:
    analysis = Analysis(rules(ERRORS, metric("latency", "+10%", Role.SIGNAL)))
    for batch in np.array_split(noisy(6000, slow=1.5), 60):
        analysis.fold(batch)
    ruling = analysis.ruling(1.0)
    assert ruling.verdict is Verdict.CONTINUE and ruling.named == ()
    assert of(ruling, "latency").state is State.HARMFUL
    assert "harm shown by the signal latency, which cannot roll back" in ruling.why
    assert analysis.hearing.weights == {"errors": 1.0}
    assert ruling.log10_harm < 0


def test_a_signal_lets_go_when_its_harm_has_passed() -> None:
    analysis = Analysis(rules(ERRORS, metric("accuracy", "1pp", Role.SIGNAL)))
    analysis.fold(pairs(400, canary_wrong=np.arange(400) % 40 == 0))
    assert "lately accuracy leaned" in analysis.ruling(1.0).why
    for first in range(400, 6400, 600):
        analysis.fold(pairs(600, first=first))
    assert analysis.ruling(2.0).verdict is Verdict.PASS


@pytest.mark.parametrize("role", [Role.SIGNAL, Role.INFO])
def test_a_metric_that_cannot_roll_back_costs_the_others_nothing(role: Role) -> None:
    alone = Analysis(rules(ERRORS))
    beside = Analysis(rules(ERRORS, metric("latency", "+10%", role)))
    for analysis in (alone, beside):
        analysis.fold(noisy(500, canary_status=Status.INTERNAL * (np.arange(500) % 50 == 0)))
    assert alone.ruling(1.0).log10_harm == beside.ruling(1.0).log10_harm


def test_aa_pairs_are_no_evidence_but_the_noise_floor() -> None:
    floor = pairs(1000, aa=True, canary_wrong=1, canary_seconds=1.0, disagrees=np.arange(1000) % 100 == 0)
    agreement = metric("disagreement", "5pp", Role.INFO, floor=True)
    ruling = ruled(rules(ACCURACY, LATENCY, agreement), floor, pairs(10, first=1000))
    assert ruling.pairs == 10
    assert of(ruling, "accuracy").pairs == 10
    assert (of(ruling, "disagreement").pairs, of(ruling, "disagreement").estimate) == (10, -0.01)
    assert "10 of 1,000" in of(ruling, "disagreement").detail


def test_a_canary_is_not_blamed_for_answers_on_which_stable_disagrees_with_itself() -> None:
    rng = np.random.default_rng(0)
    noisy_model = pairs(10_000, aa=rng.random(10_000) < 0.3, disagrees=rng.random(10_000) < 0.2)
    plain = ruled(rules(metric("disagreement", "5pp")), *np.array_split(noisy_model, 50))
    fair = ruled(rules(metric("disagreement", "5pp", floor=True)), *np.array_split(noisy_model, 50))
    assert plain.verdict is Verdict.FAIL
    assert "noise floor is unknown" in of(plain, "disagreement").detail
    assert fair.verdict is Verdict.PASS


def test_an_answer_that_only_the_second_call_lacks_is_a_disagreement_with_canary_and_with_itself() -> None:
    failed = pairs(40, aa=np.arange(40) % 2, disagrees=np.nan, canary_status=Status.TIMEOUT)
    found = of(ruled(rules(metric("disagreement", "5pp", floor=True)), failed), "disagreement")
    assert (found.pairs, found.estimate) == (20, 0.0)


def drifted(n: int, shift: float, **columns: Any) -> Batch:
    output = np.random.default_rng(0).random(n)
    return pairs(n, stable_output=output, canary_output=output + shift, **columns)


def test_drift_of_the_outputs_is_shown_and_decides_nothing_by_default() -> None:
    drift = metric("drift", "5pp", Role.INFO)
    ruling = ruled(rules(ERRORS, drift), *np.array_split(drifted(3000, 0.2), 10))
    assert of(ruling, "drift").state is State.HARMFUL
    assert of(ruling, "drift").estimate == pytest.approx(0.2, abs=0.03)
    assert ruling.verdict is Verdict.PASS
    as_guardrail = rules(ERRORS, metric("drift", "5pp", Role.GUARDRAIL))
    assert ruled(as_guardrail, *np.array_split(drifted(3000, 0.2), 10)).named == ("drift",)
    held = ruled(rules(ERRORS, metric("drift", "5pp", Role.SIGNAL)), *np.array_split(drifted(3000, 0.2), 10))
    assert held.verdict is Verdict.CONTINUE
    assert "drift" in held.why


@pytest.mark.parametrize(("role", "verdict"), [(Role.INFO, Verdict.PASS), (Role.GUARDRAIL, Verdict.CONTINUE)])
def test_a_promotion_does_not_wait_for_data_of_what_is_only_shown(role: Role, verdict: Verdict) -> None:
    some = rules(ERRORS, metric("drift", "5pp", role), entry_pairs=5000)
    assert ruled(some, pairs(2000)).verdict is verdict


def test_only_fresh_pairs_that_both_sides_answered_say_something_of_drift() -> None:
    some = rules(ERRORS, metric("drift", "5pp"))
    for columns in ({"fresh": False}, {"canary_status": Status.TIMEOUT}, {"aa": True}, {"canary_output": np.nan}):
        batch = drifted(300, 0.2)
        for name, value in columns.items():
            batch[name] = value
        assert of(ruled(some, batch), "drift").state is State.NO_DATA, columns


def test_a_row_judged_before_feeds_errors_and_latency_only() -> None:
    everything = rules(
        ERRORS, ACCURACY, LATENCY, metric("disagreement", "5pp"), metric("loss", "0.1 loss"), entry_pairs=1000
    )
    again = pairs(100, fresh=False, stable_loss=0.1, canary_loss=0.1)
    counts = {finding.metric: finding.pairs for finding in ruled(everything, again).findings}
    assert counts == {"errors": 100, "latency": 100, "accuracy": 0, "disagreement": 0, "loss": 0}


def test_masked_pairs_say_nothing_about_latency() -> None:
    ruling = ruled(rules(ERRORS, LATENCY), pairs(50, masked=True), pairs(50, first=50))
    assert of(ruling, "latency").pairs == 50
    assert of(ruling, "errors").pairs == 100


def test_the_first_pairs_of_each_server_do_not_count_for_errors_and_latency() -> None:
    server = np.arange(100) % 2
    ruling = ruled(rules(ERRORS, LATENCY, ACCURACY, warmup_pairs=20), pairs(100, server=server))
    assert of(ruling, "errors").pairs == 60
    assert of(ruling, "latency").pairs == 60
    assert of(ruling, "accuracy").pairs == 100  # a cold answer is slow, not wrong


def test_a_time_out_is_an_error_a_wrong_answer_and_the_deadline() -> None:
    timed_out = pairs(20, canary_status=Status.TIMEOUT, canary_seconds=1.0, canary_wrong=np.nan, stable_wrong=0)
    ruling = ruled(rules(ERRORS, ACCURACY, LATENCY), timed_out)
    assert of(ruling, "errors").estimate == 1.0
    assert of(ruling, "accuracy").estimate == 1.0
    assert of(ruling, "latency").estimate > 10  # type: ignore[operator]


def test_trap_19_a_canary_is_not_the_faster_for_failing_its_slow_requests_at_once() -> None:
    """In Serving's own histogram of latency it would be: that holds successes only."""
    fails = np.arange(4000) % 10 == 0
    batch = noisy(4000, slow=1.0, canary_status=np.where(fails, Status.INTERNAL, Status.OK))
    batch["canary_seconds"][fails] = 1e-5
    ruling = ruled(rules(ERRORS, LATENCY), batch)
    assert ruling.verdict is Verdict.FAIL
    assert ruling.named == ("errors",)
    assert of(ruling, "latency").estimate == pytest.approx(0.0, abs=0.02)


def test_a_pair_that_failed_on_both_sides_is_dropped_and_counted() -> None:
    analysis = Analysis(rules(ERRORS))
    analysis.fold(pairs(30, stable_status=Status.INVALID, canary_status=Status.INVALID))
    assert analysis.tally.poisoned == 30
    assert analysis.tally.pairs == 0


@pytest.mark.parametrize("status", [Status.NOT_FOUND, Status.EXHAUSTED])
def test_requests_lost_on_one_side_only_keep_it_from_passing(status: Status) -> None:
    lost = np.where(np.arange(2000) % 50 == 0, status, Status.OK)
    ruling = ruled(rules(ERRORS), pairs(2000, canary_status=lost), final=True)
    assert ruling.verdict is Verdict.INCONCLUSIVE
    assert "differ by side" in ruling.why
    assert of(ruling, "errors").estimate == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, 0.0])
def test_impossible_latencies_are_rejected_and_keep_it_from_passing(bad: float) -> None:
    both = np.where(np.arange(2000) % 20 == 0, bad, 0.01)
    ruling = ruled(rules(ERRORS, LATENCY), pairs(2000, stable_seconds=both, canary_seconds=both), final=True)
    assert ruling.verdict is Verdict.INCONCLUSIVE
    assert "rejected" in ruling.why
    assert of(ruling, "latency").pairs == 1900


def test_an_answer_that_cannot_be_scored_on_one_side_keeps_it_from_passing() -> None:
    wrong = np.where(np.arange(2000) % 200 == 0, np.nan, 0.0)
    ruling = ruled(rules(ERRORS, ACCURACY), pairs(2000, canary_wrong=wrong), final=True)
    assert ruling.verdict is Verdict.INCONCLUSIVE
    assert "differ by side" in ruling.why


def test_an_infinite_loss_counts_as_the_worst() -> None:
    losses = rules(metric("loss", "0.5 loss", reach=2.0))
    found = of(ruled(losses, pairs(10, stable_loss=0.0, canary_loss=np.inf)), "loss")
    assert found.estimate == pytest.approx(2.0)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_losses_pass_without_a_crash(value: float) -> None:
    ruling = ruled(rules(metric("loss", "0.1 loss")), pairs(2000, stable_loss=value, canary_loss=value))
    assert ruling.verdict is Verdict.PASS


def test_ties_everywhere_pass_without_a_crash() -> None:
    assert ruled(rules(ERRORS, ACCURACY, LATENCY), *np.array_split(pairs(3000), 10)).verdict is Verdict.PASS


def test_a_tie_exactly_on_the_margin_decides_nothing() -> None:
    analysis = Analysis(rules(LATENCY))
    for first in range(0, 5000, 100):
        analysis.fold(pairs(100, first=first, canary_seconds=0.01 * np.exp(np.log1p(0.1))))
    assert analysis.ruling(1.0).verdict is Verdict.CONTINUE


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 1999), max_size=8))
def test_batch_borders_do_not_change_what_was_counted(cuts: list[int]) -> None:
    whole = noisy(2000, stable_wrong=np.arange(2000) % 7 == 0, canary_wrong=np.arange(2000) % 6 == 0)
    everything = rules(ERRORS, ACCURACY, LATENCY, horizon_pairs=10**9)
    one = ruled(everything, whole)
    many = ruled(everything, *np.split(whole, sorted(cuts)))
    for a, b in zip(one.findings, many.findings, strict=True):
        assert (a.pairs, a.detail, a.estimate) == (b.pairs, b.detail, b.estimate)
        assert a.log10_harm == pytest.approx(b.log10_harm, abs=1e-9)


def test_restoring_in_the_middle_and_folding_again_give_the_same_bits() -> None:
    rng = np.random.default_rng(1)
    stream = noisy(5000, slow=1.05, aa=rng.random(5000) < 0.1, disagrees=rng.random(5000) < 0.02)
    stream["stable_output"] = stream["canary_output"] = rng.random(5000)
    batches = np.array_split(stream, 37)
    agreement = metric("disagreement", "5pp", floor=True), metric("drift", "5pp")
    some = rules(ERRORS, ACCURACY, metric("latency", "+10%", tails=(Tail(quantile=0.95),)), *agreement)
    straight, again = Analysis(some), Analysis(some)
    for index, batch in enumerate(batches):
        straight.fold(batch)
        again.fold(batch)
        if index == 17:
            again = pickle.loads(pickle.dumps(again))
    assert again.ruling(1.0) == straight.ruling(1.0) == ruled(some, *batches)


def test_trace_ends_where_the_analysis_does() -> None:
    batches = np.array_split(noisy(2000, slow=1.3), 20)
    some = rules(ERRORS, LATENCY)
    rulings = trace(some, batches)
    assert len(rulings) == 20
    assert rulings[-1].verdict is Verdict.FAIL
    first = next(ruling for ruling in rulings if ruling.verdict is Verdict.FAIL)
    assert first.pairs == rulings[-1].decided_pairs


def test_a_slow_tail_fails_latency_when_watched() -> None:
    watched = rules(metric("latency", "+10%", tails=(Tail(quantile=0.95, margin=0.15),)))
    slow = np.where(np.random.default_rng(1).random(20_000) < 0.05, 5.0, 1.0)
    stream = noisy(20_000)
    stream["canary_seconds"] *= slow
    ruling = ruled(watched, *np.array_split(stream, 100))
    assert ruling.verdict is Verdict.FAIL
    assert "tail votes" in ruling.why


def test_a_verdict_given_within_the_warm_up_says_how_many_pairs_it_rests_on() -> None:
    """Warm-up pairs feed output metrics, so they are not "0 pairs" to a reader."""
    ruling = ruled(rules(ACCURACY, warmup_pairs=1000), pairs(60, canary_wrong=1.0))
    assert (ruling.verdict, ruling.pairs) == (Verdict.FAIL, 60)
    assert "after 60 pairs" in ruling.why
