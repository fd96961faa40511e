"""A rollout judged again from what its agent stored, while the agent runs and after."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.fleet import HALDANE, Fleet


@pytest.mark.parametrize(("k", "phase", "verdict"), [(10.0, "SUCCEEDED", "pass"), (20.0, "ROLLED_BACK", "fail")])
def test_every_ruling_comes_out_again_with_the_agent_up_and_down(
    fleet: Fleet, tmp_path: Path, k: float, phase: str, verdict: str
) -> None:
    fleet.add(2, k=k)
    agent = fleet.run_agent()
    name = agent.begin(2)
    agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert agent.rollout(name)["phase"] == phase
    up = agent.replay(name, "--save", str(tmp_path / "up.npz"))
    assert up.returncode == 0, up.stdout + up.stderr
    assert "bit for bit" in up.stdout and f"verdict: {verdict}" in up.stdout
    agent.stop()
    down = agent.replay(name, "--save", str(tmp_path / "down.npz"))
    assert down.returncode == 0, down.stdout + down.stderr
    assert "Its store is read instead" in down.stderr
    assert down.stdout == up.stdout
    assert (tmp_path / "up.npz").read_bytes() == (tmp_path / "down.npz").read_bytes()


def test_a_rollout_held_extended_and_killed_on_the_way_comes_out_again(fleet: Fleet) -> None:
    """Rulings after an extension, and after a crash, rest on the same log."""
    fleet.add(2)
    agent = fleet.run_agent(
        analysis={
            "least_pairs": 2500,
            "horizon_pairs": 700,
            "budget": "60s",
            "warmup_pairs": 20,
            "entry_pairs": 100,
            "dependence": "0s",
            "metrics": {"accuracy": "2pp", "errors": "2pp", "latency": False, "disagreement": False},
        }
    )
    name = agent.begin(2)
    agent.wait_phase(name, "HELD")
    assert agent.post(f"/v1/rollouts/{name}/commands", kind="resume").status_code == 200
    agent.wait_phase(name, "SHADOWING")
    agent.kill()
    agent.start()
    over = agent.wait_phase(name, "HELD")
    assert (over["verdict"], over["extensions"]) == ("inconclusive", 1)
    done = agent.replay(name, "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    other = agent.replay(name, "--margin", "accuracy=-5pp")
    assert other.returncode == 3, other.stdout
    assert "inconclusive" in other.stdout


def test_a_policy_is_held_against_what_a_rollout_left(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent()
    name = agent.begin(2)
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "SUCCEEDED"
    agent.stop()
    command = [HALDANE, "backtest", name, "--config", str(agent.config_file), "--streams", "20", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    (evidence,) = found["evidence"]
    assert (evidence["recorded"], evidence["decided"]["verdict"]) == ("pass", "pass")
    assert {one["metric"] for one in found["metrics"]} == {"accuracy", "errors"}
    assert all(one["found"] > one["margin"] for one in found["metrics"])
