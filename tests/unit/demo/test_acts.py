"""Which end of an act is the right one, and what the exit code and the table make of it."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from haldane.demo import show
from haldane.demo.acts import ACTS, Act, Ended, Expected, mistakes, stable_after
from haldane.domain.evidence import Finding, Role, Ruling, State, Verdict
from haldane.domain.fleet import Clients, ModelName, Placement, ServerName
from haldane.domain.rollout import Mode, Phase, Rollout, RolloutId

BY_VERSION = {act.version: act for act in ACTS}
ALERT = {"labels": {"alertname": "HaldaneLoadFailed", "model": "credit", "version": "5"}}


def a_rollout(act: Act, phase: Phase, verdict: Verdict) -> Rollout:
    return Rollout(
        id=RolloutId("r"),
        model=ModelName("credit"),
        old=3,
        new=act.version,
        mode=Mode.ENFORCE,
        clients=Clients.LABEL,
        placement=Placement.SAME_ENTRY,
        servers=(ServerName("replica-1"), ServerName("replica-2")),
        phase=phase,
        verdict=verdict,
        why="because",
    )


def a_ruling(*named: str) -> Ruling:
    findings = tuple(
        Finding(metric=name, role=Role.OBJECTIVE, state=State.UNDECIDED, unit="share", pairs=400, estimate=0.1)
        for name in ("accuracy", "latency")
    )
    return Ruling(
        verdict=Verdict.FAIL, findings=findings, pairs=400, seconds=4.0, log10_harm=2.1, why="harm", named=named
    )


def an_end(version: int, phase: Phase, stable: int, **more: Any) -> Ended:
    act = BY_VERSION[version]
    failed = phase is Phase.ROLLED_BACK
    values: dict[str, Any] = {
        "act": act,
        "rollout": a_rollout(act, phase, Verdict.FAIL if failed else Verdict.PASS),
        "ruling": a_ruling(),
        "seconds": 7.0,
        "before": {},
        "after": {"replica-1": {"stable": stable, "canary": None}, "replica-2": {"stable": stable, "canary": None}},
        "labelled": True,
    }
    ended = Ended(**(values | more))
    return replace(ended, mistakes=mistakes(ended, 3))


RIGHT_ENDS = [
    an_end(2, Phase.ROLLED_BACK, 3, ruling=a_ruling("accuracy")),
    an_end(3, Phase.SUCCEEDED, 3),
    an_end(4, Phase.ROLLED_BACK, 3, ruling=a_ruling("latency")),
    an_end(5, Phase.ROLLED_BACK, 3, ruling=None, labelled=False, alert=ALERT),
    an_end(6, Phase.SUCCEEDED, 6),
]

WRONG_ENDS = [
    (an_end(2, Phase.SUCCEEDED, 2), "ended SUCCEEDED"),
    (an_end(2, Phase.ROLLED_BACK, 3, ruling=a_ruling("latency")), "names latency, not accuracy"),
    (an_end(2, Phase.ROLLED_BACK, 3, ruling=None), "never judged"),
    (an_end(2, Phase.ROLLED_BACK, 2, ruling=a_ruling("accuracy")), "stable means version 2"),
    (an_end(3, Phase.ROLLED_BACK, 3), "ended ROLLED_BACK"),
    (an_end(3, Phase.SUCCEEDED, 1), "stable means version 1"),
    (an_end(4, Phase.ROLLED_BACK, 3, ruling=a_ruling("accuracy")), "names accuracy, not latency"),
    (an_end(5, Phase.ROLLED_BACK, 3, ruling=None, labelled=True, alert=ALERT), "a label pointed"),
    (an_end(5, Phase.ROLLED_BACK, 3, ruling=None, labelled=False), "no alert"),
    (an_end(6, Phase.ROLLED_BACK, 3), "ended ROLLED_BACK"),
    (an_end(6, Phase.HELD, 3), "ended HELD"),
]


@pytest.mark.parametrize("ended", RIGHT_ENDS, ids=lambda ended: f"v{ended.act.version}")
def test_the_expected_end_is_right(ended: Ended) -> None:
    assert ended.mistakes == ()


@pytest.mark.parametrize(("ended", "because"), WRONG_ENDS)
def test_any_other_end_is_wrong_and_says_why(ended: Ended, because: str) -> None:
    assert not ended.right
    assert because in "; ".join(ended.mistakes)


def test_an_identical_canary_may_stay_undecided() -> None:
    act = BY_VERSION[6]
    held = an_end(6, Phase.HELD, 3, rollout=a_rollout(act, Phase.HELD, Verdict.INCONCLUSIVE))
    assert held.right
    assert held.outcome == "inconclusive, held"


def test_replicas_that_disagree_have_no_common_stable_version() -> None:
    torn = an_end(3, Phase.SUCCEEDED, 3, after={"replica-1": {"stable": 3}, "replica-2": {"stable": 1}})
    assert stable_after(torn) is None
    assert "replica-2 stable means version 1" in "; ".join(torn.mistakes)


def test_every_kind_of_end_is_played_once() -> None:
    assert sorted(act.expected for act in ACTS) == sorted(Expected)


def table_of(every: list[Ended]) -> dict[str, Any]:
    return show.as_programs_read_it(every, seed=7, seconds=60.0, source="rows", report=None)


def test_programs_read_right_only_when_every_verdict_was() -> None:
    assert table_of(RIGHT_ENDS)["right"] is True
    assert table_of([*RIGHT_ENDS[1:], WRONG_ENDS[0][0]])["right"] is False
    assert table_of([])["right"] is False


def test_the_table_for_programs_is_json_with_a_row_per_act() -> None:
    table = json.loads(show.dumps(table_of(RIGHT_ENDS)))
    assert [row["version"] for row in table["acts"]] == [2, 3, 4, 5, 6]
    assert [row["pairs"] for row in table["acts"]][3] is None
    assert table["acts"][3]["alert"]["alertname"] == "HaldaneLoadFailed"


def test_the_table_for_people_names_what_was_wrong_and_what_was_done() -> None:
    console = Console(file=io.StringIO(), width=140)
    show.Show(console).table(RIGHT_ENDS)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("withdrawn: accuracy", "withdrawn: latency", "promoted", "never served", "stable → 6"):
        assert words in text
