"""The seed's incident: a version serves that no rollout approved. Someone's own reload, an agent that enforces."""

import asyncio

from tests.fleet import MODEL, Fleet, fleet

from haldane.serving.client import open_client

__all__ = ["fleet"]


def unapproved(fleet: Fleet) -> list[tuple[str, int, list[str]]]:
    assert fleet.agent is not None
    conditions = fleet.agent.get("/v1/status").json()["conditions"]
    return [(c["model"], c["version"], c["servers"]) for c in conditions if c["name"] == "unapproved_version"]


def test_a_version_that_someone_else_loads_is_told_and_unloaded(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent()
    sandbox = fleet.sandboxes[1]
    agent.wait(lambda: agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}, "labelled")

    async def reload() -> None:
        entry = sandbox.entry(MODEL).serving((1, 2), {"stable": 1})
        async with open_client(sandbox.server) as client:
            await client.reload(sandbox.config(entry))

    asyncio.run(reload())
    agent.wait(lambda: unapproved(fleet) == [(MODEL, 2, ["r1"])], "told")

    def serving() -> list[int]:
        view = agent.get("/v1/status").json()["seen"]["r1"]
        return [one["version"] for one in view["models"][MODEL]["versions"] if one["availability"] == "AVAILABLE"]

    agent.wait(lambda: serving() == [1], "unloaded")
    assert unapproved(fleet) == [(MODEL, 2, ["r1"])]  # gone at once, and told all the same
    page = agent.get("/metrics").text
    assert f'haldane_condition{{condition="unapproved_version",model="{MODEL}",version="2"}} 1.0' in page
