"""A model's first version, with no baseline to compare with, the agent as a process over toy sandboxes."""

from typing import Any

import pytest
from tests.fleet import MODEL, Fleet


def unreleased(fleet: Fleet) -> dict[str, Any]:
    """No version is stable yet; at most 2 % of requests may fail."""
    traffic = {"labelled": str(fleet.rows()), "label": "truth"}
    config = fleet.config()
    metrics = {"accuracy": "2pp", "errors": {"margin": "2pp", "limit": "2%"}, "latency": False, "disagreement": False}
    return {
        "models": {MODEL: {"clients": "label", "stable": "none", "traffic": traffic}},
        "analysis": {**config["analysis"], "metrics": metrics},
    }


@pytest.mark.parametrize("failing", [False, True])
def test_a_first_version_is_released_by_its_limits_or_not_at_all(fleet: Fleet, failing: bool) -> None:
    agent = fleet.run_agent(**unreleased(fleet))
    agent.wait(lambda: agent.labels() == {"r0": {}, "r1": {}}, "seen without a stable version")
    name = agent.begin(1)
    if failing:
        agent.wait_phase(name, "SHADOWING")
        for index in range(2):
            fleet.break_(index, kind="fail", share=0.3)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    wanted = ("ROLLED_BACK", "fail") if failing else ("SUCCEEDED", "pass")
    assert (over["phase"], over["verdict"]) == wanted, over["why"]
    assert "no baseline" in " ".join(agent.get(f"/v1/rollouts/{name}/explanation").json()["sentences"])
    assert "bit for bit" in agent.replay(name).stdout
    rest = {} if failing else {"stable": 1}
    agent.wait(lambda: agent.labels() == {"r0": rest, "r1": rest}, f"at rest with {rest}")
