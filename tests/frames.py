"""An HTTP/2 server for answers that no gRPC server gives: what it says is frames, given by the test.

It reads only what it must: which streams have been asked on, and when their request is whole.

Source: RFC 9113 (frames), RFC 7541 §6.2.2 (headers as literals, without a table).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from struct import Struct

from haldane.domain.fleet import Server, ServerName

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_FRAME = Struct(">BHBBI")  # length in 1 + 2 bytes, type, flags, stream
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LARGEST_WINDOW = (1 << 31) - 1

# What to send once a request is whole: (stream, how many were whole before) -> frames; None hangs up.
Script = Callable[[int, int], bytes | None]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _FRAME.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def headers(stream: int, fields: dict[str, str], *, last: bool = False) -> bytes:
    def text(value: str) -> bytes:
        return bytes((len(value),)) + value.encode()

    block = b"".join(b"\0" + text(name) + text(value) for name, value in fields.items())
    return frame(HEADERS, END_HEADERS | (END_STREAM if last else 0), stream, block)


def begun(stream: int) -> bytes:
    """The headers of an answer that goes on."""
    return headers(stream, {":status": "200", "content-type": "application/grpc"})


def message(stream: int, data: bytes, *, compressed: bool = False, claimed: int | None = None) -> bytes:
    size = len(data) if claimed is None else claimed
    return frame(DATA, 0, stream, bytes((compressed,)) + size.to_bytes(4, "big") + data)


def well(stream: int, data: bytes = b"") -> bytes:
    """A whole answer."""
    return begun(stream) + message(stream, data) + headers(stream, {"grpc-status": "0"}, last=True)


def reset(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: int = 0) -> bytes:
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


class Frames:
    """`asked` counts whole requests, `connections` how often somebody connected, `busiest` the most streams at once;
    `agreed` is what TLS agreed to speak."""

    def __init__(self, script: Script, most_streams: int | None = None) -> None:
        self.asked = self.connections = self.busiest = 0
        self.agreed: set[str | None] = set()
        self._here = 0
        self._script, self._most_streams = script, most_streams
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def hang_up(self) -> None:
        tasks = list(self._open)
        for writer in self._open.values():
            writer.close()
        await asyncio.gather(*tasks)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        if tls := writer.get_extra_info("ssl_object"):
            self.agreed.add(tls.selected_alpn_protocol())
        self._open[task] = writer
        try:
            await self._talk(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            del self._open[task]
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(_PREFACE))
        most = b"" if self._most_streams is None else b"\0\3" + self._most_streams.to_bytes(4, "big")
        writer.write(frame(SETTINGS, 0, 0, most))
        writer.write(frame(WINDOW_UPDATE, 0, 0, (LARGEST_WINDOW - 65535).to_bytes(4, "big")))
        while True:
            high, low, kind, flags, stream = _FRAME.unpack(await reader.readexactly(9))
            payload = await reader.readexactly((high << 16) + low)
            if kind == SETTINGS and not flags & ACK:
                writer.write(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                writer.write(frame(PING, ACK, 0, payload))
            elif kind in (DATA, HEADERS) and flags & END_STREAM:
                said = self._script(stream, self.asked)
                self.asked += 1
                if said is None:
                    return
                if self._most_streams is None:
                    writer.write(said)
                else:  # later, so that as many are open as are sent
                    self._here += 1
                    self.busiest = max(self.busiest, self._here)
                    asyncio.get_running_loop().call_later(0.01, self._say, writer, said)

    def _say(self, writer: asyncio.StreamWriter, said: bytes) -> None:
        self._here -= 1
        writer.write(said)


@asynccontextmanager
async def answering(
    script: Script, *, most_streams: int | None = None, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Server, Frames]]:
    """On a loopback port, for as long as the block lasts. `most_streams`: so many it says may be open at once."""
    frames = Frames(script, most_streams)
    server = await asyncio.start_server(frames.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Server(ServerName("frames"), f"127.0.0.1:{port}"), frames
    finally:
        server.close()
        await frames.hang_up()
