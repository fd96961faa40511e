"""Right answers that come after the answers, the agent as a process over toy sandboxes."""

import json
import subprocess
from typing import Any

import httpx
from tests.fleet import HALDANE, MODEL, ROWS, AgentProcess, Fleet

# Promoted on errors alone: what the answers were worth only labels can tell, and these come later.
ANALYSIS = {
    "least_pairs": 200,
    "warmup_pairs": 20,
    "entry_pairs": 100,
    "horizon_pairs": 3000,
    "budget": "40s",
    "dependence": "0s",
    "metrics": {
        "errors": "3pp",
        "accuracy": {"role": "guardrail", "margin": "2pp"},
        "latency": False,
        "disagreement": False,
    },
}


def run_agent(fleet: Fleet, wait: str) -> AgentProcess:
    """Traffic whose right answers nobody knows yet; labels are awaited for so long."""
    lines = fleet.directory / "requests.jsonl"
    lines.write_text("".join(json.dumps({"instances": [i / 100], "id": f"q{i}"}) + "\n" for i in range(ROWS)))
    traffic = {"rest_jsonl": str(lines)}
    model = {"clients": "label", "traffic": traffic, "labels": {"wait": wait}}
    return fleet.run_agent(models={MODEL: model}, analysis=ANALYSIS)


def send_labels(agent: AgentProcess) -> str:
    """The right answer to every request: ten times its input, as version 1 says."""
    file = agent.directory / "labels.jsonl"
    file.write_text("".join(json.dumps({"request": f"q{i}", "label": i / 10}) + "\n" for i in range(ROWS)))
    command = [HALDANE, "labels", "send", str(file), "--model", MODEL, "--config", str(agent.config_file)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def post_labels(agent: AgentProcess) -> None:
    """The same by the API: at once, where a test must be in time."""
    lines = "".join(json.dumps({"request": f"q{i}", "label": i / 10}) + "\n" for i in range(ROWS))
    headers = {"Authorization": f"Bearer {agent.token}"}
    answer = httpx.post(f"{agent.url}/v1/labels?model={MODEL}", content=lines, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["accepted"]) == (202, ROWS)


def explained(agent: AgentProcess, name: str, language: str = "en") -> str:
    found: dict[str, Any] = agent.get(f"/v1/rollouts/{name}/explanation?language={language}").json()
    return " ".join(found["sentences"])


def test_labels_that_show_harm_after_a_promotion_bring_the_old_version_back(fleet: Fleet) -> None:
    fleet.add(2, k=20.0)
    agent = run_agent(fleet, wait="15s")
    name = agent.begin(2)
    agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD", seconds=90)
    post_labels(agent)
    back = f"{name}-revert"
    agent.wait(lambda: agent.get(f"/v1/rollouts/{back}").status_code == 200, "being taken back")
    over = agent.wait_phase(back, "ROLLED_BACK", "STUCK")
    assert (over["old"], over["new"], over["reverts"]) == (1, 2, name), over
    assert "accuracy" in over["why"]
    assert agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}
    assert agent.get("/v1/status").json()["stable"] == {MODEL: 1}
    assert [record["kind"] for record in agent.records(name)][-1] == "promotion_taken_back"
    assert f"The promotion was taken back later by rollout {back}" in explained(agent, name)
    assert "FAIL" in explained(agent, back)
    assert f"它撤回的是 {name} 的上线" in explained(agent, back, "zh")
    assert 'haldane_promotions_taken_back_total{model="scorer"} 1.0' in agent.get("/metrics").text

    replay = [HALDANE, "replay", name, "--config", str(agent.config_file)]  # the verdict on late labels included
    subprocess.run(replay, check=True, capture_output=True, timeout=60)

    agent.kill()  # what stands at rest is what the revert left
    agent.start()
    agent.wait(lambda: agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}, "at rest on version 1")
    assert [one["id"] for one in agent.get("/v1/rollouts").json()["rollouts"]] == [back, name]
    assert agent.post("/v1/rollouts", model=MODEL, version=2).status_code == 201  # the version may be tried again


