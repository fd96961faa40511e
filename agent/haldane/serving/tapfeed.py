"""How the agent gets requests of the tap: three calls on a Unix socket that only this user may open.

Take streams a model's calls, each as its id and a PredictionLog, while somebody
reads, as fast as they are read; Newest gives the last one; Counts tells what was counted. `Feed` is
the tap's side, `Tapped` the agent's: a TrafficSource that never ends.
"""

import asyncio
import json
import os
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog

from haldane.domain.fleet import ModelName
from haldane.domain.traffic import Request
from haldane.ports import Flaw, Malformed, Refused, Unavailable, Unusable
from haldane.serving.channel import OPTIONS
from haldane.serving.intake import Fate, Intake, Mirrored, Use
from haldane.serving.mirrored import NotUsable, request_of
from haldane.serving.records import log_of
from haldane.tensors import Signature

log = structlog.get_logger()

Signatures = Callable[[ModelName], Awaitable[Mapping[str, Signature] | None]]  # None: no server can say now
Read = Callable[[bytes, str], Request | Malformed]  # (a serialized PredictionLog, where it stands) -> what it is

_TAKE, _NEWEST, _COUNTS = "/haldane.Tap/Take", "/haldane.Tap/Newest", "/haldane.Tap/Counts"
_AT_ONCE = 16
_RETRY_SECONDS, _ANSWER_SECONDS = 1.0, 5.0
_LOOK_AGAIN_SECONDS = 0.2  # for a newer call than the last
_ONE_TAP = ("grpc.so_reuseport", 0)


class Reading:
    """From calls as they came to request messages, in a worker thread, with the signatures that REST bodies need."""

    def __init__(self, signatures: Signatures, largest: int) -> None:
        self._signatures, self._largest = signatures, largest

    async def read(self, calls: Sequence[Mirrored]) -> list[Any | Fate]:
        """A request message for each call, or why there is none. The calls are of one model."""
        known: Mapping[str, Signature] | None = {}
        if any(call.rest for call in calls):
            known = await self._signatures(calls[0].model)
        return await asyncio.to_thread(lambda: [self._one(call, known) for call in calls])

    def _one(self, call: Mirrored, known: Mapping[str, Signature] | None) -> Any | Fate:
        if call.rest and known is None:
            return Fate.NO_SIGNATURE
        try:
            return request_of(call, known or {}, largest=self._largest)
        except NotUsable as error:
            log.debug("mirrored_call_unreadable", model=call.model, detail=str(error))
        except Exception:  # whatever somebody sends must not end the tap
            log.exception("mirrored_call_broke_reader", model=call.model)
        return Fate.UNREADABLE


class Feed(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """The tap's side."""

    def __init__(self, intake: Intake, reading: Reading) -> None:
        self._intake, self._reading = intake, reading

    def service(self, details: Any) -> Any:
        if details.method == _TAKE:
            return grpc.unary_stream_rpc_method_handler(self._take)
        unary = {_NEWEST: self._newest, _COUNTS: self._counts}.get(details.method)
        return grpc.unary_unary_rpc_method_handler(unary) if unary else None

    async def _take(self, asked: bytes, context: Any) -> None:
        model = await self._model(asked, context)
        reader, taken = self._intake.start_reading(model), 0
        settle = self._intake.tally.settle
        try:
            while True:
                calls = await reader.take(_AT_ONCE)
                taken = len(calls)
                for call, request in zip(calls, await self._reading.read(calls), strict=True):
                    if not isinstance(request, Fate):
                        await context.write(_packed(call, request))
                    settle(model, Use.SHADOW, request if isinstance(request, Fate) else Fate.GIVEN)
                    taken -= 1
        finally:
            settle(model, Use.SHADOW, Fate.LEFT, taken)
            self._intake.stop_reading(model, reader)

    async def _newest(self, asked: bytes, context: Any) -> bytes:
        """Waits for a usable one, as long as the caller does."""
        model = await self._model(asked, context)
        while True:
            call = await self._intake.newest(model)
            (request,) = await self._reading.read([call])
            if not isinstance(request, Fate):
                return _packed(call, request)
            self._intake.forget(call)

    async def _counts(self, _: bytes, context: Any) -> bytes:
        return json.dumps(self._intake.tally.as_json()).encode()

    async def _model(self, asked: bytes, context: Any) -> ModelName:
        model = ModelName(asked.decode(errors="replace"))
        if not self._intake.handed_on(model):
            says = f"this tap hands on no calls of {model}; does it run with the same config?"
            await context.abort(grpc.StatusCode.NOT_FOUND, says)
        return model


def _packed(call: Mirrored, request: Any) -> bytes:
    """Two bytes of length, the id, the log."""
    name = call.id.encode()
    return len(name).to_bytes(2, "big") + name + log_of(call.api, request)


def _unpacked(packed: bytes) -> tuple[str, bytes]:
    """The id, "" where the call had none, and the log."""
    end = 2 + int.from_bytes(packed[:2], "big")
    return packed[2:end].decode(), packed[end:]


def open_feed(feed: Feed, path: Path) -> grpc.aio.Server:
    """The listener on that Unix socket, not started yet. Refused when it cannot be had."""
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1), _ONE_TAP])
    server.add_generic_rpc_handlers((feed,))
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise Refused(
            "state_dir", f"cannot listen on {path}; set `state_dir:` to a folder this user may write"
        ) from error
    finally:
        os.umask(before)
    return server


