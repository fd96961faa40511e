"""Two people, a freeze, and what is denied: an agent over sandboxes."""

from datetime import UTC, datetime, timedelta

import httpx
from tests.fleet import AgentProcess, Fleet

TOKENS = {"ada": "ada-" * 8, "bob": "bob-" * 8, "ci": "ci-ci-" * 8}


def config(fleet: Fleet) -> dict[str, object]:
    rights = {"ada": ["start", "approve"], "bob": ["approve"], "ci": ["announce"]}
    for name, token in TOKENS.items():
        (fleet.directory / f"{name}.token").write_text(token)
    people = [{"name": n, "token_file": str(fleet.directory / f"{n}.token"), "rights": r} for n, r in rights.items()]
    return {"people": people, "plan": {"load": "20s", "bake": "1s", "change": "20s", "approvals": 1}}


def post(agent: AgentProcess, who: str, path: str, **body: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKENS[who]}"}
    return httpx.post(agent.url + path, json={"by": "x", "why": "y", **body}, headers=headers, timeout=20)


def test_what_passed_waits_for_somebody_else_and_every_denied_attempt_is_on_record(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent(**config(fleet))
    assert post(agent, "ci", "/v1/rollouts", model="scorer", version=2).status_code == 403
    name = post(agent, "ada", "/v1/rollouts", model="scorer", version=2).json()["rollout"]["id"]
    agent.wait(lambda: agent.rollout(name)["why"] == "passed; waits for approval (0 of 1)", "passed")
    commands = f"/v1/rollouts/{name}/commands"
    agent.kill()
    agent.start()
    agent.wait(lambda: agent.rollout(name)["verdict"] == "pass", "still passed")
    assert "started this rollout" in post(agent, "ada", commands, kind="approve").text
    assert post(agent, "ci", commands, kind="approve").status_code == 403
    assert agent.labels()["r0"]["stable"] == 1
    assert post(agent, "bob", commands, kind="approve").status_code == 200
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "SUCCEEDED"
    agent.wait(lambda: agent.labels() == {"r0": {"stable": 2}, "r1": {"stable": 2}}, "promoted")
    told = [one for one in agent.records(name) if one["data"].get("command") == "approve"]
    assert [(one["kind"] == "command_refused", one["data"]["by"]) for one in told] == [(True, "ada"), (False, "bob")]
    assert "approved by bob" in told[1]["data"]["why"]
    everything = agent.get("/v1/records").text
    assert everything.count('"denied"') == 2
    wrong = {"Authorization": "Bearer nobodys-token"}
    assert httpx.post(agent.url + "/v1/rollouts", json={}, headers=wrong, timeout=20).status_code == 403
    agent.wait(lambda: '"caller_refused"' in agent.get("/v1/records").text, "the stranger on record")
    everything = agent.get("/v1/records").text
    assert '"reason":"unknown token"' in everything and "nobodys-token" not in everything + agent.log.read_text()
    assert not any(token in everything + agent.log.read_text() for token in TOKENS.values())


def test_in_a_freeze_nothing_starts_and_the_refusal_says_until_when(fleet: Fleet) -> None:
    fleet.add(2)
    now = datetime.now(UTC)
    freeze = {"since": (now - timedelta(hours=1)).isoformat(), "until": (now + timedelta(hours=1)).isoformat()}
    agent = fleet.run_agent(freeze=[{**freeze, "why": "the auditors are here"}])
    answer = agent.post("/v1/rollouts", model="scorer", version=2)
    assert (answer.status_code, "the auditors are here" in answer.json()["error"]) == (409, True)
