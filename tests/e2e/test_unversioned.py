"""Clients that name no version: the canary lives on servers of its own, and promotion is loading."""

from typing import Any

from tests.fleet import MODEL, AgentProcess, Fleet


def run(fleet: Fleet) -> AgentProcess:
    config: dict[str, Any] = fleet.config()
    servers = config["servers"]
    servers[2]["canary"] = True
    traffic = config["models"][MODEL]["traffic"]
    model = {"clients": "unversioned", "placement": "own_replicas", "traffic": traffic}
    return fleet.run_agent(servers=servers, models={MODEL: model})


def answers(agent: AgentProcess) -> dict[str, int]:
    """The version that answers requests naming none, by server."""
    seen = agent.get("/v1/status").json()["seen"]
    return {server: view["models"][MODEL]["unversioned"] for server, view in seen.items() if view}


def test_users_meet_the_canary_only_after_it_has_passed(trio: Fleet) -> None:
    trio.add(2)
    agent = run(trio)
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    assert answers(agent) == {"r0": 1, "r1": 1, "r2": 2}
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "SUCCEEDED"
    agent.wait(lambda: answers(agent) == {"r0": 2, "r1": 2, "r2": 2}, "promoted everywhere")


def test_a_harmful_canary_never_reaches_users(trio: Fleet) -> None:
    trio.add(2, k=20.0)
    agent = run(trio)
    name = agent.begin(2)
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "ROLLED_BACK"
    agent.wait(lambda: answers(agent) == {"r0": 1, "r1": 1, "r2": 1}, "withdrawn")
    assert not any(record["data"].get("promoted") for record in agent.records(name))
