"""The sentences hold the figures and say what they mean, in both languages."""

import re

import numpy as np
import pytest

from haldane.domain.evidence import Role, Ruling, Verdict
from haldane.domain.traffic import Batch, Status
from haldane.judge.analysis import Analysis
from haldane.judge.explain import LANGUAGES, describe, explain
from haldane.judge.limit import parse_limits
from haldane.judge.rules import Rules
from haldane.testing.pairs import metric, pairs, rules

RULES = rules(
    metric("accuracy", "1pp"),
    metric("errors", "1pp"),
    metric("latency", "+10%"),
    metric("loss", "0.1 loss"),
    metric("disagreement", "5pp", Role.INFO),
    metric("drift", "5pp", Role.INFO),
)
FLOOR = rules(metric("disagreement", "5pp", floor=True), metric("drift", "5pp", classes=True))

LIMITS = (*parse_limits("1%", "errors"), *parse_limits({"p99": "250ms"}, "latency"))


def ruled(*batches: Batch, some: Rules = RULES, final: bool = False) -> Ruling:
    analysis = Analysis(some)
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
    ruling = ruled(pairs(2), some=rules(metric("latency", "+10%")))
    assert "too few to estimate" in describe(ruling.findings[0])


def test_other_languages_are_refused() -> None:
    with pytest.raises(ValueError, match="fr"):
        explain(ruled(), RULES, "fr")
