"""A real Prometheus for tests: scrapes loopback ports often, can be stopped and started again."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

SCRAPES = """
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
scrape_configs:
"""
JOB = """
  - job_name: %s
    static_configs: [{targets: ['127.0.0.1:%d']}]
"""


class Prometheus:
    """The real one, that can be stopped and started again. `more` goes into its config, below the targets."""

    def __init__(self, binary: str, directory: Path, port: int, targets: Mapping[str, int], *, more: str = "") -> None:
        self.url = f"http://127.0.0.1:{port}"
        config = directory / "prometheus.yml"
        config.write_text(SCRAPES + "".join(JOB % target for target in targets.items()) + more)
        self._log = directory / "prometheus.log"
        self._command = [
            binary,
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as out:
            self._running = subprocess.Popen(self._command, stdout=out, stderr=subprocess.STDOUT)
        self.wait(lambda: httpx.get(f"{self.url}/-/ready", trust_env=False).status_code == 200)

    def wait(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                if holds():
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, self._log.read_text()[-3000:]
            time.sleep(0.05)

    def freeze(self) -> None:
        """It accepts connections, and answers nothing."""
        assert self._running is not None
        self._running.send_signal(signal.SIGSTOP)

    def series(self, query: str) -> int:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, trust_env=False).json()
        return len(answer["data"]["result"])

    def close(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None
