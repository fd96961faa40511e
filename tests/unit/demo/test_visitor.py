"""What the API says is read back as the values it was made of."""

import json
from dataclasses import replace

import pytest

from haldane.demo import visitor
from haldane.domain.evidence import Finding, Role, Ruling, State, Verdict
from haldane.domain.fleet import Clients, ModelName, Placement, ServerName
from haldane.domain.record import chain
from haldane.domain.rollout import Mode, Phase, Rollout, RolloutId
from haldane.web.jsonform import as_json

ROLLOUT = Rollout(
    id=RolloutId("credit-2-abc"),
    model=ModelName("credit"),
    old=1,
    new=2,
    mode=Mode.ENFORCE,
    clients=Clients.LABEL,
    placement=Placement.SAME_ENTRY,
    servers=(ServerName("replica-1"), ServerName("replica-2")),
)
RULING = Ruling(
    verdict=Verdict.CONTINUE,
    findings=(Finding(metric="accuracy", role=Role.OBJECTIVE, state=State.NO_DATA, unit="share", pairs=0),),
    pairs=0,
    seconds=0.0,
    log10_harm=0.0,
    why="no pairs yet",
)


@pytest.mark.parametrize("phase", list(Phase))
def test_a_rollout_survives_the_way_through_the_api(phase: Phase) -> None:
    rollout = replace(ROLLOUT, phase=phase, promoted=(ServerName("replica-1"),))
    assert visitor.read_rollout(json.loads(json.dumps(as_json(rollout)))) == rollout


def test_rulings_and_records_survive_the_way_through_the_api() -> None:
    record = chain(None, at=1.0, kind="phase_changed", rollout="r", data={"phase": "LOADING"})
    assert visitor.read_rulings(json.loads(json.dumps(as_json([RULING])))) == [RULING]
    assert visitor.read_records(json.loads(json.dumps(as_json([record])))) == [record]


def test_no_ruling_is_no_ruling() -> None:
    assert visitor.read_ruling(None) is None


def test_waiting_in_vain_says_what_was_waited_for() -> None:
    with pytest.raises(TimeoutError, match="the moon does not rise: not within 0 seconds"):
        visitor.wait_until(lambda: False, 0.01, "the moon does not rise")


def test_an_agent_that_is_not_there_is_not_ready_and_says_so() -> None:
    absent = visitor.Visitor("http://127.0.0.1:1", "token")
    assert not absent.ready()
    with pytest.raises(visitor.Turned, match="ConnectError"):
        absent.labels()
