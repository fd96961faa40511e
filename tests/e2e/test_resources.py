"""A canary judged by what it costs: CPU by the switchback, memory by its load; an agent over sandboxes."""

import re
import subprocess
from typing import Any

from tests.fleet import HALDANE, AgentProcess, Fleet

MARGIN = 0.1


def costed(fleet: Fleet, **gauges: Any) -> AgentProcess:
    """An agent whose servers' CPU and memory can be read, on the sandboxes' own pages."""
    config = fleet.config()
    for server, sandbox in zip(config["servers"], fleet.sandboxes, strict=True):
        server["process_url"] = f"http://127.0.0.1:{sandbox.admin_port}/metrics"
    analysis = {**config["analysis"], "gauges": gauges, "least_pairs": 100_000, "horizon_pairs": 200_000}
    return fleet.run_agent(
        servers=config["servers"],
        analysis={**analysis, "budget": "220s"},
        shadow={"rate": 20, "concurrency": 2, "aa_share": 0.05},
    )


def test_what_a_gauge_gives_now_is_told_before_anything_runs(fleet: Fleet) -> None:
    agent = costed(fleet, cpu={"kind": "cpu", "margin": "+10%"}, memory={"kind": "memory", "limit": "1GB"})
    fleet.sandboxes[1].stop()
    told = subprocess.run(
        [HALDANE, "check", "config", str(agent.config_file), "--online"], capture_output=True, text=True, check=False
    )
    assert re.search(r"ok +r0: CPU seconds of its process: \d", told.stdout)
    assert re.search(r"ok +r0: resident bytes of its process: \d", told.stdout)
    assert "NO  r1: CPU seconds of its process: process page: ConnectError" in told.stderr
    assert told.returncode == 4


def finding(agent: AgentProcess, name: str, metric: str) -> dict[str, Any]:
    ruling = agent.get(f"/v1/rollouts/{name}").json()["ruling"]
    found: dict[str, Any] = next(f for f in ruling["findings"] if f["metric"] == metric)
    return found


def test_a_canary_that_costs_more_cpu_in_the_same_process_is_withdrawn(fleet: Fleet) -> None:
    fleet.add(2, cpu_seconds=0.02)
    agent = costed(
        fleet,
        cpu={"kind": "cpu", "margin": "+10%", "weight": 10, "block": "2s", "every": "1s", "warmup": "1s"},
        load={"kind": "load_time", "limit": "60s"},
    )
    name = agent.begin(2)
    # Some 45 s, unless the machine spoils blocks.
    over = agent.wait_phase(name, "ROLLED_BACK", "SUCCEEDED", "HELD", seconds=240)
    assert (over["phase"], over["verdict"]) == ("ROLLED_BACK", "fail"), over["why"]
    assert finding(agent, name, "load")["state"] == "harmless"
    found = finding(agent, name, "cpu")
    assert (found["state"], found["estimate"] > MARGIN) == ("harmful", True)
    assert "bit for bit" in agent.replay(name).stdout
    assert agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}


def test_a_canary_whose_load_takes_more_memory_than_allowed_is_withdrawn(fleet: Fleet) -> None:
    fleet.add(2, resident_bytes=200_000_000)
    agent = costed(fleet, memory={"kind": "memory", "limit": "100MB"})
    agent.wait(lambda: len(agent.labels()) == 2, "seen")
    name = agent.begin(2)
    over = agent.wait_phase(name, "ROLLED_BACK", "SUCCEEDED", "HELD", seconds=60)
    assert (over["phase"], over["verdict"]) == ("ROLLED_BACK", "fail"), over["why"]
    found = finding(agent, name, "memory")
    assert 150e6 < found["estimate"] < 300e6
    assert "bit for bit" in agent.replay(name).stdout
