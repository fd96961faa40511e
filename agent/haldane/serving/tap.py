"""Where mirrors send to: PredictionService over gRPC, and Serving's REST paths. Every call is answered at once.

The answers are empty: a mirror throws them away. Bytes are handed to the Intake
as they came; nothing here parses a body, and nothing waits for one to be used.
"""

import re
from typing import Any

import grpc
import grpc.aio
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from starlette.types import Receive, Scope, Send

from haldane import wire
from haldane.domain.traffic import Api
from haldane.ports import Refused
from haldane.serving.intake import Intake, Received

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # what a read gives at the end; the stubs lack it
_SERVING = "/tensorflow.serving."
_METHODS = {wire.PREDICT.path: Api.PREDICT, wire.CLASSIFY.path: Api.CLASSIFY, wire.REGRESS.path: Api.REGRESS}
# Source: model_servers/http_rest_api_handler.cc (kPathRegex)
_PATH = re.compile(r"/v1/models/([^/:]+)(?:/(?:versions|labels)/[^/:]+)?:(predict|classify|regress)", re.IGNORECASE)
_VERBS = {"predict": Api.PREDICT, "classify": Api.CLASSIFY, "regress": Api.REGRESS}
_MOST_STREAMS = 100  # of one connection
_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class _Mirror(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Any method of Serving's is answered with an empty message.

    Served as a stream of requests, which is the same on the wire, because then a message that gRPC itself refuses
    as too large comes to us as a call without one, and can be counted.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._handlers = {path: self._handler(api) for path, api in _METHODS.items()}
        self._other = self._handler(None)

    def service(self, details: Any) -> Any:
        found = self._handlers.get(details.method)
        return found or (self._other if details.method.startswith(_SERVING) else None)

    def _handler(self, api: Api | None) -> Any:
        async def answer(_: Any, context: Any) -> bytes:
            body = await context.read()
            if body is EOF:
                if not context.cancelled():
                    self._intake.refuse(Received.TOO_LARGE)
            elif api is None:
                self._intake.refuse(Received.OTHER_METHOD)
            else:
                self._intake.grpc(api, body, context.invocation_metadata() or ())
            return b""

        return grpc.stream_unary_rpc_method_handler(answer)


def grpc_mirror(intake: Intake, address: str, *, largest: int, held_bytes: int) -> grpc.aio.Server:
    """The gRPC listener, not started yet. Refused when the address cannot be had.

    The messages being received on one connection hold at most `held_bytes`; what comes faster waits in its sender.
    """
    options = [
        ("grpc.max_receive_message_length", largest),
        ("grpc.max_concurrent_streams", max(1, min(_MOST_STREAMS, held_bytes // largest))),
        # Two taps on one port would share its calls without a word.
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((_Mirror(intake),))
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise Refused("tap.grpc", f"cannot listen on {address}; set `tap.grpc:` to a free one") from error
    return server


class RestMirror:
    """The REST listener as an ASGI app, with the tap's own /metrics and /-/healthy.

    Bodies being received hold at most `held_bytes` together; a body beyond it is
    read to its end and dropped, so that the mirror's connection stays usable.
    """

    def __init__(self, intake: Intake, registry: CollectorRegistry, *, largest: int, held_bytes: int) -> None:
        self._intake, self._registry = intake, registry
        self._largest, self._most, self._held = largest, held_bytes, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "GET" and scope["path"] == "/metrics":
            await _answer(send, 200, generate_latest(self._registry), _METRICS_TYPE)
        elif scope["method"] == "GET" and scope["path"] == "/-/healthy":
            await _answer(send, 200, b"ok\n")
        else:
            await self._take(scope, receive)
            await _answer(send, 204, b"")

    async def _take(self, scope: Scope, receive: Receive) -> None:
        asked = _PATH.fullmatch(scope["path"]) if scope["method"] == "POST" else None
        body = await self._body(receive, wanted=asked is not None)
        if asked is None:
            self._intake.refuse(Received.OTHER_METHOD)
        elif isinstance(body, Received):
            self._intake.refuse(body)
        else:
            self._intake.rest(asked[1], _VERBS[asked[2].lower()], body, scope["headers"])

    async def _body(self, receive: Receive, *, wanted: bool) -> bytes | Received:
        """The body, or why it is not taken; read to its end either way."""
        parts: list[bytes] = []
        size, refused, more = 0, None if wanted else Received.OTHER_METHOD, True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return Received.UNREADABLE
                part, more = message.get("body", b""), message.get("more_body", False)
                if refused is None and size + len(part) > self._largest:
                    refused = Received.TOO_LARGE
                elif refused is None and self._held + len(part) > self._most:
                    refused = Received.FULL
                if refused is None:
                    parts.append(part)
                    size += len(part)
                    self._held += len(part)
                elif parts:
                    self._held, size, parts = self._held - size, 0, []
            return refused or b"".join(parts)
        finally:
            self._held -= size


async def _answer(send: Send, status: int, body: bytes, kind: bytes = b"text/plain") -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))] if status != 204 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
