"""Many sandboxes for little: TensorFlow is loaded once, every sandbox is a fork.

The fork server loads the runtime, before any operation and before gRPC is
used, and then only forks: it stays single-threaded for its whole life. A client
(the Python API below, or the command form) talks to it over a unix socket, one
connection per sandbox:

    client -> server   one JSON line {"argv", "cwd", "env"}, with the file descriptors for stdout and stderr
    server -> client   "pid N\\n", and when the sandbox ended "exit CODE\\n" or "signal N\\n"
    client -> server   "kill N\\n": send it signal N; closing the connection kills it

    python -m haldane.sandbox.forkserver serve SOCKET
    python -m haldane.sandbox.forkserver run [--socket=SOCKET] -- FLAGS...     (else HALDANE_FORKSERVER)

The command form stands for its sandbox: it passes signals on and ends as the
sandbox ends. It imports neither gRPC nor TensorFlow.
"""

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn

ENVIRONMENT = "HALDANE_FORKSERVER"


# ---------------------------------------------------------------- the Python API
class Forked:
    """A sandbox forked by a fork server; behaves like a subprocess.Popen. `returncode` is negative for a signal."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""
        self.returncode: int | None = None
        word, number = self._line(None) or ("", 0)
        if word != "pid":
            raise RuntimeError("the fork server refused")
        self.pid = number

    def _line(self, timeout: float | None) -> tuple[str, int] | None:
        """The server's next line, None when none comes in time. A lost server counts as killed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._buffer:
            self._connection.settimeout(None if deadline is None else max(1e-6, deadline - time.monotonic()))
            try:
                data = self._connection.recv(4096)
            except TimeoutError:
                return None
            except ConnectionError:
                data = b""
            if not data:
                return "signal", signal.SIGKILL
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        word, number = line.decode().split()
        return word, int(number)

    def poll(self) -> int | None:
        """The exit status if it has ended, else None."""
        return self._reap(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, when it ends; subprocess.TimeoutExpired when it does not in time."""
        status = self._reap(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("sandbox", timeout or 0.0)
        return status

    def _reap(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            line = self._line(timeout)
            if line is not None:
                self.returncode = -line[1] if line[0] == "signal" else line[1]
                self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(OSError):
                self._connection.sendall(f"kill {int(number)}\n".encode())

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def spawn(path: str, argv: Sequence[str], *, stdout: int, stderr: int, env: Mapping[str, str] | None = None) -> Forked:
    """A sandbox with these flags, forked by the server at that socket; OSError when nobody listens there."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    request = {"argv": list(argv), "cwd": str(Path.cwd()), "env": dict(os.environ if env is None else env)}
    descriptors = array.array("i", [stdout, stderr])
    data = json.dumps(request).encode() + b"\n"
    sent = connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    connection.sendall(data[sent:])
    return Forked(connection)


class ForkServer:
    """A fork server of one's own, for tests and demos.

        with ForkServer() as server:
            sandbox = server.spawn(["--port=8500", "--model_config_file=models.config"], log=Path("sandbox.log"))

    Closing it, or the death of this process, kills every sandbox it forked. What the
    server itself prints goes to `log`, or to this process's standard error.
    """

    def __init__(self, python: str = sys.executable, log: Path | None = None) -> None:
        self._python = python
        self._log = log
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = ""

    def start(self, timeout: float = 120) -> "ForkServer":
        """Start it and wait until it forks; RuntimeError when it does not come up."""
        self._directory = tempfile.TemporaryDirectory(prefix="forkserver")
        self.socket = str(Path(self._directory.name) / "s")
        with contextlib.ExitStack() as opened:
            # A session of its own: Ctrl-C is for its owner, who then closes it.
            self._process = subprocess.Popen(
                [self._python, "-m", "haldane.sandbox.forkserver", "serve", self.socket],
                stdin=subprocess.PIPE,
                stderr=opened.enter_context(self._log.open("ab")) if self._log else None,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while not _listens(self.socket):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError("the fork server did not start")
            time.sleep(0.02)
        return self

    @property
    def pid(self) -> int:
        """The fork server's own process; 0 before it is started."""
        return self._process.pid if self._process else 0

    def spawn(self, argv: Sequence[str], log: Path) -> Forked:
        """Fork a sandbox with these flags; what it prints is appended to `log`."""
        with log.open("ab") as stream:
            return spawn(self.socket, argv, stdout=stream.fileno(), stderr=stream.fileno())

    def close(self) -> None:
        """End the server and all its sandboxes."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._directory is not None:
            self._directory.cleanup()

    def __enter__(self) -> "ForkServer":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


# ---------------------------------------------------------------- the command form
_RELAYED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def run(path: str, argv: Sequence[str]) -> NoReturn:
    """Fork a sandbox and be it: pass signals on, end as it ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _RELAYED)
    sandbox = spawn(path, argv, stdout=1, stderr=2)
    for number in _RELAYED:
        signal.signal(number, lambda received, _: sandbox.send_signal(received))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _RELAYED)
    status = sandbox.wait()
    if status >= 0:
        os._exit(status)
    if -status in _RELAYED:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    os._exit(128 - status)  # a signal that does not kill


def main(argv: Sequence[str]) -> int:
    """`serve SOCKET` or `run [--socket=SOCKET] -- FLAGS...`."""
    words = list(argv)
    command = words.pop(0) if words else ""
    if command == "serve" and len(words) == 1:
        from haldane.sandbox.forking import serve

        serve(words[0])
        return 0
    if command == "run":
        path = os.environ.get(ENVIRONMENT, "")
        if words and words[0].startswith("--socket="):
            path = words.pop(0).removeprefix("--socket=")
        if words[:1] == ["--"]:
            words.pop(0)
        if path:
            run(path, words)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
