"""The sentences hold the figures and say what they mean, in both languages."""

import re
from typing import Any

import numpy as np
import pytest

from haldane.domain.evidence import Role, Ruling, Verdict
from haldane.domain.traffic import Batch, Status
from haldane.judge.analysis import Analysis
from haldane.judge.explain import LANGUAGES, describe, explain, in_words
from haldane.judge.limit import parse_limits
from haldane.judge.rules import Rules
from haldane.testing.pairs import metric, pairs, rules

ACCURACY = metric("accuracy", "1pp")
RULES = rules(
    ACCURACY,
    metric("errors", "1pp"),
    metric("latency", "+10%"),
    metric("loss", "0.1 loss"),
    metric("disagreement", "5pp", Role.INFO),
    metric("drift", "5pp", Role.INFO),
)
FLOOR = rules(metric("disagreement", "5pp", floor=True), metric("drift", "5pp", classes=True))

LIMITS = (*parse_limits("1%", "errors"), *parse_limits({"p99": "250ms"}, "latency"))


def ruled(*batches: Batch, some: Rules = RULES, final: bool = False) -> Ruling:
    analysis = Analysis(some, ("r1", "r2"))
    for batch in batches:
        analysis.fold(batch)
    return analysis.ruling(12.0, final=final)


def healthy(n: int) -> Batch:
    return pairs(n, stable_loss=0.1, canary_loss=0.1)


def test_a_fail_tells_who_how_much_and_when() -> None:
    ruling = ruled(pairs(500, canary_wrong=np.arange(500) % 10 == 0), pairs(500, first=500))
    text = " ".join(explain(ruling, RULES))
    assert "FAIL after 500 pairs (5.0 s)" in text
    assert "Proven one by one: accuracy." in text
    assert re.search(r"share of wrong answers \+5\.00 pp, 95 % always-valid interval \+\S+ pp to \+\S+ pp", text)
    assert "50 bad on canary only, 0 on stable only" in text.lower()
    assert "needs 100:1" in text


def test_missing_data_is_said_in_words() -> None:
    text = " ".join(explain(ruled(pairs(3000), final=True), RULES))
    assert "INCONCLUSIVE" in text
    assert "loss (objective): no data." in text


def two_replicas(n: int, **on_the_second: Any) -> list[Batch]:
    """Ten batches of pairs, in turn on r1 and r2."""
    batch = pairs(n, server=np.arange(n) % 2)
    for name, values in on_the_second.items():
        batch[name][1::2] = values
    return np.array_split(batch, 10)


@pytest.mark.parametrize(
    "ruling",
    [
        ruled(healthy(3000)),
        ruled(pairs(500, canary_wrong=1)),
        ruled(healthy(30)),
        ruled(pairs(3000), final=True),
        ruled(pairs(2000, canary_status=np.where(np.arange(2000) % 9, Status.OK, Status.NOT_FOUND))),
        ruled(pairs(2000, stable_seconds=np.where(np.arange(2000) % 9, 0.01, np.nan))),
        ruled(pairs(100, aa=True), healthy(20_000), some=rules(metric("loss", "0.0001 loss"), horizon_pairs=100)),
        ruled(some=rules(metric("errors", "1pp", Role.INFO)), final=True),
        ruled(pairs(900, stable_output=np.arange(900) % 7, canary_output=np.arange(900) % 5)),
        ruled(pairs(100, stable_output=1, canary_output=1), some=FLOOR),
        ruled(pairs(900, stable_output=1, canary_output=2, aa=np.arange(900) % 9 == 0), some=FLOOR),
        ruled(pairs(900, stable_output=1, canary_output=np.arange(900) % 3), some=FLOOR),
        ruled(pairs(500, canary_wrong=1), some=rules(metric("accuracy", "1pp", Role.SIGNAL))),
        ruled(pairs(500, canary_status=Status.TIMEOUT), some=rules(limits=LIMITS)),
        ruled(pairs(5, canary_status=Status.TIMEOUT), some=rules(limits=LIMITS), final=True),
        ruled(pairs(600, stable_status=Status.INTERNAL, masked=True), healthy(4000), some=rules(warmup_pairs=300)),
        ruled(*two_replicas(2000, stable_status=Status.INTERNAL, canary_status=Status.INTERNAL)),
        ruled(*two_replicas(2000, canary_status=Status.INTERNAL, canary_seconds=0.02)),
        ruled(*two_replicas(1000, stable_status=Status.TIMEOUT), *two_replicas(1000)),
        ruled(*two_replicas(2000, canary_seconds=0.02)),
        ruled(healthy(500), pairs(1000, first=500, stable_wrong=np.nan, canary_wrong=np.nan)),
        ruled(pairs(2000), pairs(500, first=2000, canary_wrong=1), some=rules(ACCURACY, horizon_pairs=3000)),
    ],
    ids=lambda ruling: f"{ruling.verdict} {ruling.pairs}",
)
def test_chinese_sentences_leave_no_english_behind(ruling: Ruling) -> None:
    for sentence in explain(ruling, RULES, "zh"):
        assert not re.findall(r"[A-Za-z]{3,}", sentence), sentence
        assert "{" not in sentence


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_verdict_has_an_opening(language: str) -> None:
    openings = {
        explain(ruling, RULES, language)[0][:3] for ruling in (ruled(healthy(3000)), ruled(), ruled(final=True))
    }
    assert len(openings) == 3
    assert ruled(healthy(3000)).verdict is Verdict.PASS


