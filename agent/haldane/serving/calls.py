"""Prediction calls on one gRPC channel: bytes out, Outcomes back.

Owns: addressing the body, timing, and what became of a call. Nothing is parsed
but the version that answered. A call is never repeated. Shadow pairs, which
are many, go another way: `serving.legs`.
"""

import asyncio
import time

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from haldane import wire
from haldane.domain.fleet import ModelName
from haldane.domain.traffic import Api, Choice, Outcome, Request, Status
from haldane.serving import splice
from haldane.serving.answers import said, status_of, words_of

METHODS = {Api.PREDICT: wire.PREDICT, Api.CLASSIFY: wire.CLASSIFY, Api.REGRESS: wire.REGRESS}
NOT_SENT = Outcome(Status.TIMEOUT, 0.0, detail="not sent: no time left")


class Calls:
    """Sends predictions over one channel. Deadlines are absolute, in loop time."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        # No serializers: bytes in, bytes out.
        self._methods = {api: channel.unary_unary(method.path, None, None) for api, method in METHODS.items()}

    async def one(self, model: ModelName, request: Request, version: Choice | None, deadline: float) -> Outcome:
        """One call, addressed by number, label (str) or neither. Never raises for what the server says, or for a
        server that is gone."""
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return NOT_SENT
        body, sent = splice.addressed(request.body, model, version), time.perf_counter()
        try:
            answer: bytes | None = await self._methods[request.api](body, timeout=left)
            seconds = time.perf_counter() - sent
            if answer is None:  # an OK without a whole message
                return Outcome(Status.INTERNAL, seconds, detail=said(grpc.StatusCode.INTERNAL, "no whole message"))
            return Outcome(Status.OK, seconds, splice.answered_by(answer), answer)
        except grpc.aio.AioRpcError as error:
            status = status_of(error.code(), error.details() or "")
            return Outcome(status, time.perf_counter() - sent, detail=words_of(error))
        except DecodeError as error:
            return Outcome(Status.MALFORMED, seconds, None, answer, f"unreadable answer: {error}")
