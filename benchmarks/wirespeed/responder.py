"""nginx as two gRPC servers, stable and canary: every call is answered with one canned PredictResponse."""

import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from haldane import wire
from haldane.tensors import encode, predict_body

STABLE, CANARY = 1, 2
FLOAT = 1

_SERVER = """
    server {{
        listen 127.0.0.1:{port} http2;
        root {folder};
        location / {{ error_page 405 =200 /{name}.bin; try_files /{name}.bin =404; add_trailer grpc-status 0; }}
        location = /{name}.bin {{ add_trailer grpc-status 0; types {{}} default_type application/grpc; }}
    }}"""
_CONFIG = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 100000000; http2_max_concurrent_streams 1024;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/t1; fastcgi_temp_path {folder}/t2;
    uwsgi_temp_path {folder}/t3; scgi_temp_path {folder}/t4; open_file_cache max=10;
    {servers}
}}
"""


def framed(message: bytes) -> bytes:
    """A message as gRPC sends it: not compressed, four bytes of length."""
    return b"\0" + struct.pack(">I", len(message)) + message


def request_body() -> bytes:
    """A PredictRequest of about 300 bytes: one row of 64 features."""
    return predict_body("serving_default", {"x": encode(np.linspace(0, 1, 64, dtype="<f4").reshape(1, 64), FLOAT)})


def reply(version: int) -> bytes:
    """A PredictResponse of about 100 bytes with ten scores, which differ between versions by 1e-4."""
    scores = np.linspace(0.05, 0.15, 10, dtype="<f4").reshape(1, 10) + np.float32(1e-4 * version)
    answer = wire.PredictResponse()
    answer.outputs["scores"].CopyFrom(encode(scores.astype("<f4"), FLOAT))
    answer.model_spec.name = "credit"
    answer.model_spec.version.value = version
    answer.model_spec.signature_name = "serving_default"
    return bytes(answer.SerializeToString())


@contextmanager
def responders(folder: Path) -> Iterator[tuple[int, int]]:
    """The ports of stable and canary while the block lasts. SystemExit when there is no nginx."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise SystemExit("nginx is not installed; on Debian: sudo apt-get install nginx-light")
    ports, servers = {}, []
    for name, version in (("stable", STABLE), ("canary", CANARY)):
        (folder / f"{name}.bin").write_bytes(framed(reply(version)))
        ports[name] = _free_port()
        servers.append(_SERVER.format(port=ports[name], folder=folder, name=name))
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, servers="".join(servers)))
    folder.chmod(0o755)  # its worker may run as another user
    process = subprocess.Popen([program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)])
    try:
        for port in ports.values():
            _await_port(port, process)
        yield ports["stable"], ports["canary"]
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise SystemExit("nginx did not start; its error log is above")
