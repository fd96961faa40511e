"""The Alertmanager that the agent tells: the real one where it is installed, else a small stand-in.

The stand-in speaks as much of its v2 API as an agent and a reader need: alerts
posted, alerts listed until their `endsAt` has passed.
"""

import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from haldane.demo.processes import running
from haldane.sandbox.freeport import free_port

NAMES = ("prometheus-alertmanager", "alertmanager")  # Debian's name, and upstream's
FAILED_LOAD = "HaldaneLoadFailed"
LONGEST_BODY = 1 << 20

_CONFIG = "route: {receiver: demo, group_wait: 0s}\nreceivers: [{name: demo}]\n"

Alert = Mapping[str, Any]


class Pager:
    """Where alerts arrive. `program` says what listens at `url`."""

    def __init__(self, url: str, program: str, process: "subprocess.Popen[bytes] | None" = None) -> None:
        self.url = url
        self.program = program
        self.process = process

    def alerts(self) -> list[Alert]:
        """What is firing; empty when it cannot be asked."""
        try:
            reply = httpx.get(f"{self.url}/api/v2/alerts", timeout=2.0)
        except httpx.TransportError:
            return []
        return list(reply.json()) if reply.is_success else []

    def failed_load(self, model: str, version: int) -> Alert | None:
        """The alert of a failed load of that version, once it has arrived."""
        for alert in self.alerts():
            labels = alert.get("labels", {})
            said = tuple(labels.get(name) for name in ("alertname", "model", "version"))
            if said == (FAILED_LOAD, model, str(version)):
                return alert
        return None


@contextlib.contextmanager
def paging(directory: Path) -> Iterator[Pager]:
    """An Alertmanager on a free port of this machine, for as long as the block runs."""
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    with _real(program, directory) if program else _stand_in() as pager:
        yield pager


@contextlib.contextmanager
def _real(program: str, directory: Path) -> Iterator[Pager]:
    config = directory / "alertmanager.yml"
    config.write_text(_CONFIG)
    port = free_port()
    command = [
        program,
        f"--config.file={config}",
        f"--storage.path={directory / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",  # alone: otherwise it looks for peers
    ]
    with running(command, directory / "alertmanager.log") as process:
        yield Pager(f"http://127.0.0.1:{port}", Path(program).name, process)


class _Listed:
    """Alerts by their labels, as Alertmanager tells them apart."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alerts: dict[str, dict[str, Any]] = {}

    def put(self, alerts: list[dict[str, Any]]) -> None:
        with self._lock:
            for alert in alerts:
                self._alerts[json.dumps(alert["labels"], sort_keys=True)] = alert

    def firing(self, now: datetime) -> list[dict[str, Any]]:
        with self._lock:
            return [alert for alert in self._alerts.values() if not _over(alert, now)]


def _over(alert: Mapping[str, Any], now: datetime) -> bool:
    ends = str(alert.get("endsAt") or "")
    return bool(ends) and datetime.fromisoformat(ends) <= now


@contextlib.contextmanager
def _stand_in() -> Iterator[Pager]:
    listed = _Listed()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                listed.put(json.loads(self.rfile.read(min(int(self.headers["Content-Length"]), LONGEST_BODY))))
            except (ValueError, KeyError, TypeError):
                return self._answer(400, {"error": "not a list of alerts"})
            return self._answer(200, {})

        def do_GET(self) -> None:
            self._answer(200, listed.firing(datetime.now(UTC)))

        def _answer(self, status: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, name="pager", daemon=True).start()
        yield Pager(f"http://127.0.0.1:{server.server_port}", "a stand-in for Alertmanager")
        server.shutdown()
