"""HTTP/1.1 in the shape of libevent's server: one event loop, a fixed set of workers.

The loop reads and parses (h11); a complete request goes to a worker, which
answers it, writes, and hands the connection back. So idle connections cost no
thread, and slow inferences occupy exactly one each.

Source: util/net_http/server/internal/evhttp_server.cc; libevent's http.c.
"""

import collections
import contextlib
import selectors
import socket
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import h11

from haldane.sandbox import log
from haldane.sandbox.rest import Request, Response, html_error

_HEADER_LIMIT = 1 << 20
_CHUNK = 1 << 18
_BACKLOG = 128


class _Connection:
    """One client: its socket, its protocol state, the request being read."""

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self.protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEADER_LIMIT)
        self._head: h11.Request | None = None
        self._body = bytearray()

    def receive(self) -> None:
        """Take what has arrived; OSError when the client is gone."""
        self.protocol.receive_data(self.socket.recv(_CHUNK))

    def next_request(self) -> Request | None:
        """A complete request, or None while more must arrive.

        Raises h11.RemoteProtocolError for what is no HTTP, ConnectionError at
        the end of the stream.
        """
        while True:
            event = self.protocol.next_event()
            if event is h11.NEED_DATA:
                if self.protocol.they_are_waiting_for_100_continue:
                    self.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
                return None
            if isinstance(event, h11.Request):
                self._head, self._body = event, bytearray()
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage) and self._head is not None:
                return self._request(self._head)
            else:
                raise ConnectionError("closed")

    def _request(self, head: h11.Request) -> Request:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.headers}
        return Request(head.method.decode("latin-1"), head.target.decode("latin-1"), headers, bytes(self._body))

    def send(self, *events: h11.Event) -> None:
        """Write protocol events."""
        data = [self.protocol.send(event) or b"" for event in events]
        self.socket.sendall(b"".join(data))

    def answer(self, response: Response) -> bool:
        """Write the response; whether the connection can take another request."""
        headers = [*response.headers, ("Date", formatdate(usegmt=True)), ("Content-Length", str(len(response.body)))]
        if response.close:
            headers.append(("Connection", "close"))
        bodiless = self._head is not None and self._head.method == b"HEAD"
        self.send(
            h11.Response(status_code=response.status, headers=headers, reason=response.reason.encode()),
            h11.Data(data=b"" if bodiless else response.body),
            h11.EndOfMessage(),
        )
        if self.protocol.our_state is h11.MUST_CLOSE or self.protocol.their_state is not h11.DONE:
            return False
        self.protocol.start_next_cycle()
        return True


class HttpServer:
    """Listens on one port until the process ends or `close` is called.

    `threads` counts the event loop, as `--rest_api_num_threads` does. Raises
    OSError when the port cannot be bound.
    """

    def __init__(
        self, handle: Callable[[Request], Response], *, port: int, threads: int, host: str | None = None
    ) -> None:
        self._handle = handle
        self._listener = _listen(host, port)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._workers = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="rest")
        self._returned: collections.deque[_Connection] = collections.deque()
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._closing = False
        self._loop = threading.Thread(target=self._run, name="rest_loop", daemon=True)
        self._loop.start()

    def close(self) -> None:
        """Stop listening and drop every connection; answers under way are not waited for."""
        self._closing = True
        self._wake()
        self._loop.join()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_in.send(b"x")

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_out, selectors.EVENT_READ, self._take_back)
        while not self._closing:
            for key, _ in self._selector.select():
                if isinstance(key.data, _Connection):
                    self._read(key.data)
                else:
                    key.data()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            client.setblocking(True)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(client, selectors.EVENT_READ, _Connection(client))

    def _take_back(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_out.recv(4096)
        while self._returned:
            connection = self._returned.popleft()
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
            self._advance(connection)  # requests that came in the same packet

    def _read(self, connection: _Connection) -> None:
        try:
            connection.receive()
        except OSError:
            self._drop(connection)
            return
        self._advance(connection)

    def _advance(self, connection: _Connection) -> None:
        try:
            request = connection.next_request()
        except h11.RemoteProtocolError:
            self._refuse(connection)
        except OSError:
            self._drop(connection)
        else:
            if request is not None:
                self._selector.unregister(connection.socket)
                self._workers.submit(self._serve, connection, request)

    def _refuse(self, connection: _Connection) -> None:
        with contextlib.suppress(OSError, h11.LocalProtocolError):
            connection.answer(html_error(400))
        self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()

    def _serve(self, connection: _Connection, request: Request) -> None:
        try:
            response = self._handle(request)
        except Exception:  # a mistake of ours must not leave the client waiting
            log.error("Error processing HTTP request:\n" + traceback.format_exc())
            response = html_error(500)
        try:
            goes_on = connection.answer(response)
        except (OSError, h11.LocalProtocolError):  # the client has gone
            goes_on = False
        if goes_on:
            self._returned.append(connection)
            self._wake()
        else:
            connection.socket.close()


def _listen(host: str | None, port: int) -> socket.socket:
    """All interfaces of both families unless a host is given, as the real server does."""
    if host is not None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    try:
        return socket.create_server(("::", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
    except (OSError, ValueError):
        return socket.create_server(("", port), backlog=_BACKLOG)


def start(api: Any, *, port: int, threads: int, host: str | None = None) -> HttpServer:
    """Serve a RestApi; OSError when the port is taken."""
    return HttpServer(api.handle, port=port, threads=threads, host=host)
