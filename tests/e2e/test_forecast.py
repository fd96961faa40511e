"""The forecast beside a running agent: rates come from the rollout under way."""

import subprocess

from tests.fleet import HALDANE, MODEL, Fleet


def test_a_forecast_takes_the_rates_of_the_rollout_that_is_under_way(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent(analysis={"least_pairs": 100_000, "horizon_pairs": 200_000, "budget": "5m"})
    command = [HALDANE, "forecast", MODEL, "--config", str(agent.config_file)]

    def told() -> str:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert "Rates are guesses" in told()
    name = agent.begin(2)
    agent.wait(lambda: f"as measured in rollout {name}" in told(), "measured")
    assert agent.rollout(name)["phase"] == "SHADOWING"