def test_a_finding_without_an_estimate_says_so() -> None:
    ruling = ruled(pairs(1), some=rules(metric("latency", "+10%")))
    assert "too few to estimate" in describe(ruling.findings[0])


def test_other_languages_are_refused() -> None:
    with pytest.raises(ValueError, match="fr"):
        explain(ruled(), RULES, "fr")


def test_each_finding_tells_when_its_evidence_sufficed() -> None:
    (line,) = [line for line in explain(ruled(healthy(3000)), RULES) if line.startswith("errors (objective)")]
    assert line.endswith(" The evidence sufficed at pair 3,000, 30 s after the start.")


def test_harm_that_began_late_names_the_bet_that_saw_it() -> None:
    """After 2,000 good pairs the first bet is far down; one opened later carries the evidence."""
    late = rules(ACCURACY, horizon_pairs=3300)
    batches = [pairs(100, first=100 * i, canary_wrong=i >= 20) for i in range(25)]
    ruling = ruled(*batches, some=late)
    (finding,) = ruling.findings
    assert finding.since_pair is not None
    assert 1900 <= finding.since_pair <= 2100
    assert finding.crossed_pairs == ruling.decided_pairs
    assert f"by the bet opened at pair {finding.since_pair:,}" in " ".join(explain(ruling, late))


def test_what_was_left_out_is_told() -> None:
    """Each note on its own line, with its number."""
    batch = pairs(1000, server=0, masked=np.arange(1000) < 300)
    batch["canary_status"][400:407] = Status.NOT_FOUND
    batch["stable_status"][500:505] = batch["canary_status"][500:505] = Status.TIMEOUT
    some = rules(metric("errors", "1pp"), metric("latency", "+10%"), warmup_pairs=100, entry_pairs=1000)
    notes = [line for line in explain(ruled(batch, some=some), some) if line.startswith("Note: ")]
    assert notes == [
        "Note: 100 pairs of the warm-up do not count for errors and latency.",
        "Note: 200 pairs do not count for latency: a model was loading on their server.",
        "Note: 5 pairs failed on both sides and say nothing of the canary.",
        "Note: 7 of 1,000 pairs (0.7 %) were lost: no such version, or no thread free.",
    ]


def test_a_metric_that_stops_keeps_its_evidence_and_says_since_when() -> None:
    """Its last e-value stands; the note says that nothing came since."""
    first = ruled(healthy(500))
    then = ruled(healthy(500), pairs(1000, first=500, stable_loss=np.nan, canary_loss=np.nan))
    loss = {name: next(f for f in found.findings if f.metric == "loss") for name, found in (("1", first), ("2", then))}
    assert loss["2"].pairs == loss["1"].pairs == 500
    assert loss["2"].log10_harmless == loss["1"].log10_harmless
    assert "loss has given no data since pair 500 (5 s)" in then.notes


def test_a_metric_that_never_had_data_is_told() -> None:
    assert "loss never entered: it had no data when the metrics to judge were fixed" in ruled(pairs(1000)).notes


def test_labels_that_come_late_are_told_in_both_languages() -> None:
    assert in_words("3 bad on canary only, 1 on stable only; 1,234 labels came late", "zh").endswith(
        "；1,234 个标签是事后到达的"
    )
    assert in_words("no label has come yet", "zh") == "尚未收到任何标签"
