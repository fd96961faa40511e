"""The canary as a model of its own on the same servers, for clients that name no version: nothing else splits them."""

from typing import Any

import httpx
from tests.fleet import MODEL, AgentProcess, Fleet

APART = f"{MODEL}_canary"


def run(fleet: Fleet, **more: Any) -> AgentProcess:
    traffic = fleet.config()["models"][MODEL]["traffic"]
    model = {"clients": "unversioned", "placement": "second_name", "traffic": traffic}
    return fleet.run_agent(models={MODEL: model}, **more)


def loaded(fleet: Fleet, name: str) -> list[set[int]]:
    """The versions AVAILABLE under that name, by server, as the servers themselves say."""
    return [_loaded(sandbox.rest_port, name) for sandbox in fleet.sandboxes]


def _loaded(port: int, name: str) -> set[int]:
    answer = httpx.get(f"http://127.0.0.1:{port}/v1/models/{name}", timeout=10).json()
    statuses = answer.get("model_version_status", [])
    return {int(one["version"]) for one in statuses if one["state"] == "AVAILABLE"}


def test_it_goes_without_a_trace_though_the_agent_died_and_the_next_is_promoted_under_the_models_name(
    fleet: Fleet,
) -> None:
    fleet.add(2, k=20.0)
    fleet.add(3)
    agent = run(fleet, shadow={"rate": 1, "concurrency": 1})  # no verdict before the agent dies
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    agent.kill()
    assert (loaded(fleet, MODEL), loaded(fleet, APART)) == ([{1}, {1}], [{2}, {2}])
    agent = run(fleet)
    agent.wait_phase(name, "ROLLED_BACK")
    assert (loaded(fleet, MODEL), loaded(fleet, APART)) == ([{1}, {1}], [set(), set()])
    name = agent.begin(3)
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "SUCCEEDED"
    assert loaded(fleet, APART) == [set(), set()], "its own name was to go before the bake ended"
    agent.wait(lambda: loaded(fleet, MODEL) == [{3}, {3}], "version 1 unloaded")


def test_a_name_that_somebody_else_has_refuses_every_change(fleet: Fleet) -> None:
    fleet.add(2)
    theirs = fleet.sandboxes[1]
    theirs.add(APART, 7, k=1.0)
    theirs.stop()
    theirs.start(theirs.config(theirs.entry(MODEL, 1), theirs.entry(APART, 7)), rest=True)
    agent = run(fleet)
    answer = agent.post("/v1/rollouts", model=MODEL, version=2)
    assert answer.status_code == 409 and f"serves model '{APART}' (version 7)" in answer.text
    assert loaded(fleet, APART) == [set(), {7}]
