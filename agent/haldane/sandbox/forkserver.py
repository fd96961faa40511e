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
import selectors
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
_MAX_REQUEST = 1 << 20


# ---------------------------------------------------------------- the server
def serve(path: str) -> None:
    """Load the runtime, listen on a unix socket, fork on request; ends, with all its sandboxes, when stdin closes."""
    _preload()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ, _Listener(listener, selector))
        selector.register(sys.stdin, selectors.EVENT_READ, None)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    if not os.read(sys.stdin.fileno(), 4096):
                        _end(selector)
                        return
                else:
                    key.data.ready(key.fileobj)


def _preload() -> None:
    # TensorFlow first. gRPC is imported after it but not used here: it starts its threads with the first server.
    import importlib.util

    if importlib.util.find_spec("tensorflow") is not None:
        from haldane.sandbox import executor

        executor.preload()
    from haldane.sandbox import server, toy  # noqa: F401


def _end(selector: selectors.BaseSelector) -> None:
    for key in list(selector.get_map().values()):
        if isinstance(key.data, _Sandbox):
            key.data.kill(signal.SIGKILL)


class _Listener:
    def __init__(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        self._listener, self._selector = listener, selector

    def ready(self, _: object) -> None:
        connection, _ = self._listener.accept()
        # The request is one small message, sent at once by a client of this module.
        data, descriptors = _receive(connection)
        if not data:
            connection.close()
            return
        pid = os.fork()
        if pid == 0:
            self._become_sandbox(json.loads(data), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.sendall(f"pid {pid}\n".encode())
        sandbox = _Sandbox(pid, connection, self._selector)
        self._selector.register(connection, selectors.EVENT_READ, sandbox)
        self._selector.register(sandbox.process, selectors.EVENT_READ, sandbox)

    def _become_sandbox(self, request: Mapping[str, object], descriptors: Sequence[int]) -> NoReturn:
        status = 255
        try:
            os.setsid()
            stdin = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((stdin, 0), (descriptors[0], 1), (descriptors[1], 2)):
                os.dup2(source, target)
            os.closerange(3, 1024)
            os.chdir(str(request["cwd"]))
            os.environ.clear()
            os.environ.update(dict(request["env"]))  # type: ignore[call-overload]
            from haldane.sandbox.server import main

            status = main([str(word) for word in request["argv"]])  # type: ignore[attr-defined]
            sys.stdout.flush()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    data, descriptors = b"", array.array("i")
    while not data.endswith(b"\n"):
        part, ancillary, _, _ = connection.recvmsg(_MAX_REQUEST, socket.CMSG_SPACE(2 * descriptors.itemsize))
        if not part:
            return b"", list(descriptors)
        data += part
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    return data, list(descriptors)


class _Sandbox:
    """One child: passes signals to it and its end to the client."""

    def __init__(self, pid: int, connection: socket.socket, selector: selectors.BaseSelector) -> None:
        self._pid, self._connection, self._selector = pid, connection, selector
        self.process = os.pidfd_open(pid)
        self._over = False

    def ready(self, source: object) -> None:
        if self._over:
            return  # an event of the same round as its end
        if source == self.process:
            self._ended()
            return
        data = self._read()
        if not data:
            self.kill(signal.SIGKILL)
            self._selector.unregister(self._connection)
        for line in data.decode().split("\n"):
            if line.startswith("kill "):
                self.kill(int(line.split()[1]))

    def _read(self) -> bytes:
        try:
            return self._connection.recv(4096)
        except OSError:
            return b""

    def kill(self, number: int) -> None:
        # By descriptor, so that a number used again is never hit.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, number)

    def _ended(self) -> None:
        self._over = True
        self._selector.unregister(self.process)
        os.close(self.process)
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        with contextlib.suppress(OSError):
            self._connection.sendall((f"signal {-code}\n" if code < 0 else f"exit {code}\n").encode())
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._connection)
        self._connection.close()


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
