"""A HAProxy before a fleet, with a runtime API that sets weights."""

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from haldane.sandbox.freeport import free_port
from haldane.testing.sandboxes import Sandbox

HAPROXY = """
global
    stats socket {path} level admin mode 600
defaults
    mode http
    timeout connect 1s
    timeout client 1m
    timeout server 1m
frontend grpc
    bind 127.0.0.1:{port} proto h2
    default_backend serving
backend serving
    balance roundrobin
{servers}
"""


@contextmanager
def haproxy(binary: str, folder: Path, boxes: Sequence[Sandbox], canary_boxes: Sequence[Sandbox]) -> Iterator[Path]:
    """A HAProxy before these servers, for as long as the block lasts; gives the path of its socket."""
    path = folder / "haproxy.sock"
    path.unlink(missing_ok=True)
    canary = {box.name for box in canary_boxes}
    weights = {box.name: 0 if box.name in canary else 100 for box in boxes}
    lines = [f"    server {b.name} 127.0.0.1:{b.port} proto h2 weight {weights[b.name]}" for b in boxes]
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(path=path, port=free_port(), servers="\n".join(lines)))
    process = subprocess.Popen([binary, "-db", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            while probe.connect_ex(str(path)) != 0:
                if process.poll() is not None:
                    raise RuntimeError(f"{binary} ended with {process.returncode}")
                time.sleep(0.02)
        yield path
    finally:
        process.kill()
        process.wait()
