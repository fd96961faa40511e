"""One socket served inside the loop of a process of ours, whatever app answers on it."""

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.types import ASGIApp

from haldane.ports import Refused


def listen(address: str, key: str = "listen") -> socket.socket:
    """A listening socket on host:port (port 0: a free one); Refused, naming its `key`, when it cannot be had."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host.strip("[]"), int(port)))
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise Refused(key, f"cannot listen on {address}: {error.strerror}; set `{key}:` to a free one") from error
    sock.setblocking(False)
    return sock


class _QuietServer(uvicorn.Server):
    """Leaves signals to the agent, which knows what must be finished first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: ASGIApp, sock: socket.socket) -> None:
    """Answer on that socket until cancelled; open connections are dropped after a second."""
    # log_config=None: uvicorn's own would close every log handler of the process, and absl's, which TensorFlow
    # brings, then closes the stream it writes to: standard error, or what a test runner put in its place.
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # else whoever calls from this machine could name any address as their own
        lifespan="off",
        timeout_graceful_shutdown=1,
        ws="none",
        loop="none",
    )
    await _QuietServer(config).serve(sockets=[sock])


@contextlib.asynccontextmanager
async def listening(address: str, key: str = "listen") -> AsyncIterator[socket.socket]:
    """The socket for `serve`, closed at the end."""
    sock = listen(address, key)
    try:
        yield sock
    finally:
        sock.close()
