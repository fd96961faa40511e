"""Traps of Serving that show only on a whole fleet; numbers are those of docs/design/serving-traps.md."""

import shutil

from tests.fleet import MODEL, Fleet


def test_trap_22_a_server_that_dies_while_it_loads_holds_the_rollout_and_is_never_passed(fleet: Fleet) -> None:
    """As one does that runs out of memory with both versions resident."""
    fleet.add(2, "slow_load", k=10.0, seconds=2)
    agent = fleet.run_agent(plan={"load": "60s", "bake": "1s", "change": "20s"})
    name = agent.begin(2)
    agent.wait_phase(name, "LOADING")
    fleet.sandboxes[1].stop()
    agent.wait(lambda: agent.labels()["r0"] == {"canary": 2, "stable": 1}, "labelled on the server that lives")
    assert agent.rollout(name)["phase"] == "LOADING"
    fleet.restart(1)
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "SUCCEEDED"


def test_trap_27_a_partial_copy_is_refused_before_it_is_asked_for(fleet: Fleet) -> None:
    fleet.add(2)
    copied = fleet.directory / "models" / MODEL / "2"
    (copied / "saved_model.pb").rename(copied / "variables.data")  # what is written last is not there yet
    agent = fleet.run_agent()
    answer = agent.post("/v1/rollouts", model=MODEL, version=2)
    assert (answer.status_code, "is the upload complete?" in answer.text) == (409, True)
    (copied / "variables.data").rename(copied / "saved_model.pb")
    assert agent.wait_phase(agent.begin(2), "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "SUCCEEDED"


def test_trap_28_a_served_version_deleted_from_disk_is_told(fleet: Fleet) -> None:
    agent = fleet.run_agent()
    agent.wait(lambda: agent.labels()["r0"] == {"stable": 1}, "at rest")
    shutil.rmtree(fleet.directory / "models" / MODEL / "1")  # somebody cleans up what is served

    def told() -> bool:
        return "label_dangling" in {found["name"] for found in agent.get("/v1/status").json()["conditions"]}

    agent.wait(told, "told that stable resolves to nothing")
