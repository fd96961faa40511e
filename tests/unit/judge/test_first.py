"""A first version: no baseline, so absolute limits alone, and the verdict says so."""

import re

import numpy as np
import pytest

from haldane.domain.evidence import Role, Ruling, Verdict
from haldane.domain.traffic import Batch, Status
from haldane.judge.analysis import Analysis
from haldane.judge.explain import explain
from haldane.judge.first import without_baseline
from haldane.judge.limit import parse_limits
from haldane.judge.rules import Rules
from haldane.testing.pairs import metric, pairs, rules

LIMITS = (*parse_limits("2%", "errors"), *parse_limits({"p99": "250ms"}, "latency"))
FIRST = without_baseline(rules(metric("errors", "1pp"), metric("latency", "+10%"), limits=LIMITS))


def ruled(batch: Batch, *, final: bool = False, some: Rules = FIRST) -> Ruling:
    analysis = Analysis(some)
    for part in np.array_split(batch, 20):
        analysis.fold(part)
    return analysis.ruling(5.0, final=final)


def both(n: int, share: float) -> Batch:
    """Both sides ask one version, so what fails fails on both."""
    failed = np.random.default_rng(1).random(n) < share
    status = np.where(failed, int(Status.INTERNAL), int(Status.OK))
    return pairs(n, stable_status=status, canary_status=status)


def test_it_passes_when_every_limit_is_shown_to_be_kept_and_says_that_there_was_no_baseline() -> None:
    ruling = ruled(both(3000, 0.001))
    assert ruling.verdict is Verdict.PASS
    assert ruling.why.startswith("no baseline; ")
    assert any("no baseline: this is the model's first version" in line for line in explain(ruling, FIRST))


def test_failures_on_both_sides_are_its_own_and_no_sick_baseline() -> None:
    ruling = ruled(both(3000, 0.3))
    assert ruling.verdict is Verdict.FAIL
    assert "sick baseline" not in ruling.why


def test_a_version_slower_than_its_limit_is_withdrawn() -> None:
    assert ruled(pairs(3000, canary_seconds=0.3)).verdict is Verdict.FAIL


@pytest.mark.parametrize("share", [0.02, 0.018])
def test_at_its_limit_it_never_passes(share: float) -> None:
    assert ruled(both(2000, share), final=True).verdict is Verdict.INCONCLUSIVE


def test_no_answers_are_no_pass() -> None:
    gone = pairs(3000, stable_status=Status.NOT_FOUND, canary_status=Status.NOT_FOUND)
    assert ruled(gone, final=True).verdict is Verdict.INCONCLUSIVE
    assert ruled(pairs(0), final=True).verdict is Verdict.INCONCLUSIVE


def test_errors_without_a_limit_get_their_margin_as_one() -> None:
    (limit,) = without_baseline(rules(metric("errors", "1pp"), metric("accuracy", "1pp"))).limits
    assert (limit.measures, limit.share, limit.role) == ("errors", 0.01, Role.OBJECTIVE)


def test_without_anything_absolute_there_is_nothing_to_judge() -> None:
    with pytest.raises(ValueError, match="absolute limits alone, and there is none: give for example"):
        without_baseline(rules(metric("accuracy", "1pp"), metric("latency", "+10%")))


def test_the_rules_of_a_first_version_are_stored_and_read_back() -> None:
    assert Rules.from_json(FIRST.to_json()) == FIRST


def test_chinese_leaves_no_english_behind() -> None:
    for ruling in (ruled(both(3000, 0.001)), ruled(both(3000, 0.3)), ruled(both(100, 0.0), final=True)):
        for sentence in explain(ruling, FIRST, "zh"):
            assert not re.findall(r"[A-Za-z]{3,}", sentence), sentence
