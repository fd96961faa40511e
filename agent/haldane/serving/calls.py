"""Prediction calls on one channel: bytes out, Outcomes back.

Owns: addressing the body, timing, and what became of a call. Nothing is parsed
but the version that answered. A call is never repeated.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from haldane import wire
from haldane.domain.fleet import ModelName
from haldane.domain.traffic import Api, Choice, Outcome, Request, Status
from haldane.serving import splice
from haldane.serving.answers import status_of, words_of

_METHODS = {Api.PREDICT: wire.PREDICT, Api.CLASSIFY: wire.CLASSIFY, Api.REGRESS: wire.REGRESS}
_OK = Status.OK  # a name for what is needed for every call: Python 3.11 looks a member up by a function call
_NOT_SENT = Outcome(Status.TIMEOUT, 0.0, detail="not sent: no time left")


class Sent:
    """A call under way: when it went out, when it came back, and what waits for that."""

    __slots__ = ("back", "call", "sent", "then")

    def __init__(self, call: Any) -> None:
        self.call, self.sent, self.back = call, time.perf_counter(), 0.0
        self.then: Callable[[], None] | None = None
        call.add_done_callback(self._arrived)

    @property
    def seconds(self) -> float:
        return self.back - self.sent

    def _arrived(self, _: object) -> None:
        self.back = time.perf_counter()
        if self.then is not None:
            self.then()


class _Two:
    """Waited for until two calls are back: its task is woken once, and not for each of them."""

    __slots__ = ("future", "missing")

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.missing = 2

    def one_less(self) -> None:
        self.missing -= 1
        if self.missing == 0 and not self.future.done():
            self.future.set_result(None)


class Calls:
    """Sends predictions over one channel. Deadlines are absolute, in loop time."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        # No serializers: bytes in, bytes out.
        self._methods = {api: channel.unary_unary(method.path, None, None) for api, method in _METHODS.items()}

    async def one(self, model: ModelName, request: Request, version: int | str | None, deadline: float) -> Outcome:
        """One call, addressed by number, label (str) or neither."""
        left = deadline - asyncio.get_running_loop().time()
        return await outcome(self.send(model, request, version, left)) if left > 0 else _NOT_SENT

    async def both(
        self, model: ModelName, request: Request, first: Choice, second: Choice, deadline: float
    ) -> tuple[Outcome, Outcome]:
        """Two calls sent together, `first` before `second`."""
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return _NOT_SENT, _NOT_SENT
        return await outcomes(self.send(model, request, first, left), self.send(model, request, second, left))

    def send(self, model: ModelName, request: Request, version: Choice | None, seconds: float) -> Sent:
        """A call that starts with the loop's next turn and may take so long."""
        return Sent(self._methods[request.api](splice.addressed(request.body, model, version), timeout=seconds))


async def outcomes(one: Sent, two: Sent) -> tuple[Outcome, Outcome]:
    """Of two calls just sent; both are cancelled with the task that waits for them."""
    both = _Two()
    one.then = two.then = both.one_less
    try:
        await both.future
    except asyncio.CancelledError:
        one.call.cancel()
        two.call.cancel()
        raise
    return await outcome(one), await outcome(two)


async def outcome(sent: Sent) -> Outcome:
    """What became of a call. Never raises for what the server says, or for a server that is gone."""
    try:
        answer: bytes = await sent.call
        return Outcome(_OK, sent.seconds, splice.answered_by(answer), answer)
    except grpc.aio.AioRpcError as error:
        status = status_of(error.code(), error.details() or "")
        return Outcome(status, sent.seconds, detail=words_of(error))
    except DecodeError as error:
        return Outcome(Status.MALFORMED, sent.seconds, None, answer, f"unreadable answer: {error}")
