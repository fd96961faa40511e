"""The agent as a process over toy sandboxes: what the end-to-end and fault suites share."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from haldane.serving import modelconfig
from haldane.testing.sandboxes import FORKED, TOY, Sandbox, Spawn, free_port

MODEL = "scorer"
HALDANE = str(Path(sys.executable).parent / "haldane")
ROWS = 4000


class AgentProcess:
    """`haldane run` with a config of its own; reads only API, metrics and exit codes."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        self.directory, self.config = directory, config
        self.url = f"http://{config['listen']}"
        self.log = directory / "agent.log"
        self.config_file = directory / "haldane.yaml"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, Any] = {}  # of the process, as subprocess.Popen takes it
        self.config_file.write_text(yaml.safe_dump(config))

    def start(self, *, wait_ready: bool = True, seconds: float = 60.0) -> "AgentProcess":
        with self.log.open("ab") as log:
            command = [HALDANE, "run", "--config", str(self.config_file)]
            self.process = subprocess.Popen(command, stderr=log, stdout=log, **self.environment)
        if wait_ready:
            self.wait(lambda: self.get("/-/ready").status_code == 200, "ready", seconds)
        return self

    def kill(self) -> None:
        """As power loss does: no clean-up."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        if self.process is None or self.process.poll() is not None:
            return -1
        self.process.terminate()
        return self.process.wait(20)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=10)

    def wait(self, holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process is None or self.process.poll() is None, f"the agent ended:\n{self.tail()}"
            try:
                if holds():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not {what} after {seconds:.0f} s:\n{self.tail()}")

    def tail(self) -> str:
        return self.log.read_text()[-4000:]

    @property
    def token(self) -> str:
        return (self.directory / "state" / "token").read_text().strip()

    def post(self, path: str, **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.post(self.url + path, json={"by": "ada", "why": "a test", **body}, headers=headers, timeout=30)

    def begin(self, version: int) -> str:
        answer = self.post("/v1/rollouts", model=MODEL, version=version)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["rollout"]["id"])

    def rollout(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/v1/rollouts/{name}").json()["rollout"]
        return found

    def replay(self, name: str, *more: str) -> subprocess.CompletedProcess[str]:
        """`haldane replay`, which reads the store where this agent does not run."""
        command = [HALDANE, "replay", name, "--config", str(self.config_file), *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def wait_phase(self, name: str, *phases: str, seconds: float = 60.0) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def reached() -> bool:
            found.update(self.rollout(name))
            return found["phase"] in phases

        self.wait(reached, f"in {phases} (is {found.get('phase')})", seconds)
        return found

    def labels(self) -> dict[str, dict[str, int]]:
        """Server -> label -> version, as the agent last saw them."""
        seen = self.get("/v1/status").json()["seen"]
        return {server: view["models"][MODEL]["labels"] if view else {} for server, view in seen.items()}

    def records(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/v1/rollouts/{name}/records").json()["records"]
        return found


class Fleet:
    """Sandboxes that read versions from one place, and the agent's config for them."""

    def __init__(
        self,
        directory: Path,
        size: int = 2,
        flags: tuple[str, ...] = ("--load_retry_interval_micros=200000",),
        command: str = TOY,
        spawn: Spawn | None = None,
        stable: int = 1,
    ) -> None:
        """`spawn`: forks of a fork server, which come up sooner than processes of `command`."""
        self.directory, self.stable = directory, stable
        if spawn is not None:
            command, flags = FORKED, ("--executor=toy", *flags)
        self.sandboxes = [
            Sandbox(directory, name=f"r{i}", flags=flags, command=command, spawn=spawn) for i in range(size)
        ]
        for sandbox in self.sandboxes:
            sandbox.models = directory / "models"
            sandbox.flags = (*sandbox.flags, f"--admin_port={sandbox.admin_port}")
        self.first = self.sandboxes[0]
        self.agent: AgentProcess | None = None

    def add(self, version: int, recipe: str = "affine", **settings: Any) -> None:
        """A version that multiplies by 10, which is right, unless said otherwise."""
        self.first.add(MODEL, version, recipe, **({"k": 10.0, **settings} if recipe == "affine" else settings))

    def start(self, wait_seconds: float = 60.0) -> None:
        for sandbox in self.sandboxes:
            config = sandbox.config(sandbox.entry(MODEL, self.stable))
            sandbox.start(config, rest=True, wait_seconds=wait_seconds)

    def rows(self) -> Path:
        path = self.directory / "rows.csv"
        path.write_text("x,truth\n" + "".join(f"{i / 100},{i / 10}\n" for i in range(ROWS)))
        return path

    def base(self) -> Path:
        """The config that every server boots with."""
        path = self.directory / "base.config"
        path.write_text(modelconfig.render(self.first.config(self.first.entry(MODEL, self.stable))))
        return path

    def config(self, **more: Any) -> dict[str, Any]:
        base: dict[str, Any] = {
            "mode": "enforce",
            "listen": f"127.0.0.1:{free_port()}",
            "state_dir": str(self.directory / "state"),
            "look_every": "200ms",
            "model_config_file": str(self.base()),
            "servers": [
                {"name": s.name, "address": s.server.address, "metrics_url": s.server.metrics_url}
                for s in self.sandboxes
            ],
            "models": {
                MODEL: {"clients": "label", "traffic": {"labelled": str(self.rows()), "label": "truth"}},
            },
            "outputs": {"kind": "regression", "wrong_beyond": 0.01},
            "analysis": {
                "least_pairs": 200,
                "warmup_pairs": 20,
                "entry_pairs": 100,
                "horizon_pairs": 3000,
                "budget": "40s",
                "dependence": "0s",
                "metrics": {"accuracy": "2pp", "errors": "2pp", "latency": False, "disagreement": False},
            },
            "shadow": {"rate": 200, "concurrency": 4},
            "plan": {"load": "20s", "bake": "1s", "change": "20s"},
        }
        return {**base, **more}

    def run_agent(self, **more: Any) -> AgentProcess:
        self.agent = AgentProcess(self.directory, self.config(**more))  # also one that does not come up is stopped
        return self.agent.start()

    def break_(self, index: int, **fault: Any) -> None:
        """Put a fault in force on one sandbox; see docs/sandbox.md."""
        port = self.sandboxes[index].admin_port
        httpx.post(f"http://127.0.0.1:{port}/faults", json=fault, timeout=5).raise_for_status()

    def mend(self, index: int) -> None:
        port = self.sandboxes[index].admin_port
        httpx.delete(f"http://127.0.0.1:{port}/faults", timeout=5).raise_for_status()

    def restart(self, index: int) -> None:
        """The process dies and comes back with its boot config."""
        self.sandboxes[index].stop()
        sandbox = self.sandboxes[index]
        sandbox.start(sandbox.config(sandbox.entry(MODEL, self.stable)), rest=True)

    def close(self) -> None:
        if self.agent is not None:
            self.agent.stop()
        for sandbox in self.sandboxes:
            sandbox.stop()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Two running toy sandboxes that serve version 1; versions 2 and up are up to the test."""
    made = Fleet(tmp_path)
    made.add(1)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Fleet]:
    """The same, of three servers."""
    made = Fleet(tmp_path, size=3)
    made.add(1)
    try:
        made.start()
        yield made
    finally:
        made.close()
