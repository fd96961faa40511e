"""A rollout whose pairs are sent by two Dask workers, one of which is killed, and then the scheduler."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster import Cluster, cluster_in
from tests.fleet import MODEL, AgentProcess, Fleet


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with cluster_in(tmp_path) as cluster:
        yield cluster


def counted(agent: AgentProcess, name: str) -> float:
    """The sum over all labels but those of server, kind and reason."""
    page = agent.get("/metrics").text
    return sum(float(value) for value in re.findall(rf"^haldane_{name}(?:{{[^}}]*}})? (\S+)$", page, re.M))


def test_a_worker_and_then_the_scheduler_are_lost_and_every_pair_is_accounted_for(
    fleet: Fleet, cluster: Cluster
) -> None:
    fleet.add(2)
    config = fleet.config()
    analysis = {**config["analysis"], "least_pairs": 1500, "horizon_pairs": 20_000, "budget": "10m"}
    agent = fleet.run_agent(shadow={"rate": 200, "concurrency": 4, "dask": cluster.address}, analysis=analysis)
    name = agent.begin(2)

    def judged() -> float:
        return counted(agent, "pairs_total")

    agent.wait(lambda: counted(agent, "shadow_senders") == 2 and judged() > 100, "judged by two workers")
    cluster.kill(0)
    agent.wait(lambda: counted(agent, "shadow_senders") == 1, "down to one worker")
    seen = judged()
    agent.wait(lambda: judged() > seen + 100, "judged by one worker")
    cluster.end_scheduler()
    agent.wait(lambda: "dask" in agent.get("/v1/status").json()["stalled"].get(MODEL, ""), "stalled")
    assert counted(agent, "shadow_senders") == 0
    assert agent.rollout(name)["phase"] == "SHADOWING"
    seen = judged()
    cluster.start_scheduler()
    cluster.add_worker()
    cluster.add_worker()
    agent.wait(lambda: judged() > seen, "judged again", 90.0)
    assert agent.get("/v1/status").json()["stalled"] == {}
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD", seconds=120.0)
    assert over["phase"] == "SUCCEEDED", over["why"]

    def unaccounted() -> float:
        return counted(agent, "pairs_sent_total") - sum(
            counted(agent, f"{what}_total") for what in ("pairs", "pairs_set_aside", "pairs_dropped")
        )

    agent.wait(lambda: unaccounted() == 0, "accounted for")
    agent.stop()
    replayed = agent.replay(name)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
