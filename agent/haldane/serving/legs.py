"""The two calls of a shadow pair, over libcurl: bytes out, Outcomes back.

Owns: addressing the body, timing, and what became of a call. Nothing is parsed
but the version that answered. A call is never repeated, by libcurl neither.

All else that is said to a server goes over gRPC's own library (`serving.calls`),
which costs three times as much a call; only shadow traffic comes often enough to
feel it. docs/design/0010-shadow-transport.md has what was measured.

Source: gRPC over HTTP/2 (PROTOCOL-HTTP2.md).
"""

import asyncio
import math
import time
from collections.abc import Callable
from struct import Struct

import pycurl
from google.protobuf.message import DecodeError

from haldane.domain.fleet import ModelName, Server
from haldane.domain.traffic import Api, Choice, Outcome, Request, Status
from haldane.serving import splice
from haldane.serving.answers import said, status_of
from haldane.serving.calls import METHODS, NOT_SENT
from haldane.serving.channel import Tls
from haldane.serving.endings import Code, ending
from haldane.serving.handles import Handles
from haldane.serving.transfers import Transfers

_OK = Status.OK  # a name for what is needed for every call: Python 3.11 looks a member up by a function call
_WELL = b"grpc-status: 0\r\n"
_PREFIX = Struct(">BI")  # of a message: not 0 when it is compressed, then its length
# Calls that time out, and nothing else, for so long: the connection is dead, and nobody has said so. gRPC's keepalive
# takes as long (`channel.OPTIONS`).
_SILENT_SECONDS = 30.0
_BODY_KEPT = 1 << 16  # a handle holds on to what it sent last, so one that sent more is not used again


class Leg:
    """One call at a time, by a handle that is used again for the next."""

    __slots__ = (
        *("_begun", "_code", "_free", "_head", "_kept", "_milliseconds", "_parts", "_transfers", "_words"),
        *("back", "curl", "sent", "then"),
    )

    def __init__(self, curl: pycurl.Curl, transfers: Transfers, free: "list[Leg]") -> None:
        """`free` is where it waits for its next call."""
        self.curl = curl
        self.then: Callable[[], None] | None = None
        self._transfers, self._free = transfers, free
        self._parts: list[bytes] = []
        self._head: list[bytes] = []
        self._milliseconds = 0
        curl.setopt(pycurl.WRITEFUNCTION, self._parts.append)
        curl.setopt(pycurl.HEADERFUNCTION, self._head.append)
        curl.setopt(pycurl.PREREQFUNCTION, self._goes_out)

    def send(self, body: bytes, milliseconds: int, handles: Handles) -> None:
        self.curl.setopt(pycurl.POSTFIELDS, body)
        if milliseconds != self._milliseconds:  # the same for nearly all: a pair has its deadline as it is sent
            self.curl.setopt(pycurl.HTTPHEADER, handles.headers(milliseconds))
            self.curl.setopt(pycurl.TIMEOUT_MS, milliseconds)
            self._milliseconds = milliseconds
        self._begun, self._kept = False, len(body) <= _BODY_KEPT
        self.sent = time.perf_counter()
        self._transfers.start(self)

    def drop(self) -> None:
        """Nobody waits for the answer any more."""
        self._transfers.stop(self)
        self.curl.close()

    def ended(self, now: float, code: int, words: str) -> None:
        self.back, self._code, self._words = now, code, words
        if self.then is not None:
            self.then()

    def outcome(self) -> Outcome:
        """What became of a call that has ended. Once: the leg is free for the next then."""
        found = self._outcome(self.back - self.sent)
        self._parts.clear()
        self._head.clear()
        self.then = None
        if self._kept:
            self._free.append(self)
        else:
            self.curl.close()
        return found

    def _outcome(self, seconds: float) -> Outcome:
        if self._code or _WELL not in self._head:
            code, words = ending(self._head, self._code, self._words)
            return Outcome(status_of(code, words), seconds, detail=said(code, words))
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if len(data) < _PREFIX.size or _PREFIX.unpack_from(data) != (0, len(data) - _PREFIX.size):
            return Outcome(Status.INTERNAL, seconds, detail=said(Code.INTERNAL, f"{len(data)} bytes, not one message"))
        answer = data[_PREFIX.size :]
        try:
            return Outcome(_OK, seconds, splice.answered_by(answer), answer)
        except DecodeError as error:
            return Outcome(Status.MALFORMED, seconds, None, answer, f"unreadable answer: {error}")

    def _goes_out(self, *_: object) -> int:
        """libcurl repeats a request whose connection was lost or whose stream was refused, and has no option not to."""
        if self._begun:
            return int(pycurl.PREREQFUNC_ABORT)
        self._begun = True
        return int(pycurl.PREREQFUNC_OK)


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


class Legs:
    """Sends calls to one server. Deadlines are absolute, in loop time.

    To be closed; a call that is under way then ends as if the server were gone.
    Refused when a TLS file cannot be read.
    """

    def __init__(self, server: Server, tls: Tls | None, *, silent_seconds: float = _SILENT_SECONDS) -> None:
        self._handles = Handles(server, tls)
        self._transfers = Transfers(by_name=self._handles.by_name, silent_seconds=silent_seconds)
        self._free: dict[Api, list[Leg]] = {api: [] for api in METHODS}

    def close(self) -> None:
        self._transfers.close()
        for free in self._free.values():
            while free:
                free.pop().curl.close()

    async def both(
        self, model: ModelName, request: Request, first: Choice, second: Choice, deadline: float
    ) -> tuple[Outcome, Outcome]:
        """Two calls sent together, `first` before `second`."""
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return NOT_SENT, NOT_SENT
        return await outcomes(self.send(model, request, first, left), self.send(model, request, second, left))

    def send(self, model: ModelName, request: Request, version: Choice, seconds: float) -> Leg:
        """A call that leaves with the loop's next turn and may take so long."""
        free = self._free[request.api]
        leg = free.pop() if free else Leg(self._handles.make(METHODS[request.api].path), self._transfers, free)
        choice = splice.model_spec(model, version)
        body = b"".join((_PREFIX.pack(0, len(request.body) + len(choice)), request.body, choice))
        leg.send(body, math.ceil(1000 * seconds), self._handles)
        return leg


async def outcomes(one: Leg, two: Leg) -> tuple[Outcome, Outcome]:
    """Of two calls just sent; both are dropped with the task that waits for them."""
    both = _Two()
    one.then = two.then = both.one_less
    try:
        await both.future
    except asyncio.CancelledError:
        one.drop()
        two.drop()
        raise
    return one.outcome(), two.outcome()
