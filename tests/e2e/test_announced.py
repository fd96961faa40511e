"""Releases that start by themselves: from an event, from storage, through a crash."""

import json

import httpx
from tests.fleet import MODEL, AgentProcess, Fleet


def config(fleet: Fleet, **releases: object) -> dict[str, object]:
    models = fleet.config()["models"]
    return {"models": {MODEL: {**models[MODEL], "releases": releases}}, "list_every": "500ms"}


def announce(agent: AgentProcess, version: int, name: str) -> httpx.Response:
    event = {"specversion": "1.0", "id": name, "source": "/ci", "type": "haldane.release.published"}
    body = {**event, "datacontenttype": "application/json", "data": {"model": MODEL, "version": version, "by": "ci"}}
    headers = {"content-type": "application/cloudevents+json", "Authorization": f"Bearer {agent.token}"}
    return httpx.post(agent.url + "/v1/events", content=json.dumps(body), headers=headers, timeout=10)


def started(agent: AgentProcess) -> list[int]:
    return [one["new"] for one in reversed(agent.get("/v1/rollouts").json()["rollouts"])]


def test_an_event_starts_a_rollout_once_through_a_crash_and_a_newer_one_waits_for_its_end(fleet: Fleet) -> None:
    fleet.add(2, "slow_load", k=10.0, seconds=3)
    fleet.add(3)
    agent = fleet.run_agent(**config(fleet))
    assert announce(agent, 2, "1").json() == {"model": MODEL, "version": 2, "taken": True}
    agent.wait(lambda: started(agent) == [2], "a rollout of version 2")
    assert announce(agent, 3, "2").json()["taken"] is True
    agent.kill()
    agent.start()
    assert announce(agent, 2, "1").json()["taken"] is False
    agent.wait(lambda: agent.labels() == {"r0": {"stable": 3}, "r1": {"stable": 3}}, "both promoted in turn", 120)
    assert started(agent) == [2, 3]
    assert announce(agent, 2, "3").status_code == 202
    log = agent.directory / "agent.log"
    agent.wait(lambda: "version 2 is older than stable" in log.read_text(), "an old version refused")
    assert started(agent) == [2, 3]


def test_a_new_version_in_storage_starts_by_itself_once_it_is_complete_and_a_withdrawn_one_never_again(
    fleet: Fleet,
) -> None:
    agent = fleet.run_agent(**config(fleet, watch=True))
    agent.wait(lambda: len(agent.labels()) == 2, "seen")
    half = fleet.first.models / MODEL / "2"
    half.mkdir()
    (half / "notes.txt").write_text("more to come")
    fleet.add(3, k=20.0)
    agent.wait(lambda: started(agent) == [3], "a rollout of the complete version")
    (name,) = [one["id"] for one in agent.get("/v1/rollouts").json()["rollouts"]]
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "ROLLED_BACK"
    agent.kill()
    agent.start()
    agent.wait(lambda: agent.get("/v1/status").json()["rollouts"] == [], "at rest")
    announce(agent, 3, "again")
    log = agent.directory / "agent.log"
    agent.wait(lambda: "withdrew version 3" in log.read_text(), "the withdrawn version refused")
    assert started(agent) == [3]
