"""What Python can do on the wire without gRPC's library: HTTP/2 for unary calls, over asyncio's transports.

Only to measure where the wall is. It lacks what a client needs that is let near a
server: TLS, deadlines, keepalive, reconnecting, flow control of what it sends (it
relies on a server that takes everything at once), the maximum of streams, and
status words; a call that fails in any way ends the process.

Both sides' header tables are turned off (SETTINGS_HEADER_TABLE_SIZE 0), so headers
are the same bytes for every call: sent from a constant, and compared, not decoded.

Source: RFC 9113 (frames, settings), RFC 7541 §6.2.2 (literals without indexing), gRPC over HTTP/2 (PROTOCOL-HTTP2.md).
"""

import asyncio
from struct import Struct

from wirespeed.responder import framed

_FRAME = Struct(">BHBBI")  # length in 1 + 2 bytes, type, flags, stream
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW = 0, 1, 4, 6, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_WELL = bytes.fromhex("00 88 9acac8b21234da8f 01 30")  # trailers: "grpc-status" in Huffman's code, "0"
_ENOUGH = (3, bytes(4))  # RST_STREAM, NO_ERROR: it has answered without reading the request to its end
_LARGEST_WINDOW = (1 << 31) - 1
_REFILL = 1 << 24  # bytes taken in before the server is told that there is room again


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def headers(authority: str, path: str) -> bytes:
    """The block of a unary call: literals without indexing, no Huffman coding."""

    def text(value: bytes) -> bytes:
        assert len(value) < 127
        return bytes((len(value),)) + value

    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": authority, "te": "trailers"}
    fields["content-type"] = "application/grpc"
    return b"".join(b"\0" + text(name.encode()) + text(value.encode()) for name, value in fields.items())


class LeanClient(asyncio.Protocol):
    """One connection. `call` may be called as often at once as the server lets streams be open."""

    def __init__(self, authority: str, path: str) -> None:
        self._block = headers(authority, path)
        self._loop = asyncio.get_running_loop()
        self._next = 1
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._parts: dict[int, bytes] = {}
        self._out: list[bytes] = []
        self._rest = b""
        self._taken = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = b"\0\1" + bytes(4) + b"\0\4" + _LARGEST_WINDOW.to_bytes(4, "big")  # no table, the largest windows
        room = (_LARGEST_WINDOW - 65535).to_bytes(4, "big")
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        transport.write(preface + frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW, 0, 0, room))

    def call(self, body: bytes) -> "asyncio.Future[bytes]":
        """The answer's bytes. What is sent within one turn of the loop leaves in one write."""
        stream, self._next = self._next, self._next + 2
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += (
            frame(_HEADERS, _END_HEADERS, stream, self._block),
            frame(_DATA, _END_STREAM, stream, framed(body)),
        )
        future = self._waiting[stream] = self._loop.create_future()
        return future

    def close(self) -> None:
        self._transport.close()

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        data, at = self._rest + data, 0
        while len(data) - at >= 9:
            high, low, kind, flags, stream = _FRAME.unpack_from(data, at)
            end = at + 9 + (high << 16) + low
            if end > len(data):
                break
            self._take(kind, flags, stream, data[at + 9 : end])
            at = end
        self._rest = data[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._parts[stream] = self._parts[stream] + payload if stream in self._parts else payload
            self._taken += len(payload)
            if self._taken >= _REFILL:
                self._transport.write(frame(_WINDOW, 0, 0, self._taken.to_bytes(4, "big")))
                self._taken = 0
        elif kind == _HEADERS and flags & _END_STREAM:
            if payload != _WELL or stream not in self._parts:
                raise SystemExit(f"a call failed: {payload!r}")
            self._waiting.pop(stream).set_result(self._parts.pop(stream)[5:])
        elif kind == _SETTINGS and not flags & _ACK:
            self._transport.write(frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._transport.write(frame(_PING, _ACK, 0, payload))
        elif kind not in (_HEADERS, _SETTINGS, _PING, _WINDOW) and (kind, payload) != _ENOUGH:
            raise SystemExit(f"frame of type {kind}: {payload!r}")


async def connect(port: int, path: str) -> LeanClient:
    """To the responder at that port."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: LeanClient(f"127.0.0.1:{port}", path), "127.0.0.1", port)
    return client
