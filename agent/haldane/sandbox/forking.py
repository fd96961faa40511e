"""The fork server's own side: loads the runtime once, then only forks.

It stays single-threaded for its whole life, and uses neither TensorFlow nor
gRPC itself. Its protocol, and those who speak to it, are in `forkserver`.
"""

import array
import contextlib
import gc
import importlib.util
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

_MAX_REQUEST = 1 << 20


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
    # numpy's linear algebra would start threads at import.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if importlib.util.find_spec("tensorflow") is not None:
        from haldane.sandbox import executor

        executor.preload()
    from haldane.sandbox import server, toy  # noqa: F401

    gc.collect()
    gc.freeze()  # a collection in a child would touch, and so copy, every page of what was loaded here


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
            os.closerange(3, 1 << 20)
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
