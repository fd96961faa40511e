"""What a label says that comes after its pair."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from haldane.domain.entries import LABEL_DTYPE, Entry
from haldane.domain.evidence import Finding, Role, State, Verdict
from haldane.domain.traffic import Status
from haldane.judge.analysis import Analysis, trace
from haldane.judge.rules import Rules, Slice
from haldane.testing.pairs import labels, metric, pairs, rules

ERRORS = metric("errors", "1pp")
ACCURACY = metric("accuracy", "1pp")
UNKNOWN = {"stable_wrong": np.nan, "canary_wrong": np.nan}


def of(analysis: Analysis, name: str) -> Finding:
    return next(finding for finding in analysis.ruling(1.0).findings if finding.metric == name)


def heard(rules_: Rules, *entries: Entry) -> Analysis:
    analysis = Analysis(rules_)
    for entry in entries:
        analysis.fold(entry)
    return analysis


def unlabelled(n: int, **more: Any) -> Entry:
    return pairs(n, request=1 + np.arange(n), **UNKNOWN, **more)


def test_late_labels_are_the_same_evidence_as_labels_known_at_once() -> None:
    wrong = (np.arange(600) % 7 == 0).astype(float)
    at_once = heard(rules(ERRORS, ACCURACY), pairs(600, canary_wrong=wrong))
    later = heard(rules(ERRORS, ACCURACY, late_labels=True), unlabelled(600), labels(600, canary_wrong=wrong))
    assert of(later, "accuracy").log10_harm == of(at_once, "accuracy").log10_harm > 2
    assert of(later, "accuracy").pairs == 600
    assert later.ruling(1.0).verdict is Verdict.FAIL


def test_labels_do_not_count_as_pairs_again() -> None:
    analysis = heard(rules(ERRORS, ACCURACY, late_labels=True), unlabelled(300), labels(300))
    assert (analysis.tally.pairs, analysis.tally.labels) == (300, 300)
    assert of(analysis, "errors").pairs == 300


def test_accuracy_enters_without_data_when_its_labels_come_late() -> None:
    entries = unlabelled(3000), labels(3000, canary_wrong=1.0)
    assert heard(rules(ERRORS, ACCURACY), *entries).ruling(1.0).verdict is not Verdict.FAIL
    ruled = heard(rules(ERRORS, ACCURACY, late_labels=True), *entries).ruling(1.0)
    assert ruled.verdict is Verdict.FAIL
    assert ruled.named == ("accuracy",)


@pytest.mark.parametrize("role", list(Role))
def test_a_missing_label_never_passes_an_objective(role: Role) -> None:
    analysis = heard(rules(ERRORS, metric("accuracy", "1pp", role), late_labels=True), unlabelled(3000))
    assert of(analysis, "accuracy").state is State.NO_DATA
    assert of(analysis, "accuracy").detail == "no label has come yet"
    assert (analysis.ruling(1.0).verdict is Verdict.PASS) == (role is not Role.OBJECTIVE)


def test_a_promotion_that_was_passed_gives_way_to_harm_in_late_labels() -> None:
    guarded = rules(ERRORS, metric("accuracy", "1pp", Role.GUARDRAIL), late_labels=True)
    rulings = trace(guarded, [unlabelled(3000), labels(500, canary_wrong=np.arange(500) % 3 == 0)])
    assert [ruling.verdict for ruling in rulings] == [Verdict.PASS, Verdict.FAIL]


def test_a_label_feeds_the_slices_of_its_pair_only() -> None:
    sliced = metric("accuracy DE", "1pp", Role.GUARDRAIL, kind="accuracy", slice=0)
    known = rules(ERRORS, ACCURACY, sliced, slices=(Slice(field="country", value="DE"),), late_labels=True)
    analysis = heard(known, unlabelled(100), labels(100, slices=np.arange(100) < 30))
    assert (of(analysis, "accuracy").pairs, of(analysis, "accuracy DE").pairs) == (100, 30)


def test_a_label_that_fits_no_answer_says_nothing_and_one_that_fits_one_is_rejected() -> None:
    entry = labels(3, stable_wrong=[np.nan, 0, 1], canary_wrong=[np.nan, np.nan, 0.5])
    analysis = heard(rules(ERRORS, ACCURACY, late_labels=True), entry)
    assert of(analysis, "accuracy").pairs == 0
    assert analysis.tally.rejected == [0, 2]


def test_a_side_without_an_answer_has_the_largest_loss() -> None:
    known = rules(ERRORS, metric("loss", "0.1 loss", reach=2.0), late_labels=True)
    analysis = heard(known, labels(10, stable_loss=0.0, canary_loss=np.inf))
    assert of(analysis, "loss").estimate == pytest.approx(2.0)


def test_the_fold_does_not_depend_on_how_labels_were_split() -> None:
    known, all_of_them = rules(ERRORS, ACCURACY, late_labels=True), labels(400, canary_wrong=np.arange(400) % 5 == 0)
    whole = heard(known, unlabelled(400), all_of_them)
    parts = heard(known, unlabelled(400), *np.array_split(all_of_them, 7), np.empty(0, LABEL_DTYPE))
    # Only the moment of a look differs.
    assert replace(of(whole, "accuracy"), crossed_pairs=0, crossed_seconds=0.0) == replace(
        of(parts, "accuracy"), crossed_pairs=0, crossed_seconds=0.0
    )


# --- which pairs wait -------------------------------------------------------------------------------------------------


def waiting(rules_: Rules, *entries: Entry) -> list[bool]:
    *before, last = entries
    found: list[bool] = heard(rules_, *before).awaits(last).tolist()
    return found


def test_pairs_wait_only_where_labels_are_declared_and_not_known_yet() -> None:
    known = pairs(2, request=7, stable_wrong=[0, np.nan], canary_wrong=[0, np.nan])
    assert waiting(rules(late_labels=True), known) == [False, True]
    assert waiting(rules(), known) == [False, False]


@pytest.mark.parametrize(
    "columns",
    [
        {"aa": True},
        {"fresh": False},
        {"request": 0},
        {"stable_status": Status.TIMEOUT, "canary_status": Status.TIMEOUT},
        {"canary_status": Status.EXHAUSTED},
        {"stable_status": Status.NOT_FOUND},
    ],
)
def test_pairs_that_would_feed_no_accuracy_do_not_wait(columns: dict[str, Any]) -> None:
    assert waiting(rules(late_labels=True), unlabelled(2)) == [True, True]
    batch = unlabelled(2)
    for name, value in columns.items():
        batch[name] = value
    assert waiting(rules(late_labels=True), batch) == [False, False]


def test_an_answer_missing_while_cold_is_not_held_against_a_version() -> None:
    known = rules(late_labels=True, warmup_pairs=3)
    failing = unlabelled(2, canary_status=Status.TIMEOUT)
    assert waiting(known, failing) == [False, False]
    assert waiting(known, pairs(2), failing) == [False, True]
    assert waiting(known, unlabelled(2)) == [True, True]


def test_asking_which_pairs_wait_changes_nothing() -> None:
    analysis = Analysis(rules(late_labels=True, warmup_pairs=3))
    analysis.awaits(unlabelled(5))
    assert analysis.tally.by_server == {}
