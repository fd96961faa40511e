"""The store away for a while, and a clean stop: nothing is done without it, nothing ends, nothing is lost."""

import sqlite3
import time

from tests.fleet import MODEL, Fleet

from haldane.adapters.sql import open_store

PROMOTED = {"r0": {"stable": 2}, "r1": {"stable": 2}}


def test_a_store_that_cannot_be_written_stops_all_acting_but_not_the_agent(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent(
        analysis={"least_pairs": 100, "warmup_pairs": 20, "entry_pairs": 50, "budget": "2m", "dependence": "0s"}
    )
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    before = agent.labels()
    with sqlite3.connect(agent.directory / "state" / "haldane.db", isolation_level=None) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        # A commit may have been under way; from here on none is.
        phase, labels = agent.rollout(name)["phase"], agent.labels()
        agent.wait(lambda: "lease_not_renewed" in agent.log.read_text(), "without its lease")
        seen = agent.get("/v1/status").json()["seen"]["r0"]["at"]
        agent.wait(lambda: agent.get("/v1/status").json()["seen"]["r0"]["at"] > seen, "looking on")
        assert (agent.rollout(name)["phase"], agent.labels()) == (phase, labels)
        assert before["r0"]["stable"] == 1
        blocker.execute("ROLLBACK")
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD", seconds=90)
    assert over["phase"] == "SUCCEEDED", over["why"]
    agent.wait(lambda: agent.labels() == PROMOTED, "promoted")


def test_told_to_stop_it_leaves_the_lease_the_rollout_and_the_servers_as_they_are(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent(analysis={"least_pairs": 3000, "budget": "5m"})
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    fleet.break_(1, kind="delay", seconds=60)
    began = time.monotonic()
    assert agent.stop() == 0
    print(f"stopped after {time.monotonic() - began:.1f} s")
    log = agent.log.read_text()
    assert '"event": "stopped"' in log
    assert "Traceback" not in log
    store = open_store(f"sqlite:///{agent.directory / 'state' / 'haldane.db'}")
    assert store.lease_holder() is None
    (live,) = [rollout for rollout, _ in store.live()]
    assert (live.model, live.phase) == (MODEL, "SHADOWING")
    store.close()
