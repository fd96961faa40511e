"""kill -9 of the agent in each phase ends in the same labels as without it."""

from typing import Any

import pytest
from tests.e2e.test_labels import post_labels, run_agent
from tests.fleet import AgentProcess, Fleet

from haldane.adapters.sql import open_store
from haldane.domain.rollout import RolloutId

PROMOTED = {"r0": {"stable": 2}, "r1": {"stable": 2}}
WITHDRAWN = {"r0": {"stable": 1}, "r1": {"stable": 1}}
REFUSE: dict[str, Any] = {"kind": "reload", "how": "refuse"}


def stored_phase(fleet: Fleet, name: str) -> str:
    store = open_store(f"sqlite:///{fleet.directory / 'state' / 'haldane.db'}")
    try:
        found = store.rollout(RolloutId(name))
        assert found is not None
        return found[0].phase
    finally:
        store.close()


def kill_and_restart(fleet: Fleet, agent: AgentProcess, name: str, phase: str) -> None:
    agent.kill()
    assert stored_phase(fleet, name) == phase
    for index in range(2):
        fleet.mend(index)
    agent.start()


def test_killed_while_pending(fleet: Fleet) -> None:
    fleet.add(2)
    fleet.break_(1, **REFUSE)  # so that stable cannot be labelled there, and the rollout waits to begin
    agent = fleet.run_agent()
    name = agent.begin(2)
    agent.wait(lambda: agent.labels()["r0"] == {"stable": 1}, "one server at rest")
    kill_and_restart(fleet, agent, name, "PENDING")
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "SUCCEEDED"
    agent.wait(lambda: agent.labels() == PROMOTED, "promoted")


def test_killed_while_loading(fleet: Fleet) -> None:
    fleet.add(2, "slow_load", k=10.0, seconds=3)
    agent = fleet.run_agent()
    name = agent.begin(2)
    agent.wait_phase(name, "LOADING")
    kill_and_restart(fleet, agent, name, "LOADING")
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "SUCCEEDED"
    agent.wait(lambda: agent.labels() == PROMOTED, "promoted")


@pytest.mark.parametrize(("k", "phase", "labels"), [(10.0, "SUCCEEDED", PROMOTED), (10.5, "ROLLED_BACK", WITHDRAWN)])
def test_killed_while_shadowing_the_evidence_so_far_counts(
    fleet: Fleet, k: float, phase: str, labels: dict[str, Any]
) -> None:
    fleet.add(2, k=k)
    # Few pairs a second, so that it is still shadowing when it is killed. From row 100 on, 10.5 x is wrong.
    agent = fleet.run_agent(shadow={"rate": 40, "concurrency": 4}, outputs={"kind": "regression", "wrong_beyond": 0.5})
    name = agent.begin(2)
    agent.wait(lambda: agent.get(f"/v1/rollouts/{name}").json()["ruling"] is not None, "shadowing with a first ruling")
    agent.wait(lambda: agent.get(f"/v1/rollouts/{name}").json()["ruling"]["pairs"] > 10, "some pairs judged")
    before = agent.get(f"/v1/rollouts/{name}").json()["ruling"]["pairs"]
    kill_and_restart(fleet, agent, name, "SHADOWING")
    agent.wait(
        lambda: agent.get(f"/v1/rollouts/{name}").json()["ruling"]["pairs"] >= before, "the evidence folded again"
    )
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert over["phase"] == phase, over["why"]
    agent.wait(lambda: agent.labels() == labels, f"labels {labels}")


def test_killed_while_promoting_half_the_fleet(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent()
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    fleet.break_(1, **REFUSE)
    agent.wait(lambda: agent.rollout(name)["promoted"] == ["r0", "r1"], "promoting the second server")
    assert agent.labels() == {"r0": {"canary": 2, "stable": 2}, "r1": {"canary": 2, "stable": 1}}
    kill_and_restart(fleet, agent, name, "PROMOTING")
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "SUCCEEDED"
    agent.wait(lambda: agent.labels() == PROMOTED, "promoted")


def test_killed_while_baking(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent(plan={"load": "20s", "bake": "3s", "change": "20s"})
    name = agent.begin(2)
    agent.wait_phase(name, "BAKING")
    kill_and_restart(fleet, agent, name, "BAKING")
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "SUCCEEDED"
    agent.wait(lambda: agent.labels() == PROMOTED, "promoted")


def test_killed_while_rolling_back_half_the_fleet(fleet: Fleet) -> None:
    fleet.add(2, k=20.0)
    agent = fleet.run_agent()
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    fleet.break_(1, **REFUSE)
    agent.wait_phase(name, "ROLLING_BACK")
    agent.wait(lambda: agent.labels() == {"r0": {"stable": 1}, "r1": {"canary": 2, "stable": 1}}, "half rolled back")
    kill_and_restart(fleet, agent, name, "ROLLING_BACK")
    agent.wait_phase(name, "ROLLED_BACK")
    agent.wait(lambda: agent.labels() == WITHDRAWN, "withdrawn")


def test_killed_while_held(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent()
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    agent.post(f"/v1/rollouts/{name}/commands", kind="pause")
    kill_and_restart(fleet, agent, name, "HELD")
    assert agent.rollout(name)["phase"] == "HELD"
    agent.post(f"/v1/rollouts/{name}/commands", kind="abort")
    agent.wait_phase(name, "ROLLED_BACK")
    agent.wait(lambda: agent.labels() == WITHDRAWN, "withdrawn")


def test_killed_while_a_promotion_is_taken_back(fleet: Fleet) -> None:
    fleet.add(2, k=20.0)
    agent = run_agent(fleet, wait="15s")
    name = agent.begin(2)
    agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD", seconds=90)
    fleet.break_(1, **REFUSE)  # so that the revert does not get through at once
    post_labels(agent)
    back = f"{name}-revert"
    agent.wait(lambda: agent.get(f"/v1/rollouts/{back}").status_code == 200, "being taken back")
    kill_and_restart(fleet, agent, back, "ROLLING_BACK")
    assert agent.wait_phase(back, "ROLLED_BACK", "STUCK")["phase"] == "ROLLED_BACK"
    agent.wait(lambda: agent.labels() == WITHDRAWN, "withdrawn")
    agent.wait(lambda: "promotion_taken_back" in [one["kind"] for one in agent.records(name)], "on record")
    assert [one["kind"] for one in agent.records(name)].count("promotion_taken_back") == 1
