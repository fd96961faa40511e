"""Toy sandboxes by the dozen, from one fork server per test file."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from haldane import wire
from haldane.sandbox import toy
from haldane.sandbox.forkserver import Forked, ForkServer
from haldane.sandbox.freeport import free_port


class ToySandbox:
    """One toy sandbox serving model m, versions 1 and 2 (y = 10x, y = 20x), and what a test asks of it."""

    def __init__(self, server: ForkServer, directory: Path, flags: Sequence[str]) -> None:
        self.directory = directory
        self.port, self.rest_port, self.admin_port = (free_port() for _ in range(3))
        for version in (1, 2):
            if not (directory / "m" / str(version)).exists():
                toy.write(directory / "m" / str(version), "affine", k=10.0 * version)
        config = directory / "models.config"
        if not config.exists():
            config.write_text(self.entry("model_version_policy { all {} }"))
        self.log = directory / "log"
        self.process: Forked = server.spawn(
            [
                "--executor=toy",
                f"--port={self.port}",
                f"--rest_api_port={self.rest_port}",
                f"--admin_port={self.admin_port}",
                f"--model_config_file={config}",
                *flags,
            ],
            self.log,
        )
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[("grpc.use_local_subchannel_pool", 1)])

    def entry(self, more: str = "") -> str:
        base = self.directory / "m"
        return f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: "tensorflow" {more} }} }}'

    def until_ready(self) -> "ToySandbox":
        self.until_open(self.port, self.rest_port, self.admin_port)
        self.until(lambda: self.states() == {1: 30, 2: 30})
        return self

    def until_open(self, *ports: int) -> None:
        for port in ports:
            self.until(lambda port=port: accepts(port))  # type: ignore[misc]

    def until(self, claim: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not claim():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"never came true; exit {self.process.poll()}\n{self.log.read_text()[-3000:]}")
            time.sleep(0.01)

    def call(
        self, method: wire.Method, request: Any, *, timeout: float = 20, channel: grpc.Channel | None = None
    ) -> Any:
        call = (channel or self.channel).unary_unary(method.path)
        return method.response.FromString(call(request.SerializeToString(), timeout=timeout))

    def predict(self, version: int | None = None, *, x: float = 1.0, **options: Any) -> float:
        """The answer to one number."""
        request = self.predict_request(version, x)
        return float(self.call(wire.PREDICT, request, **options).outputs["y"].float_val[0])

    def predict_request(self, version: int | None = None, x: float = 1.0) -> Any:
        request = wire.PredictRequest()
        request.model_spec.name = "m"
        if version is not None:
            request.model_spec.version.value = version
        request.inputs["x"].dtype = 1
        request.inputs["x"].tensor_shape.dim.add(size=1)
        request.inputs["x"].float_val.append(x)
        return request

    def states(self) -> dict[int, int]:
        request = wire.GetModelStatusRequest(model_spec=wire.ModelSpec(name="m"))
        try:
            entries = self.call(wire.GET_MODEL_STATUS, request).model_version_status
        except grpc.RpcError:
            return {}
        return {entry.version: entry.state for entry in entries}

    def reload(self, more: str = "", **options: Any) -> Any:
        from google.protobuf import text_format

        request = wire.ReloadConfigRequest()
        text_format.Parse(self.entry(more), request.config, descriptor_pool=wire.POOL)
        return self.call(wire.RELOAD_CONFIG, request, **options)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with ForkServer() as server:
        yield server


@pytest.fixture
def launch(forks: ForkServer, tmp_path: Path) -> Iterator[Callable[..., ToySandbox]]:
    """A function that starts a toy sandbox with these flags."""
    started: list[ToySandbox] = []

    def start(*flags: str, directory: Path = tmp_path) -> ToySandbox:
        started.append(ToySandbox(forks, directory, flags))
        return started[-1]

    yield start
    for sandbox in started:
        sandbox.channel.close()
        sandbox.process.kill()