class Tapped:
    """The agent's side: the mirrored calls of one model. While the tap is away it is waited for."""

    finite = False

    def __init__(
        self, socket: Path, model: ModelName, read: Read, *, on_flaw: Callable[[Flaw], None] = lambda _: None
    ) -> None:
        self.name = "tap"
        self.flaws: Counter[Flaw] = Counter()
        self._socket, self._model, self._read, self._on_flaw = socket, model, read, on_flaw

    async def requests(self) -> AsyncGenerator[Request, None]:
        """Refused when the tap has another config; a tap that goes away is waited for."""
        away = False
        while True:
            try:
                async for value, where in self._stream():
                    away = False
                    if (request := self._usable(value, where)) is not None:
                        yield request
            except Unavailable as error:
                if not away:
                    log.warning("tap_away", model=self._model, detail=error.detail)
                away = True
            await asyncio.sleep(_RETRY_SECONDS)

    async def recent(self) -> AsyncGenerator[Request, None]:
        """The last call mirrored, then those that come within some seconds; Unavailable when there are no more."""
        until = asyncio.get_running_loop().time() + _ANSWER_SECONDS
        last = b""
        while (left := until - asyncio.get_running_loop().time()) > 0:
            value = await self._newest(left)
            if value == last:
                await asyncio.sleep(min(left, _LOOK_AGAIN_SECONDS))
                continue
            last, (name, log_bytes) = value, _unpacked(value)
            found = self._read(log_bytes, name or "tap@newest")
            if isinstance(found, Request):
                yield found
        raise Unavailable(self.name, f"no more usable calls were mirrored within {_ANSWER_SECONDS:g} s")

    async def _newest(self, wait_seconds: float) -> bytes:
        async with _channel(self._socket) as channel:
            try:
                value: bytes = await channel.unary_unary(_NEWEST, None, None)(
                    self._model.encode(), timeout=wait_seconds
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    says = f"no usable call was mirrored within {_ANSWER_SECONDS:g} s; is the mirror switched on?"
                    raise Unavailable(self.name, says) from error
                raise _failed(self._socket, error) from error
        return value

    async def _stream(self) -> AsyncIterator[tuple[bytes, str]]:
        name, number = secrets.token_hex(4), 0  # ids are never given twice, whoever was restarted
        async with _channel(self._socket) as channel:
            try:
                async for value in channel.unary_stream(_TAKE, None, None)(self._model.encode()):
                    number += 1
                    own, log_bytes = _unpacked(value)
                    yield log_bytes, own or f"tap@{name}-{number}"
            except grpc.aio.AioRpcError as error:
                raise _failed(self._socket, error) from error

    def _usable(self, value: bytes, where: str) -> Request | None:
        found = self._read(value, where)
        if isinstance(found, Request):
            return found
        flaw = found.flaw if isinstance(found, Unusable) else Flaw.FORMAT
        self.flaws[flaw] += 1
        self._on_flaw(flaw)
        return None


async def counts(socket: Path) -> dict[str, dict[str, int]]:
    """What the tap has counted, see `Tally.as_json`. Unavailable when it does not answer."""
    async with _channel(socket) as channel:
        try:
            told: dict[str, dict[str, int]] = json.loads(
                await channel.unary_unary(_COUNTS, None, None)(b"", timeout=_ANSWER_SECONDS)
            )
        except grpc.aio.AioRpcError as error:
            raise _failed(socket, error) from error
    return told


def _channel(socket: Path) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"unix:{socket}", options=OPTIONS)


def _failed(socket: Path, error: grpc.aio.AioRpcError) -> Unavailable | Refused:
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return Refused("tap", error.details() or "")
    return Unavailable("tap", f"nothing answers on {socket}; is `haldane tap` running? ({error.details()})")
