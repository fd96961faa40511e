#!/usr/bin/env python3
"""How light the agent is: start and idle memory, beside a plain import of Serving's messages in the same run.

    python benchmarks/footprint.py [--runs 5] [--json FILE] [--check]

Start: from spawning `haldane run --server 127.0.0.1:PORT` (nobody answers there) to 200 on /-/ready or /-/healthy,
best of the runs, because other work on the machine only ever adds. Memory: resident set, settled, not peak. The
reference is what an agent that used tensorflow-serving-api would pay before its first line of work. With --check it
exits 1 when a target is missed: start under 1.5 s, idle under 120 MB.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

START_TARGET_SECONDS = 1.5
MEMORY_TARGET_MB = 120.0
SETTLE_SECONDS = 5.0
DEADLINE_SECONDS = 60.0
# Both sides may keep their bytecode, as installed packages do; some environments forbid it.
CACHED = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
REFERENCE = "import tensorflow_serving.apis.prediction_service_pb2"


@dataclass(frozen=True)
class Footprint:
    """Seconds to be useful, and resident megabytes when idle."""

    seconds: float
    megabytes: float


def resident_megabytes(pid: int) -> float:
    """From /proc where there is one, else from ps."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024
    said = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    return int(said) / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=1) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def agent(folder: Path) -> Footprint:
    """One start of the agent, left idle for a while, then stopped."""
    port = free_port()
    config = folder / "haldane.yaml"
    config.write_text(
        f"servers: ['127.0.0.1:{free_port()}']\nlisten: 127.0.0.1:{port}\nstate_dir: {folder / f'state-{port}'}\n"
    )
    began = time.perf_counter()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("haldane"), "run", "--config", config],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=CACHED,
    )
    try:
        while not answers(f"http://127.0.0.1:{port}/-/ready"):
            if process.poll() is not None or time.perf_counter() - began > DEADLINE_SECONDS:
                sys.exit("the agent did not become ready")
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        time.sleep(SETTLE_SECONDS)
        return Footprint(seconds, resident_megabytes(process.pid))
    finally:
        process.terminate()
        process.wait(timeout=10)


def reference() -> Footprint:
    """A plain import of the official messages, timed from spawning the interpreter."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", f"{REFERENCE}\nprint('ready', flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**CACHED, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert process.stdout is not None
    if process.stdout.readline().strip() != b"ready":
        sys.exit("tensorflow-serving-api cannot be imported; install haldane[sandbox]")
    seconds = time.perf_counter() - began
    megabytes = resident_megabytes(process.pid)
    process.communicate(b"\n", timeout=30)
    return Footprint(seconds, megabytes)


def best(footprints: list[Footprint]) -> Footprint:
    return Footprint(min(one.seconds for one in footprints), min(one.megabytes for one in footprints))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.runs):  # taking turns, so that both see the same machine
            ours.append(agent(Path(folder)))
            theirs.append(reference())
    us, them = best(ours), best(theirs)
    print(f"{'':38}{'start':>10}{'memory':>10}")
    print(f"{'the agent, ready and idle':38}{us.seconds:>8.2f} s{us.megabytes:>7.0f} MB")
    print(f"{'plain import of the messages':38}{them.seconds:>8.2f} s{them.megabytes:>7.0f} MB")
    print(f"{'the agent takes this share':38}{us.seconds / them.seconds:>10.2f}{us.megabytes / them.megabytes:>10.2f}")
    print(f"{'target':38}{START_TARGET_SECONDS:>8.2f} s{MEMORY_TARGET_MB:>7.0f} MB")
    if options.json:
        options.json.write_text(json.dumps({"agent": asdict(us), "reference": asdict(them), "runs": options.runs}))
    met = us.seconds < START_TARGET_SECONDS and us.megabytes < MEMORY_TARGET_MB
    return 0 if met or not options.check else 1


if __name__ == "__main__":
    raise SystemExit(main())
