"""The container set-up without containers: its commands and its files, beside one another on loopback.

Every service of docker-compose.yml that has a program here runs with the command and the files that it would have in
its container. Only names of hosts, ports and paths of mounts are other ones. The sandbox stands for TensorFlow Serving.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pyarrow import parquet, table
from tests.fleet import HALDANE

from haldane.sandbox import toy

REPLICAS = ("serving-a", "serving-b")


class Machine:
    """One directory per service with what is mounted in its container, texts changed to the ports of this machine."""

    def __init__(self, root: Path, directory: Path, free_port: Callable[[], int]) -> None:
        self.root, self.directory = root, directory
        self.services: dict[str, Any] = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
        self.ports = {
            (name, int(published.split(":")[2])): free_port()
            for name, service in self.services.items()
            for published in service["ports"]
        }

    def url(self, service: str, port: int) -> str:
        return f"http://127.0.0.1:{self.ports[service, port]}"

    def here(self, service: str, text: str) -> str:
        """A command or a file of this service, as it must be here."""
        for (name, port), mine in self.ports.items():
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{mine}")
            if name == service:
                text = text.replace(f"0.0.0.0:{port}", f"127.0.0.1:{mine}").replace(f"port={port}", f"port={mine}")
        for _, target in self.mounts(service):
            text = re.sub(rf"(?<![\w./-]){target}(?![\w.-])", f"{self.directory / service}{target}", text)
        return text.replace("interval: 15s", "interval: 1s")

    def mounts(self, service: str) -> list[tuple[str, str]]:
        """(here, there), as written."""
        return [tuple(mount.split(":")[:2]) for mount in self.services[service]["volumes"]]

    def lay_out(self, service: str) -> None:
        """Copy what is mounted; of ./models a toy stands there, named volumes are empty."""
        for source, target in self.mounts(service):
            place = self.directory / service / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if source == "./models":
                toy.write(place / "credit_risk" / "1", "affine", k=10.0)
                parquet.write_table(table({"x": [1.0], "bad": [1]}), place / "credit_risk" / "held_out.parquet")
            elif source.startswith("./"):
                place.write_text(self.here(service, (self.root / source).read_text()))
            else:
                place.mkdir()

    @contextmanager
    def running(self, service: str, program: list[str], *more: str, ready: str) -> Iterator[None]:
        """The service's own command given to this program, for as long as the block runs."""
        self.lay_out(service)
        log = self.directory / f"{service}.log"
        words = [self.here(service, word) for word in self.command(service)]
        with log.open("wb") as out:
            process = subprocess.Popen([*program, *words, *more], stdout=out, stderr=out)
        try:
            wait(lambda: httpx.get(ready, trust_env=False).status_code == 200, log)
            yield
        finally:
            process.kill()
            process.wait()

    def command(self, service: str) -> list[str]:
        if "build" not in self.services[service]:
            return list(self.services[service]["command"])
        last = (self.root / "Dockerfile").read_text().split("\nCMD ")[1]
        return list(json.loads(last))


def wait(holds: Callable[[], bool], log: Path | None = None) -> None:
    deadline = time.monotonic() + 100
    while True:
        try:
            if holds():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, log.read_text()[-3000:] if log else "not in time"
        time.sleep(0.1)


@pytest.fixture
def machine(root: Path, tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("HALDANE_TOKEN", "a-long-random-word")
    return Machine(root, tmp_path, free_port)


def test_the_services_start_on_their_mounted_files_and_find_each_other(
    machine: Machine, need_binary: Callable[[str], str]
) -> None:
    prometheus, alertmanager = machine.url("prometheus", 9090), machine.url("alertmanager", 9093)
    agent = machine.url("haldane", 8620)
    with ExitStack() as stack:

        def start(service: str, program: list[str], *more: str, ready: str) -> None:
            stack.enter_context(machine.running(service, program, *more, ready=ready))

        for name in REPLICAS:
            page = machine.url(name, 8501) + "/monitoring/prometheus/metrics"
            start(name, [sys.executable, "-m", "haldane.sandbox", "--executor=toy"], ready=page)
        at = f"--web.listen-address={alertmanager.removeprefix('http://')}"
        start(
            "alertmanager",
            [need_binary("alertmanager")],
            at,
            "--cluster.listen-address=",
            ready=f"{alertmanager}/-/ready",
        )
        start("haldane", [HALDANE], ready=f"{agent}/-/ready")
        at = f"--web.listen-address={prometheus.removeprefix('http://')}"
        start("prometheus", [need_binary("prometheus")], at, ready=f"{prometheus}/-/ready")

        seen = httpx.get(f"{agent}/v1/status", trust_env=False).json()["seen"]
        assert {name: view["models"]["credit_risk"]["labels"]["stable"] for name, view in seen.items()} == {
            "serving-a": 1,
            "serving-b": 1,
        }

        def scraped() -> bool:
            answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": "up == 1"}, trust_env=False).json()
            return len(answer["data"]["result"]) == 3

        def told() -> bool:
            alerts = httpx.get(f"{alertmanager}/api/v2/alerts", trust_env=False).json()
            return "HaldaneWatching" in {alert["labels"]["alertname"] for alert in alerts}

        wait(scraped)
        wait(told)
