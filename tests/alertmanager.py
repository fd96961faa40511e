"""A real Alertmanager for tests, and a receiver of what it delivers."""

import asyncio
import json
import queue
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

PAGES_QUICKLY = """
route:
  receiver: pager
  group_by: [alertname, model, version]
  group_wait: 0s
  group_interval: 1s
receivers:
  - name: pager
    webhook_configs:
      - url: http://127.0.0.1:{port}/
        send_resolved: true
"""


class Pager:
    """A webhook receiver: the pages Alertmanager delivered, in order; those of the dead man's switch apart."""

    def __init__(self) -> None:
        pages: queue.Queue[Any] = queue.Queue()
        alive: queue.Queue[Any] = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                page = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                (alive if _watching(page) else pages).put(page)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.pages, self.alive = pages, alive
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    async def next(self) -> Any:
        return await asyncio.to_thread(self.pages.get, timeout=30)

    async def living(self) -> Any:
        """The next page of the dead man's switch."""
        return await asyncio.to_thread(self.alive.get, timeout=30)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def _watching(page: Any) -> bool:
    labels = page.get("commonLabels", {}) if isinstance(page, dict) else {}
    return bool(labels.get("alertname") == "HaldaneWatching")


class Process:
    """The real Alertmanager, that can be stopped and started again on its port."""

    def __init__(self, binary: str, directory: Path, port: int, config: str, *flags: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._config = directory / "alertmanager.yml"
        self._config.write_text(config)
        self._log = directory / "alertmanager.log"
        self._command = [
            binary,
            f"--config.file={self._config}",
            f"--storage.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            *flags,
        ]
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as out:
            self._running = subprocess.Popen(self._command, stdout=out, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 20
        while True:
            try:
                if httpx.get(f"{self.url}/-/ready", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert self._running.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self._running:
            self._running.kill()
            self._running.wait()
            self._running = None