def test_labels_that_come_while_baking_withdraw_the_canary_the_ordinary_way(fleet: Fleet) -> None:
    fleet.add(2, k=20.0)
    agent = run_agent(fleet, wait="120s")
    name = agent.begin(2)
    agent.wait_phase(name, "BAKING")
    agent.kill()  # labels that were not joined yet are found again
    agent.start()
    assert f"{ROWS:,} accepted" in send_labels(agent)
    over = agent.wait_phase(name, "ROLLED_BACK", "SUCCEEDED", "STUCK")
    assert over["phase"] == "ROLLED_BACK", over["why"]
    assert agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}
    assert agent.get(f"/v1/rollouts/{name}-revert").status_code == 404


def test_labels_that_are_right_leave_the_promotion_and_none_counts_twice(fleet: Fleet) -> None:
    fleet.add(2)
    agent = run_agent(fleet, wait="8s")
    assert f"of which {ROWS:,} without a pair so far" in send_labels(agent)  # before their pairs
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert over["phase"] == "SUCCEEDED", over["why"]
    assert f"{ROWS:,} were known already" in send_labels(agent)
    ruling = agent.get(f"/v1/rollouts/{name}").json()["ruling"]
    pairs = {finding["metric"]: finding["pairs"] for finding in ruling["findings"]}
    assert 200 < pairs["accuracy"] <= ROWS
    assert agent.labels() == {"r0": {"stable": 2}, "r1": {"stable": 2}}


def golden_agent(fleet: Fleet) -> AgentProcess:
    """Traffic without right answers, and 600 rows of known answer that come first."""
    lines = fleet.directory / "requests.jsonl"
    lines.write_text("".join(json.dumps({"instances": [i / 100], "id": f"q{i}"}) + "\n" for i in range(ROWS)))
    golden = fleet.directory / "golden"
    golden.mkdir()
    (golden / "first.csv").write_text("x,truth\n" + "".join(f"{i / 100},{i / 10}\n" for i in range(400)))
    (golden / "second.jsonl").write_text(
        "".join(json.dumps({"instances": [i / 100], "truth": i / 10}) + "\n" for i in range(400, 600))
    )
    model = {
        "clients": "label",
        "traffic": {"rest_jsonl": str(lines)},
        "golden": {"path": str(golden), "label": "truth"},
    }
    judged = {**ANALYSIS, "least_pairs": 800, "metrics": {**ANALYSIS["metrics"], "accuracy": "2pp"}}
    return fleet.run_agent(models={MODEL: model}, analysis=judged)


def test_a_golden_set_shows_at_once_what_traffic_cannot(fleet: Fleet) -> None:
    fleet.add(2, k=20.0)
    agent = golden_agent(fleet)
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert over["phase"] == "ROLLED_BACK", over["why"]
    ruling = agent.get(f"/v1/rollouts/{name}").json()["ruling"]
    assert ruling["named"] == ["accuracy"]
    assert ruling["decided_pairs"] <= 600


def test_each_row_of_a_golden_set_is_judged_once_and_can_show_that_accuracy_is_kept(fleet: Fleet) -> None:
    fleet.add(2)
    agent = golden_agent(fleet)
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert over["phase"] == "SUCCEEDED", over["why"]
    ruling = agent.get(f"/v1/rollouts/{name}").json()["ruling"]
    pairs = {finding["metric"]: finding["pairs"] for finding in ruling["findings"]}
    assert pairs["accuracy"] == 600
    assert pairs["errors"] > 600


def test_a_golden_set_with_a_mistake_refuses_the_rollout_with_file_and_line(fleet: Fleet) -> None:
    fleet.add(2)
    agent = golden_agent(fleet)
    agent.stop()
    check = [HALDANE, "check", "config", str(agent.config_file), "--online"]
    fine = subprocess.run(check, check=True, capture_output=True, text=True, timeout=60)
    assert "golden set golden holds 600 rows of known answer" in fine.stdout
    with (fleet.directory / "golden" / "first.csv").open("a") as file:
        file.write("7.0,\n")
    wrong = subprocess.run(check, check=False, capture_output=True, text=True, timeout=60)
    assert (wrong.returncode, "first.csv, line 402" in wrong.stderr) == (4, True), wrong.stderr
    agent.start()
    answer = agent.post("/v1/rollouts", model=MODEL, version=2)
    assert answer.status_code == 409
    assert "first.csv, line 402: label 'truth' is missing or NaN" in answer.json()["error"]
