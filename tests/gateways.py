"""Real gateways for tests, on the very configs that docs/howto/gateway.md shows, with other ports."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx

from haldane import wire
from haldane.testing.sandboxes import free_port

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples" / "gateway"
PORTS = ("8500", "8502", "8504")  # of r0, r1 and r2 in the examples; r2 is the canary's
HAPROXY_SOCKET = "/run/haproxy/haldane.sock"
SERVICE = "/tensorflow.serving.PredictionService/Predict"


class Gateway:
    """One gateway process, that can be stopped and started again on the ports it has."""

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, changed: Mapping[str, str], port: int
    ) -> None:
        text = (EXAMPLES / name).read_text()
        for before, after in changed.items():
            assert before in text, f"{name} lacks {before!r}"
            text = text.replace(before, after)
        self.file = directory / name
        self.file.write_text(text)
        self.address = f"127.0.0.1:{port}"
        self._command, self._port = [*command, str(self.file)], port
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Gateway":
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 30
        while not self._accepts():
            assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()[-3000:]
            time.sleep(0.02)
        return self

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def count(self, model: str, version: int, calls: int) -> int:
        """Of so many calls, those that this version answered."""
        with predict_through(self.address, model) as predict:
            return sum(predict() == version for _ in range(calls))

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class HAProxy(Gateway):
    """The real one; `socket` is its runtime API."""

    def __init__(
        self, binary: str, directory: Path, ports: Sequence[int], more: Mapping[str, str] | None = None
    ) -> None:
        port = free_port()
        self.socket = str(directory / "haproxy.sock")
        changed = {f":{old} ": f":{new} " for old, new in zip(PORTS, ports, strict=True)}
        changed |= {"127.0.0.1:8510 ": f"127.0.0.1:{port} ", HAPROXY_SOCKET: self.socket, **(more or {})}
        super().__init__("haproxy.cfg", [binary, "-db", "-f"], directory, changed, port)

    def _accepts(self) -> bool:
        """Its own socket comes a moment after the frontend, in the place of the one before."""
        with socket.socket(socket.AF_UNIX) as probe:
            return super()._accepts() and probe.connect_ex(self.socket) == 0


class Envoy(Gateway):
    """The real one; `admin` is its admin page."""

    def __init__(
        self, binary: str, directory: Path, ports: Sequence[int], more: Mapping[str, str] | None = None
    ) -> None:
        port, admin = free_port(), free_port()
        self.admin = f"http://127.0.0.1:{admin}"
        changed = {f"port_value: {old} ": f"port_value: {new} " for old, new in zip(PORTS, ports, strict=True)}
        changed |= {"port_value: 8510 ": f"port_value: {port} ", "port_value: 9901 ": f"port_value: {admin} "}
        # Without --disable-hot-restart a second Envoy on this host does not start.
        command = [binary, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warn", "-c"]
        super().__init__("envoy.yaml", command, directory, {**changed, **(more or {})}, port)

    def _accepts(self) -> bool:
        return super()._accepts() and httpx.get(f"{self.admin}/ready", trust_env=False).text.strip() == "LIVE"


@contextmanager
def predict_through(address: str, model: str, label: str = "") -> Iterator[Callable[[], int]]:
    """A call that names this label, or none, and gives the version that answered; RpcError when none did."""
    body = wire.PredictRequest()
    body.model_spec.name = model
    if label:
        body.model_spec.version_label = label
    tensor = body.inputs["x"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=1)
    tensor.float_val.append(1.0)
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        predict = channel.unary_unary(
            SERVICE,
            request_serializer=wire.PredictRequest.SerializeToString,
            response_deserializer=wire.PredictResponse.FromString,
        )
        yield lambda: int(predict(body, timeout=10, wait_for_ready=True).model_spec.version.value)
