"""A fleet, its agent, whatever a fault needs beside them, and users who ask all the while."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import IN_CI
from tests.fleet import MODEL, AgentProcess, Fleet
from tests.postgresql import Cluster

from haldane.adapters.sql import open_store
from haldane.domain.record import first_break
from haldane.testing.sandboxes import Sandbox, Spawn, free_port

AGENTS_GROUP = 4242  # what a partition tells the agent's packets by
STATE_MEGABYTES = 16
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"
PLENTY_SECONDS = 180.0  # for a whole rollout, on a machine that does much else
Find = Callable[[str], str]


class LabelledFleet(Fleet):
    """Servers that boot with `stable` on version 1, as docs/howto say they should."""

    def __init__(self, directory: Path, size: int, spawn: Spawn | None) -> None:
        super().__init__(
            directory,
            size,
            flags=("--load_retry_interval_micros=200000", "--allow_version_labels_for_unavailable_models=true"),
            spawn=spawn,
        )

    def start(self) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self.boot, self.sandboxes))

    def boot(self, sandbox: Sandbox) -> None:
        sandbox.start(sandbox.config(sandbox.entry(MODEL, 1, labels={"stable": 1})), rest=True)

    def restart(self, index: int) -> None:
        self.sandboxes[index].stop()
        self.boot(self.sandboxes[index])


@dataclass
class Stage:
    """What a fault may lay hands on. `agent` is the one that acts, `other` one that stands by."""

    fleet: LabelledFleet
    agent: AgentProcess
    other: AgentProcess | None = None
    cluster: Cluster | None = None
    clock: Path | None = None  # holds what the agent's wall clock is set off by
    known: dict[int, str] = field(default_factory=dict)  # audit records that were once shown: seq -> hash

    @property
    def last(self) -> int:
        return len(self.fleet.sandboxes) - 1

    def note(self, rollout: str) -> None:
        """Remember the records that can be read now, so that one lost later is missed."""
        self.known |= {one["seq"]: one["hash"] for one in self.agent.records(rollout)}

    def lost(self) -> int:
        """Records shown once and gone or changed since, and breaks of the chain."""
        store = open_store(self.url)
        try:
            kept = list(store.records(None, limit=100_000))
        finally:
            store.close()
        now = {one.seq: one.hash for one in kept}
        return sum(now.get(seq) != known for seq, known in self.known.items()) + (first_break(kept) is not None)

    @property
    def url(self) -> str:
        if self.cluster is not None:
            return self.cluster.url
        return f"sqlite:///{Path(self.agent.config['state_dir']) / 'haldane.db'}"

    def signal_agent(self, number: int) -> None:
        assert self.agent.process is not None
        self.agent.process.send_signal(number)


@contextmanager
def stage(
    directory: Path, size: int, needs: set[str], find: Find, *, spawn: Spawn | None = None, **config: Any
) -> Iterator[Stage]:
    """`needs`: "group", "other", "postgresql", "small disk", "clock"; `find` gives programs or says what is missing."""
    if needs & {"group", "small disk"} and os.geteuid() != 0:
        says = "only root may cut a process off or mount a small disk"
        (pytest.fail if IN_CI else pytest.skip)(says)
    with ExitStack() as ending:
        fleet = LabelledFleet(directory, size, spawn)
        ending.callback(fleet.close)
        fleet.add(1)
        cluster = ending.enter_context(_cluster(directory, find)) if "postgresql" in needs else None
        if cluster is not None:
            config["store"] = cluster.url
        if "small disk" in needs:
            ending.enter_context(_small_disk(directory / "state", find))
        fleet.start()
        agent = AgentProcess(directory, fleet.config(**config))
        clock = _set_clock(agent, directory, find) if "clock" in needs else None
        if "group" in needs:
            find("nft")
            agent.environment |= {"group": AGENTS_GROUP}
        agent.start()
        made = Stage(fleet, agent, cluster=cluster, clock=clock)
        ending.callback(lambda: _end(made))
        if "other" in needs:
            made.other = _stand_by(directory, agent)
        yield made


def _end(made: Stage) -> None:
    for agent in (made.agent, made.other):
        if agent is not None and agent.process is not None and agent.process.poll() is None:
            agent.process.send_signal(signal.SIGCONT)
            agent.kill()


def _stand_by(directory: Path, first: AgentProcess) -> AgentProcess:
    place = directory / "other"
    place.mkdir()
    other = AgentProcess(place, {**first.config, "listen": f"127.0.0.1:{free_port()}"})
    other.start(wait_ready=False)
    other.wait(lambda: other.get("/-/ready").status_code == 503, "standing by")
    return other


@contextmanager
def _cluster(directory: Path, find: Find) -> Iterator[Cluster]:
    place = Path(subprocess.check_output(["mktemp", "-d", "/tmp/haldane-pg-XXXXXX"], text=True).strip())
    cluster = Cluster(place, initdb=find("initdb"), pg_ctl=find("pg_ctl"), port=free_port()).start()
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _small_disk(place: Path, find: Find) -> Iterator[None]:
    place.mkdir(parents=True)
    mount = [find("mount"), "-t", "tmpfs", "-o", f"size={STATE_MEGABYTES}m", "tmpfs", str(place)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run([find("umount"), "-l", str(place)], check=True)


def _set_clock(agent: AgentProcess, directory: Path, find: Find) -> Path:
    """The agent's wall clock follows a file; the monotonic one is left alone, as on a machine whose clock is set."""
    clock = directory / "clock"
    clock.write_text("+0\n")
    agent.environment |= {
        "env": {
            **os.environ,
            "LD_PRELOAD": find(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    }
    return clock


def nap(seconds: float) -> None:
    """A fault lasts."""
    time.sleep(seconds)
