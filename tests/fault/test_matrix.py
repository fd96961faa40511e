"""Every fault at every moment of a rollout: users of `stable` never get a wrong answer, and nothing is lost.

In CI a sample on four servers; `make faults` runs all of it on twenty and writes docs/reliability.md.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import pytest
from tests.fault.bystanders import Bystanders
from tests.fault.faults import FAULTS, Fault
from tests.fault.stage import PLENTY_SECONDS, LabelledFleet, Stage, stage
from tests.fleet import MODEL, Fleet

from haldane.sandbox.forkserver import ForkServer
from haldane.testing.sandboxes import Spawn

EVERYTHING = os.environ.get("HALDANE_FAULTS") == "all"
ROWS = os.environ.get("HALDANE_FAULT_ROWS")  # a file that a line of JSON is added to for each run
SIZE = int(os.environ.get("HALDANE_FAULT_SERVERS", "20" if EVERYTHING else "4"))
FINAL = ("SUCCEEDED", "ROLLED_BACK", "HELD")
GOOD, BAD = 10.0, 20.0
MOMENTS = {
    # phase: what the new version multiplies by; 10 is right
    "LOADING": GOOD,
    "SHADOWING": GOOD,
    "PROMOTING": GOOD,
    "BAKING": GOOD,
    "ROLLING_BACK": BAD,
}
SAMPLE = {
    ("agent killed, another takes over", "PROMOTING"),
    ("agent cut off from half of the servers for 5 s", "ROLLING_BACK"),
    ("half of the servers killed", "BAKING"),
    ("the agent's clock set an hour ahead, then back", "SHADOWING"),
    ("PostgreSQL away for 5 s", "PROMOTING"),
}
CELLS = [(fault, moment) for fault in FAULTS for moment in MOMENTS if EVERYTHING or (fault.name, moment) in SAMPLE]
NAMES = [f"{fault.strike.__name__}-{moment}" for fault, moment in CELLS]


@dataclass(frozen=True, slots=True)
class Row:
    """One run. `seconds` from the fault until every server agreed again."""

    fault: str
    moment: str
    servers: int
    ended: str
    stable: int
    seconds: float
    answers: int
    errors: dict[str, int]
    wrong: int
    lost: int


@pytest.fixture(scope="module")
def spawn() -> Iterator[Spawn | None]:
    """The whole matrix starts its servers as forks, or it would wait for them most of the time."""
    if not EVERYTHING:
        yield None
        return
    with ForkServer() as server:
        yield server.spawn


@pytest.mark.timeout(420)
@pytest.mark.parametrize(("fault", "moment"), CELLS, ids=NAMES)
def test_users_of_stable_are_never_wronged_and_nothing_is_lost(
    fault: Fault, moment: str, tmp_path: Path, need_binary: Callable[[str], str], spawn: Spawn | None
) -> None:
    factor = MOMENTS[moment]
    config = {
        "analysis": {
            "least_pairs": 1000 if moment == "SHADOWING" else 200,
            "warmup_pairs": 20,
            "entry_pairs": 100,
            "horizon_pairs": 6000,
            "budget": "120s",
            "dependence": "0s",
            "metrics": {"accuracy": "2pp", "errors": "2pp", "latency": False, "disagreement": False},
        },
        "plan": {"load": "60s", "bake": "3s", "change": "60s"},
    }
    with stage(tmp_path, SIZE, set(fault.needs), need_binary, spawn=spawn, **config) as made:
        recipe = {"recipe": "slow_load", "seconds": 3} if moment == "LOADING" else {}
        made.fleet.add(2, **{"k": factor, **recipe})
        addresses = [one.server.address for one in made.fleet.sandboxes]
        made.agent.wait(lambda: len(made.agent.labels()) == SIZE, "every server seen")
        with Bystanders(MODEL, addresses, label="stable", allowed={1, 2} if factor == GOOD else {1}) as seen:
            name = made.agent.begin(2)
            _reach(made, name, moment)
            made.note(name)
            struck = time.monotonic()
            fault.strike(made)
            over = made.agent.wait_phase(name, *FINAL, seconds=PLENTY_SECONDS)
            if over["phase"] == "HELD":  # a person decides; this one decides for stable
                assert _command(made, name, "abort")
                over = made.agent.wait_phase(name, "ROLLED_BACK", seconds=PLENTY_SECONDS)
            stable = 2 if over["phase"] == "SUCCEEDED" else 1
            agreed = {one.name: {"stable": stable} for one in made.fleet.sandboxes}
            made.agent.wait(lambda: made.agent.labels() == agreed, f"all on {stable}", PLENTY_SECONDS)
            seconds = time.monotonic() - struck
            time.sleep(1.0)  # what lands late must not hurt either
            assert {str(labels) for labels in made.agent.labels().values() if labels} == {str({"stable": stable})}
        made.note(name)
        row = Row(
            fault=fault.name,
            moment=moment,
            servers=SIZE,
            ended=over["phase"],
            stable=stable,
            seconds=round(seconds, 1),
            answers=seen.answers,
            errors=dict(seen.errors),
            wrong=len(seen.wrong),
            lost=made.lost(),
        )
    if ROWS:
        with Path(ROWS).open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
    print(row)
    assert seen.wrong == []
    assert row.lost == 0
    assert factor == GOOD or row.ended == "ROLLED_BACK"
    assert factor != GOOD or made.clock is None or row.ended == "SUCCEEDED"  # no time limit moves with the clock
    assert seen.answers > 0


def test_the_watch_itself_sees_a_wrong_answer_and_a_lost_record(fleet: Fleet) -> None:
    """So that the zeros of the table mean something."""
    fleet.add(2, k=20.0)
    agent = fleet.run_agent()
    made = Stage(cast(LabelledFleet, fleet), agent)
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    with Bystanders(MODEL, [fleet.first.server.address], label="canary", allowed={1}) as seen:
        agent.wait(lambda: len(seen.wrong) > 0, "a wrong answer seen")
    made.note(name)
    assert made.lost() == 0
    made.known |= {10**6: "of a record that was never kept"}
    assert made.lost() == 1


def _reach(made: Stage, name: str, moment: str) -> None:
    """Until the rollout is in that phase; one that would pass by too soon is stopped half-way by the first server."""
    if moment not in ("PROMOTING", "ROLLING_BACK"):
        made.agent.wait_phase(name, moment, seconds=PLENTY_SECONDS)
        return
    # Held until that server refuses what is sent next: the trial may be over sooner than it is seen to have begun.
    made.agent.wait(lambda: _command(made, name, "pause"), "held", PLENTY_SECONDS)
    on_trial = {one.name: {"stable": 1, "canary": 2} for one in made.fleet.sandboxes}
    made.agent.wait(lambda: made.agent.labels() == on_trial, "on trial", PLENTY_SECONDS)
    made.fleet.break_(0, kind="reload", how="refuse")
    assert _command(made, name, "resume")
    made.agent.wait_phase(name, moment, seconds=PLENTY_SECONDS)
    time.sleep(0.5)  # the others go ahead
    made.fleet.mend(0)


def _command(made: Stage, name: str, kind: str) -> bool:
    return made.agent.post(f"/v1/rollouts/{name}/commands", kind=kind).is_success
