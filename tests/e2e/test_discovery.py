"""Servers found in a file come and go while a rollout is under way, on real processes."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fleet import HALDANE, MODEL, AgentProcess, Fleet


class Listed(Fleet):
    """Sandboxes that the agent knows from a file in Prometheus's format alone."""

    @property
    def file(self) -> Path:
        return self.directory / "targets.json"

    def put(self, *indexes: int) -> None:
        """These are on the list from now on."""
        groups = [
            {"targets": [one.address], "labels": {"instance": one.name, "__metrics_url__": one.metrics_url}}
            for one in (self.sandboxes[index].server for index in indexes)
        ]
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(groups))
        fresh.rename(self.file)


@pytest.fixture
def listed(tmp_path: Path) -> Iterator[Listed]:
    made = Listed(tmp_path, size=3)
    made.add(1)
    made.add(2)
    try:
        made.start()
        yield made
    finally:
        made.close()


def run(listed: Listed) -> AgentProcess:
    plan = {"load": "60s", "bake": "1s", "change": "100s"}
    discover = [{"file": str(listed.file), "every": "200ms"}]
    return listed.run_agent(servers=[], discover=discover, plan=plan)


def test_a_rollout_takes_in_a_newcomer_and_goes_on_without_one_that_left(listed: Listed) -> None:
    listed.put(0, 1)
    agent = run(listed)
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    agent.post(f"/v1/rollouts/{name}/commands", kind="pause")
    listed.put(0, 2)  # one pod is replaced by another
    listed.sandboxes[1].stop()
    agent.wait(lambda: agent.labels().get("r2", {}).get("canary") == 2, "r2 has the canary")
    agent.post(f"/v1/rollouts/{name}/commands", kind="resume")
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "STUCK", seconds=150)
    assert over["phase"] == "SUCCEEDED", over["why"]
    assert (over["servers"], over["gone"], over["joining"]) == (["r0", "r1", "r2"], ["r1"], [])
    agent.wait(lambda: agent.labels() == {"r0": {"stable": 2}, "r2": {"stable": 2}}, "at rest on version 2")
    changes = [record["data"]["why"] for record in agent.records(name) if record["kind"] == "fleet_changed"]
    assert changes == ["joined: r2", "left: r1"]
    assert 'server="r1"' not in agent.get("/metrics").text
    assert agent.replay(name).returncode == 0


def test_a_list_that_cannot_be_read_keeps_the_fleet_and_is_told(listed: Listed) -> None:
    listed.put(0, 1)
    agent = run(listed)
    listed.file.write_text("- targets: oops")
    title = f"file {listed.file}"
    agent.wait(lambda: "named last are kept" in agent.get("/v1/status").json()["lists"][title], "told")
    assert f'haldane_server_list_failing{{list="{title}"}} 1.0' in agent.get("/metrics").text
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert over["phase"] == "SUCCEEDED", over["why"]
    agent.wait(lambda: agent.labels() == {"r0": {"stable": 2}, "r1": {"stable": 2}}, "at rest on version 2")


def test_no_rollout_starts_before_the_list_was_read(listed: Listed) -> None:
    first = listed.first.server
    servers = [{"name": first.name, "address": first.address, "metrics_url": first.metrics_url}]
    config = listed.config(servers=servers, discover=[{"file": str(listed.file), "every": "200ms"}])
    listed.agent = agent = AgentProcess(listed.directory, config).start(wait_ready=False)
    agent.wait(lambda: agent.get("/v1/status").json()["seen"].get("r0") is not None, "r0 is seen")
    assert "never read" in agent.get("/-/ready").text
    answer = agent.post("/v1/rollouts", model=MODEL, version=2)
    assert answer.status_code == 409 and "never read" in answer.text
    listed.put(1)
    agent.wait(lambda: agent.get("/-/ready").status_code == 200, "ready")
    assert sorted(agent.get("/v1/status").json()["seen"]) == ["r0", "r1"]


def test_check_config_online_reads_each_list_and_looks_at_who_is_on_it(listed: Listed) -> None:
    listed.put(0, 1)
    config = listed.config(servers=[], discover=[{"file": str(listed.file)}])
    file = AgentProcess(listed.directory, config).config_file
    command = [HALDANE, "check", "config", str(file), "--online"]
    good = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert good.returncode == 0, good.stderr
    assert f"discover: file {listed.file}: r0, r1" in good.stdout and "r1 at 127.0.0.1:" in good.stdout
    listed.file.write_text("- targets: [nonsense]")
    bad = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert bad.returncode == 4 and "a target must be HOST:PORT, got 'nonsense'" in bad.stderr
