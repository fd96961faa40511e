"""A port for a server that is to be started in a moment."""

import contextlib
import itertools
import os
import socket

# Below what systems give to outgoing connections, so that no client sits on it before its server starts;
# processes begin at different places.
_PORTS = itertools.cycle(range(10_000, 32_000))
next(itertools.islice(_PORTS, os.getpid() * 97 % 22_000, None))


def free_port() -> int:
    """A loopback port that nobody listens on, nor was given by this process lately."""
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a cycle ends")
