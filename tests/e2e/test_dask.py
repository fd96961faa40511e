"""A rollout whose pairs are sent by two Dask workers, one of which is killed, and then the scheduler."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.cluster import Cluster, cluster_in
from tests.fleet import MODEL, AgentProcess, Fleet

from haldane.adapters.sql import open_store
from haldane.domain.rollout import RolloutId
from haldane.domain.traffic import GOLDEN_ROW, PAIR_DTYPE

GOLDEN = 30


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with cluster_in(tmp_path) as cluster:
        yield cluster


def counted(agent: AgentProcess, name: str) -> float:
    """The sum over all labels but those of server, kind and reason."""
    page = agent.get("/metrics").text
    return sum(float(value) for value in re.findall(rf"^haldane_{name}(?:{{[^}}]*}})? (\S+)$", page, re.M))


def golden_rows(agent: AgentProcess, name: str) -> set[int]:
    """Rows of the golden set that the evidence log holds."""
    store = open_store(f"sqlite:///{agent.directory / 'state' / 'haldane.db'}")
    try:
        pairs = np.concatenate([entry for entry in store.evidence(RolloutId(name)) if entry.dtype == PAIR_DTYPE])
    finally:
        store.close()
    return {row - GOLDEN_ROW for row in pairs["row"].tolist() if row >= GOLDEN_ROW}


@pytest.mark.timeout(900)  # much is started, and waited for without haste
def test_a_worker_and_then_the_scheduler_are_lost_and_every_pair_is_accounted_for(
    fleet: Fleet, cluster: Cluster
) -> None:
    fleet.add(2)
    config = fleet.config()
    analysis = {**config["analysis"], "least_pairs": 100_000, "horizon_pairs": 200_000, "budget": "1h"}
    golden = fleet.directory / "golden.csv"
    golden.write_text("x,truth\n" + "".join(f"{i},{10 * i}\n" for i in range(GOLDEN)))
    traffic = {"labelled": str(fleet.rows()), "label": "truth"}
    models = {MODEL: {"clients": "label", "traffic": traffic, "golden": {"path": str(golden), "label": "truth"}}}
    agent = fleet.run_agent(
        models=models, shadow={"rate": 200, "concurrency": 4, "dask": cluster.address}, analysis=analysis
    )
    wait = partial(agent.wait, seconds=200.0)
    name = agent.begin(2)

    def judged() -> float:
        return counted(agent, "pairs_total")

    wait(lambda: counted(agent, "shadow_senders") == 2 and judged() > 100, "judged by two workers")
    cluster.kill(0)
    wait(lambda: counted(agent, "shadow_senders") == 1, "down to one worker")
    seen = judged()
    wait(lambda: judged() > seen + 100, "judged by one worker")
    cluster.end_scheduler()
    wait(lambda: "dask" in agent.get("/v1/status").json()["stalled"].get(MODEL, ""), "stalled")
    assert counted(agent, "shadow_senders") == 0
    assert agent.rollout(name)["phase"] == "SHADOWING"
    seen = judged()
    cluster.start_scheduler()
    cluster.add_worker()
    cluster.add_worker()
    wait(lambda: judged() > seen, "judged again")
    wait(lambda: agent.get("/v1/status").json()["stalled"] == {}, "shadowed again")
    agent.post(f"/v1/rollouts/{name}/commands", kind="abort").raise_for_status()
    agent.wait_phase(name, "ROLLED_BACK", seconds=200.0)

    def unaccounted() -> float:
        return counted(agent, "pairs_sent_total") - sum(
            counted(agent, f"{what}_total") for what in ("pairs", "pairs_set_aside", "pairs_dropped")
        )

    wait(lambda: unaccounted() == 0, "accounted for")
    agent.stop()
    assert golden_rows(agent, name) == set(range(GOLDEN))  # sent by the agent
    replayed = agent.replay(name)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
