"""A real MLflow tracking server and registry, on loopback."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

import httpx

from haldane.testing.sandboxes import free_port


class Mlflow:
    """The server as a process; its first start makes the database: half a minute, much more on a busy machine."""

    def __init__(self, program: str, directory: Path) -> None:
        self.program, port = program, free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._directory, self._log = directory, directory / "mlflow.log"
        self._command = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        self._command += ["--backend-store-uri", f"sqlite:///{directory}/ml.db"]
        self._command += ["--artifacts-destination", str(directory / "art")]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to start; `wait` says when it answers."""
        # Its job runners are seven processes that nothing here needs.
        own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env={**os.environ, **own},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, seconds: float = 500) -> None:
        deadline = time.monotonic() + seconds
        while True:
            assert self._process is not None, "start it first"
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            try:
                httpx.get(f"{self.url}/health", trust_env=False).raise_for_status()
                return
            except httpx.HTTPError:
                assert time.monotonic() < deadline, self._log.read_text()[-2000:]
                time.sleep(0.2)

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # with its workers, which outlive it otherwise
            self._process.wait(30)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
