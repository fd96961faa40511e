"""One budget over all metrics, names by closed testing, rollback first."""

import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.domain.evidence import Finding, Role, State, Verdict
from haldane.judge.verdict import combined, judge, measured, named, odds, passes, quantity

NAMES = ("accuracy", "errors", "latency", "loss")
log_es = st.lists(st.floats(-20, 20), min_size=1, max_size=4)


def finding(state: State, role: Role = Role.OBJECTIVE) -> Finding:
    return Finding(metric="errors", role=role, state=state, unit="share", pairs=1)


def weigh(values: list[float], shares: list[float]) -> tuple[dict[str, float], dict[str, float]]:
    total = sum(shares[: len(values)])
    log_e = dict(zip(NAMES, values, strict=False))
    return log_e, {name: share / total for name, share in zip(log_e, shares, strict=False)}


@settings(deadline=None)
@given(log_es, st.lists(st.floats(0.1, 1), min_size=4, max_size=4))
def test_the_names_are_those_of_closed_testing_by_brute_force(values: list[float], shares: list[float]) -> None:
    log_e, weights = weigh(values, shares)

    def rejected(group: tuple[str, ...]) -> bool:
        total = sum(weights[name] for name in group)
        return sum(weights[name] * math.exp(log_e[name]) for name in group) / total >= 100 * (1 + 1e-9)

    groups = [group for size in range(1, len(log_e) + 1) for group in combinations(log_e, size)]
    expected = tuple(name for name in log_e if all(rejected(group) for group in groups if name in group))
    assert set(expected) <= set(named(log_e, weights, 0.01 * (1 + 1e-6)))
    assert set(named(log_e, weights, 0.01 * (1 - 1e-6))) <= set(expected)


@given(log_es, st.lists(st.floats(0.1, 1), min_size=4, max_size=4))
def test_the_combined_evidence_is_the_weighted_mean(values: list[float], shares: list[float]) -> None:
    log_e, weights = weigh(values, shares)
    mean = sum(weights[name] * math.exp(log_e[name]) for name in log_e)
    assert combined(log_e, weights) == pytest.approx(math.log(mean), abs=1e-9)


def test_without_metrics_that_can_roll_back_there_is_no_evidence() -> None:
    assert combined({"errors": 50.0}, {}) == 0.0
    assert named({"errors": 50.0}, {}, 0.01) == ()


def test_harm_spread_over_metrics_is_shown_jointly_though_none_is_named() -> None:
    log_e = dict.fromkeys(("accuracy", "errors"), math.log(110))
    log_e["latency"] = math.log(90)
    weights = dict.fromkeys(log_e, 1 / 3)
    assert combined(log_e, weights) >= math.log(100)
    assert "latency" not in named(log_e, weights, 0.01)


@pytest.mark.parametrize(
    ("failed", "passed", "doubts", "spent", "verdict"),
    [
        (True, True, [], "", Verdict.FAIL),
        (True, False, ["held"], "budget", Verdict.FAIL),
        (False, True, [], "budget", Verdict.PASS),
        (False, True, ["held"], "budget", Verdict.CONTINUE),
        (False, False, [], "", Verdict.CONTINUE),
        (False, False, [], "budget", Verdict.INCONCLUSIVE),
    ],
)
def test_rollback_comes_first_and_nothing_passes_by_running_out(
    failed: bool, passed: bool, doubts: list[str], spent: str, verdict: Verdict
) -> None:
    assert judge(failed=failed, passed=passed, doubts=doubts, spent=spent) is verdict


@pytest.mark.parametrize(
    ("findings", "passing"),
    [
        ([], False),
        ([finding(State.HARMLESS)], True),
        ([finding(State.HARMLESS), finding(State.NO_DATA)], False),
        ([finding(State.HARMLESS), finding(State.UNDECIDED)], False),
        ([finding(State.HARMLESS, Role.GUARDRAIL)], False),
        ([finding(State.HARMLESS), finding(State.NO_DATA, Role.INFO)], True),
    ],
)
def test_every_objective_must_be_shown_harmless(findings: list[Finding], passing: bool) -> None:
    assert passes(findings) is passing


@pytest.mark.parametrize(("log10_e", "words"), [(2.0, "100:1"), (0.0, "1:1"), (-0.5, "0.32:1"), (8.2, "10^8:1")])
def test_evidence_reads_like_odds(log10_e: float, words: str) -> None:
    assert odds(log10_e) == words


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [(0.0123, "share", "+1.23 pp"), (-0.05, "ratio", "-5.0 %"), (0.5, "loss", "+0.5"), (None, "share", "?")],
)
def test_quantities_carry_their_unit(value: float | None, unit: str, words: str) -> None:
    assert quantity(value, unit) == words


def test_an_estimate_that_is_missing_is_said_to_be() -> None:
    assert measured(finding(State.NO_DATA)) == "no estimate yet"
