#!/usr/bin/env python3
"""What a mirrored call costs the tap, and what a flood does to its memory.

    python benchmarks/tap.py [--calls 20000] [--table docs/benchmarks.md] [--check]

The real `haldane tap` takes calls of h2load (package nghttp2-client) over gRPC and REST: one input of 64 numbers, the
shadow share drawn from all, 1 % recorded, an agent that asks for them and takes 50 a second, as `shadow.rate` has it.
Seconds of CPU are those of the tap's process alone. Then a flood of requests of 400 kB. With --check it exits 1 when a
call is not answered or not counted, or when the flood grew the process by more than twice what may wait.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import yaml
from trials.page import Block, markdown_table

from haldane import wire
from haldane.domain.fleet import ModelName
from haldane.ports import Malformed
from haldane.serving.tapfeed import Tapped
from haldane.tensors import encode
from haldane.testing.sandboxes import free_port

MODEL, RATE = "m", 50
WAITING = 64 << 20  # the default of tap.waiting
FLOOD_NUMBERS = 100_000  # of 4 bytes, in each request of the flood


def body(numbers: int) -> bytes:
    request = wire.PredictRequest()
    request.model_spec.name = MODEL
    request.inputs["x"].CopyFrom(encode(np.zeros(numbers, np.float32), 1))
    return bytes(request.SerializeToString())


class Tap:
    """The process, and what the kernel says of it."""

    def __init__(self, folder: Path) -> None:
        self.grpc, self.rest, self.folder = free_port(), free_port(), folder
        traffic = {"tap": {}, "record": {"directory": str(folder / "kept")}}
        config = {
            "servers": [f"127.0.0.1:{free_port()}"],
            "state_dir": str(folder / "state"),
            "tap": {"grpc": f"127.0.0.1:{self.grpc}", "rest": f"127.0.0.1:{self.rest}"},
            "models": {MODEL: {"clients": "label", "traffic": traffic}},
        }
        (folder / "haldane.yaml").write_text(yaml.safe_dump(config))
        self.process = subprocess.Popen(
            [str(Path(sys.executable).parent / "haldane"), "tap", str(folder / "haldane.yaml")],
            stderr=subprocess.DEVNULL,
        )
        while not self._up():
            time.sleep(0.05)

    def _up(self) -> bool:
        if self.process.poll() is not None:
            raise SystemExit("the tap did not start")
        try:
            return httpx.get(f"http://127.0.0.1:{self.rest}/-/healthy").is_success
        except httpx.TransportError:
            return False

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def received(self) -> int:
        page = httpx.get(f"http://127.0.0.1:{self.rest}/metrics", timeout=60).text
        return int(sum(float(one) for one in re.findall(r"^haldane_tap_received_total\{.*\} (\S+)$", page, re.M)))


@dataclass(frozen=True, slots=True)
class Load:
    """What h2load sent, and what that did."""

    name: str
    calls: int
    lost: int  # not answered, or not counted
    micros: float  # of CPU per call
    grew: int  # bytes


def load(tap: Tap, name: str, calls: int, words: Sequence[str]) -> Load:
    counted, cpu, resident = tap.received(), tap.cpu_seconds(), tap.resident()
    out = subprocess.run(["h2load", f"-n{calls}", *words], capture_output=True, text=True, check=True).stdout
    answered = re.search(r"status codes: (\d+) 2xx", out)
    micros = (tap.cpu_seconds() - cpu) / calls * 1e6
    lost = calls - min(int(answered[1]) if answered else 0, tap.received() - counted)
    return Load(name, calls, lost, micros, tap.resident() - resident)


def loads(tap: Tap, calls: int) -> list[Load]:
    grpc = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    to_grpc = f"http://127.0.0.1:{tap.grpc}{wire.PREDICT.path}"
    for name, numbers in (("one", 64), ("many", FLOOD_NUMBERS)):
        message = body(numbers)
        (tap.folder / name).write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
    (tap.folder / "json").write_text(json.dumps({"instances": [0.0] * 64}))
    to_rest = f"http://127.0.0.1:{tap.rest}/v1/models/{MODEL}:predict"
    return [
        load(tap, "gRPC, 64 numbers", calls, ["-c4", "-m8", *grpc, "-d", str(tap.folder / "one"), to_grpc]),
        load(tap, "REST, 64 numbers", calls, ["--h1", "-c8", "-d", str(tap.folder / "json"), to_rest]),
        load(tap, "gRPC, 400 kB each", calls // 10, ["-c4", "-m8", *grpc, "-d", str(tap.folder / "many"), to_grpc]),
    ]


async def measured(tap: Tap, calls: int) -> list[Load]:
    async def agent() -> None:
        source = Tapped(tap.folder / "state" / "tap.sock", ModelName(MODEL), lambda value, where: Malformed(where, ""))
        async for _ in source._stream():
            await asyncio.sleep(1 / RATE)

    reading = asyncio.create_task(agent())
    try:
        return await asyncio.to_thread(loads, tap, calls)
    finally:
        reading.cancel()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000, help="of each small kind (%(default)s)")
    parser.add_argument("--table", type=Path, help="page of the docs to write the figures into")
    parser.add_argument("--check", action="store_true", help="exit 1 when a call is lost or memory is not bounded")
    options = parser.parse_args()
    if shutil.which("h2load") is None:
        parser.error("h2load is not installed: package nghttp2-client")
    block = Block(options.table, "tap") if options.table else None
    with tempfile.TemporaryDirectory() as folder:
        tap = Tap(Path(folder))
        try:
            found = asyncio.run(measured(tap, options.calls))
        finally:
            tap.process.terminate()
            tap.process.wait()
    rows = [
        [
            one.name,
            f"{one.calls:,}",
            str(one.lost),
            f"{one.micros:.0f}",
            f"{1e6 / one.micros:,.0f}",
            f"{one.grew / 1e6:.1f}",
        ]
        for one in found
    ]
    head = ["calls", "sent", "lost", "CPU µs a call", "calls a second of one core", "the process grew by, MB"]
    table = markdown_table(head, rows)
    print(table)
    if block is not None:
        block.write(table)
    bounded = all(one.lost == 0 and one.grew < 2 * WAITING for one in found)
    return 1 if options.check and not bounded else 0


if __name__ == "__main__":
    sys.exit(main())
