"""Prometheus goes away while a rollout is judged: its gauges have no data, and nothing is decided by that."""

from typing import Any

from tests.fleet import AgentProcess, Fleet
from tests.prometheus import Prometheus


def run(fleet: Fleet, prometheus: Prometheus, role: str, *, budget: str) -> tuple[AgentProcess, str]:
    """A rollout that is being judged, its gauge read for a while, and then Prometheus dies."""
    fleet.add(2)
    gauge = {
        "query": 'process_resident_memory_bytes{job="$side"}',
        "margin": "+20%",
        "role": role,
        "every": "500ms",
        "block": "2s",
        "warmup": "1s",
    }
    analysis: dict[str, Any] = {**fleet.config()["analysis"], "budget": budget, "least_pairs": 1000}
    agent = fleet.run_agent(
        prometheus={"url": prometheus.url, "timeout": "1s"},
        analysis={**analysis, "gauges": {"rss": gauge}},
        shadow={"rate": 150, "concurrency": 4},
    )
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    agent.wait(lambda: blocks(agent, name) > 0, "gauge read")
    prometheus.close()
    return agent, name


def blocks(agent: AgentProcess, name: str) -> int:
    ruling = agent.get(f"/v1/rollouts/{name}").json()["ruling"]
    return next((int(f["pairs"]) for f in ruling["findings"] if f["metric"] == "rss"), 0) if ruling else 0


def test_a_guardrail_without_data_decides_nothing_and_the_audit_log_says_why(
    fleet: Fleet, prometheus: Prometheus
) -> None:
    agent, name = run(fleet, prometheus, "guardrail", budget="120s")
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD", seconds=150)
    assert (over["phase"], over["verdict"]) == ("SUCCEEDED", "pass"), over["why"]
    missing = [record["data"] for record in agent.records(name) if record["kind"] == "readings_missing"]
    assert missing and missing[0]["metric"] == "rss" and "prometheus" in missing[0]["why"]
    assert (
        'haldane_reading_errors_total{metric="rss",model="scorer",reason="unavailable"}' in agent.get("/metrics").text
    )


def test_an_objective_that_lost_its_data_is_never_passed(fleet: Fleet, prometheus: Prometheus) -> None:
    agent, name = run(fleet, prometheus, "objective", budget="20s")
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD", seconds=90)
    assert (over["phase"], over["verdict"]) == ("HELD", "inconclusive"), over["why"]
    assert "rss" in over["why"]
