"""What the callers share: how they start together, and what they say afterwards."""

import json
import sys
import time

from haldane.domain.fleet import Server, ServerName

WARM_UP_CALLS = 4_000


def server_at(port: int) -> Server:
    return Server(ServerName(f"at {port}"), f"127.0.0.1:{port}")


class Meter:
    """Wall and CPU seconds of this process since it was started."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def say(self, calls: int) -> None:
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        print(json.dumps({"calls": calls, "cpu_seconds": cpu, "wall_seconds": wall}), flush=True)


def start() -> Meter:
    """Wait for the word, so that processes that run together also count together."""
    print("ready", flush=True)
    sys.stdin.readline()
    return Meter()
