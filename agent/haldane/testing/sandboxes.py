"""Sandbox servers as processes, for tests that need a TF Serving to talk to.

Toy models by default: ready in half a second, no TensorFlow. The same class
starts a real `tensorflow_model_server` when it is given its command, and forks
of a fork server when it is given their `spawn`.
"""

import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from haldane import wire
from haldane.domain.fleet import ModelEntry, ModelName, Policy, Server, ServerConfig, ServerName
from haldane.domain.traffic import Api, Request
from haldane.sandbox import toy
from haldane.sandbox.freeport import free_port
from haldane.serving import modelconfig

MONITORING = "prometheus_config { enable: true }\n"
METRICS_PATH = "/monitoring/prometheus/metrics"
# Loads in their own threads and short retries, as the fact sheet advises for canary servers.
FLAGS = ("--num_load_threads=1", "--num_unload_threads=1", "--max_num_load_retries=1")

# How to start one; the names in braces are filled in.
_ARGUMENTS = "--port={grpc} --rest_api_port={rest} --model_config_file={config} {flags}"
TOY = f"{shlex.quote(sys.executable)} -m haldane.sandbox --executor=toy {_ARGUMENTS}"
FORKED = _ARGUMENTS  # for a `spawn` that needs no program


class Process(Protocol):
    """What is asked of a started server; `subprocess.Popen` and `forkserver.Forked` have it."""

    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def kill(self) -> None: ...
    def send_signal(self, number: int, /) -> None: ...


Spawn = Callable[[Sequence[str], Path], Process]  # words, log file


def _spawn(words: Sequence[str], log: Path) -> Process:
    with log.open("ab") as out:
        return subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT)


def affine_request(*values: float, signature: str = "") -> Request:
    """A Request that every affine toy model answers with k * x."""
    body = wire.PredictRequest()
    body.model_spec.signature_name = signature
    tensor = body.inputs["x"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=len(values) or 1)
    tensor.float_val.extend(values or (1.0,))
    return Request(id="golden", api=Api.PREDICT, body=body.SerializeToString())


class Sandbox:
    """One server process: models, config file, ports kept over restarts.

    Several may share a directory: they then serve the same models, each with a
    config file and a log of its own name. `flags` may be changed until `start`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "r0",
        flags: Sequence[str] = (),
        command: str = TOY,
        spawn: Spawn | None = None,
    ) -> None:
        self.name = name
        self.models = directory / "models"
        self._directory = directory
        self.flags = (*FLAGS, *flags)
        self._command, self._spawn = command, spawn or _spawn
        self.port, self.rest_port, self.admin_port = free_port(), free_port(), free_port()
        self._process: Process | None = None
        self.log = directory / f"{name}.log"
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def server(self) -> Server:
        return Server(
            ServerName(self.name),
            f"127.0.0.1:{self.port}",
            metrics_url=f"http://127.0.0.1:{self.rest_port}{METRICS_PATH}",
        )

    def add(self, model: str, version: int, recipe: str = "affine", **settings: Any) -> Path:
        """A version directory, renamed into place when it is complete; `affine` multiplies by 10 * version."""
        if recipe == "affine":
            settings = {"k": 10.0 * version, **settings}
        staged = self.models / model / f".incoming-{version}"
        toy.write(staged, recipe, **settings)
        return staged.rename(self.models / model / str(version))

    def entry(self, model: str, *versions: int, labels: Mapping[str, int] | None = None) -> ModelEntry:
        """A list entry for that model: exactly these versions, or the latest when none is given."""
        return ModelEntry(
            name=ModelName(model),
            base_path=str(self.models / model),
            policy=Policy.SPECIFIC if versions else Policy.LATEST,
            versions=versions,
            labels=labels or {},
        )

    def config(self, *entries: ModelEntry) -> ServerConfig:
        return ServerConfig(entries)

    def start(self, config: ServerConfig, *, rest: bool = False, wait_seconds: float = 60.0) -> Self:
        """Start it and wait until the gRPC port accepts, with `rest` also the REST port.

        Some version of every model is loaded then; others may be under way.
        """
        (self._directory / f"{self.name}.config").write_text(modelconfig.render(config))
        monitoring = self._directory / f"{self.name}.monitoring"  # its own: others start while this one reads it
        monitoring.write_text(MONITORING)
        flags = (*self.flags, f"--monitoring_config_file={monitoring}")
        words = self._command.format(
            grpc=self.port,
            rest=self.rest_port,
            config=shlex.quote(str(self._directory / f"{self.name}.config")),
            flags=shlex.join(flags),
        )
        self._process = self._spawn(shlex.split(words), self.log)
        deadline = time.monotonic() + wait_seconds
        for port in (self.port, self.rest_port) if rest else (self.port,):
            self._await_port(port, deadline)
        return self

    def _await_port(self, port: int, deadline: float) -> None:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            code = self._process.poll() if self._process else None
            if code is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} is not up (exit code {code}):\n{self.log.read_text()[-3000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill the process; safe to call twice."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """The process stands still: its ports accept, nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
