"""Processes of the demo: each in a session of its own, logged to a file, ended in order."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ENOUGH_SECONDS = 5.0  # to end in good order, before it is killed


def start(
    command: Sequence[str], log: Path, *, stdout: int | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start it. In a session of its own, so that Ctrl-C reaches the demo alone, which then ends it in order.

    `env` is added to the environment.
    """
    with log.open("ab") as stream:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream if stdout is None else stdout,
            stderr=stream,
            start_new_session=True,
            env=None if env is None else {**os.environ, **env},
        )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end; kill it when it does not."""
    process.terminate()
    try:
        process.wait(ENOUGH_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def running(command: Sequence[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The process for as long as the block runs."""
    process = start(command, log)
    try:
        yield process
    finally:
        stop(process)


def last_lines(log: Path, count: int = 8) -> str:
    """The end of a log, for a failure message; empty when there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    except FileNotFoundError:
        return ""
