"""Servers that restart, hang, or are changed by somebody else while a rollout is under way."""

import asyncio
from typing import Any

from tests.fleet import AgentProcess, Fleet

from haldane.domain.fleet import ModelName, ServerConfig
from haldane.serving.client import open_client


def test_a_server_that_restarts_while_shadowing_gets_version_and_label_back(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent(shadow={"rate": 20, "concurrency": 2})
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    fleet.restart(1)
    agent.wait(lambda: agent.labels().get("r1") == {"canary": 2, "stable": 1}, "labelled again")
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert over["phase"] == "SUCCEEDED", over["why"] + agent.get("/metrics").text


def test_a_server_that_is_gone_holds_the_promotion_and_never_passes_it(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent(plan={"load": "20s", "bake": "1s", "change": "2s"})
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    fleet.sandboxes[1].stop()
    held = agent.wait_phase(name, "HELD", "SUCCEEDED", "ROLLED_BACK")
    assert (held["phase"], "r1" in held["why"]) == ("HELD", True)


def test_rollback_does_not_wait_for_a_server_that_hangs(fleet: Fleet) -> None:
    fleet.add(2, k=20.0)
    agent = fleet.run_agent(plan={"load": "20s", "bake": "1s", "change": "3s"})
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    fleet.break_(1, kind="reload", how="hang")
    agent.wait(lambda: agent.labels()["r0"] == {"stable": 1}, "r0 rolled back")
    stuck = agent.wait_phase(name, "STUCK")
    assert "r1" in stuck["why"]

    def told() -> bool:
        return "rollout_stuck" in {one["name"] for one in agent.get("/v1/status").json()["conditions"]}

    agent.wait(told, "told to those whom the agent itself alerts")
    fleet.mend(1)
    agent.wait_phase(name, "ROLLED_BACK", seconds=90)
    agent.wait(lambda: not told(), "over")


def test_labels_taken_away_by_somebody_else_come_back(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent(shadow={"rate": 20, "concurrency": 2})
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    intruder = fleet.sandboxes[0]

    async def intrude() -> None:
        async with open_client(intruder.server) as client:
            await client.reload(ServerConfig((intruder.entry("scorer", 1, 2, labels={"stable": 1}),)))

    async def labels() -> dict[str, int | None]:
        """Of the server itself: what the agent saw last may be from before."""
        async with open_client(intruder.server) as client:
            view = await client.look({ModelName("scorer"): ("canary", "stable")}, {})
        return dict(view.models[ModelName("scorer")].labels)

    asyncio.run(intrude())
    agent.wait(lambda: asyncio.run(labels()) == {"canary": 2, "stable": 1}, "labelled again")


def test_a_second_agent_on_the_same_store_waits_and_changes_nothing(fleet: Fleet) -> None:
    first = fleet.run_agent()
    config: dict[str, Any] = fleet.config()
    second_directory = fleet.directory / "second"
    second_directory.mkdir()
    second = AgentProcess(second_directory, config).start(wait_ready=False)
    try:
        second.wait(lambda: second.get("/-/ready").status_code == 503, "not ready")
        assert "lease" in second.get("/-/ready").text
        first.kill()
        second.wait(lambda: second.get("/-/ready").status_code == 200, "ready once the first is gone")
    finally:
        second.stop()
