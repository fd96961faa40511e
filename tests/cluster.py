"""A real Dask scheduler with workers, each a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from haldane.testing.sandboxes import free_port

DASK = str(Path(sys.executable).parent / "dask")
LOCAL = ("--host", "127.0.0.1", "--no-dashboard")


class Cluster:
    """Ended at the end, whatever is left of it."""

    def __init__(self, directory: Path, tls: Mapping[str, Any] | None = None) -> None:
        """`tls`: Dask's section distributed.comm.tls."""
        self.directory = directory
        self.port = free_port()
        self.address = f"{'tls' if tls else 'tcp'}://127.0.0.1:{self.port}"
        self._environment = dict(os.environ)
        if tls:
            self._environment |= {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True"} | dict(_variables(tls))
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_scheduler(self) -> None:
        words = ("scheduler", "--port", str(self.port), "--protocol", self.address.partition(":")[0], *LOCAL)
        self.scheduler = self._run("scheduler", *words)
        self._wait("scheduler", lambda log: "Scheduler at" in log)

    def add_worker(self) -> None:
        name = f"worker{len(self.workers)}"
        place = ("--local-directory", str(self.directory / "dask"))
        words = ("worker", self.address, "--no-nanny", "--nthreads", "1", *place, *LOCAL)
        self.workers.append(self._run(name, *words))
        self._wait(name, lambda log: "Registered to" in log)

    def end_scheduler(self) -> None:
        """Killed; its workers end by themselves."""
        assert self.scheduler is not None
        self.scheduler.kill()
        self.scheduler.wait()

    def kill(self, worker: int) -> None:
        """As power loss does."""
        self.workers[worker].send_signal(signal.SIGKILL)
        self.workers[worker].wait()

    def stop(self) -> None:
        running = [*self.workers, self.scheduler] if self.scheduler is not None else self.workers
        for process in running:
            process.kill()
            process.wait()

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def _run(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("wb") as log:
            return subprocess.Popen([DASK, *words], stdout=log, stderr=log, env=self._environment)

    def _wait(self, name: str, holds: Callable[[str], bool], seconds: float = 200.0) -> None:
        deadline = time.monotonic() + seconds
        while not holds(self.log(name)):
            assert time.monotonic() < deadline, f"{name} is not up after {seconds:.0f} s:\n{self.log(name)[-3000:]}"
            time.sleep(0.05)


def _variables(section: Mapping[str, Any], prefix: str = "DASK_DISTRIBUTED__COMM__TLS") -> Iterator[tuple[str, str]]:
    """As Dask reads its settings from the environment."""
    for key, value in section.items():
        name = f"{prefix}__{key.upper().replace('-', '_')}"
        if isinstance(value, Mapping):
            yield from _variables(value, name)
        else:
            yield name, value


@contextmanager
def cluster_in(directory: Path, workers: int = 2, tls: Mapping[str, Any] | None = None) -> Iterator[Cluster]:
    """It is up while the block lasts."""
    cluster = Cluster(directory, tls)
    try:
        cluster.start_scheduler()
        for _ in range(workers):
            cluster.add_worker()
        yield cluster
    finally:
        cluster.stop()
