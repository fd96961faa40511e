"""A gRPC server that answers as a test says, for faults no sandbox makes on request.

Only for those: what a server normally does is tested against the sandbox.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from haldane import wire
from haldane.domain.fleet import Server, ServerName

Answer = Callable[[Any], Awaitable[Any]]  # request message -> response message; raise Fault to fail
_METHODS = {
    method.path: method
    for method in (
        wire.PREDICT,
        wire.CLASSIFY,
        wire.REGRESS,
        wire.GET_MODEL_METADATA,
        wire.GET_MODEL_STATUS,
        wire.RELOAD_CONFIG,
    )
}


class Fault(Exception):
    """The call fails with this code and message."""

    def __init__(self, code: grpc.StatusCode, words: str = "") -> None:
        super().__init__(words)
        self.code, self.words = code, words


class FakeServing(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Versions 1 and 2 of every model, `answers` overriding single methods by path.

    `calls` counts what arrived per path, `requests` keeps it, `busiest` is the
    largest number of calls that were here at once.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.calls: Counter[str] = Counter()
        self.requests: list[Any] = []
        self.busiest = 0
        self._here = 0

    def fail(self, method: wire.Method, code: grpc.StatusCode, words: str = "") -> None:
        """Every call of that method fails so from now on."""

        async def answer(_: Any) -> Any:
            raise Fault(code, words)

        self.answers[method.path] = answer

    def hang(self, method: wire.Method) -> None:
        """Calls of that method get no answer."""

        async def answer(_: Any) -> Any:
            await asyncio.Event().wait()

        self.answers[method.path] = answer

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        method = _METHODS.get(details.method)
        if method is None:
            return None

        async def handle(body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            return await self._handle(method, body, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    async def _handle(self, method: wire.Method, body: bytes, context: Any) -> bytes:
        request = method.request.FromString(body)
        self.calls[method.path] += 1
        self.requests.append(request)
        self._here += 1
        self.busiest = max(self.busiest, self._here)
        try:
            reply = await self.answers.get(method.path, _plainly(method))(request)
        except Fault as fault:
            await context.abort(fault.code, fault.words)
        finally:
            self._here -= 1
        return reply if isinstance(reply, bytes) else bytes(reply.SerializeToString())


def _plainly(method: wire.Method) -> Answer:
    """What a server with versions 1 and 2 of every model would say."""

    async def answer(request: Any) -> Any:
        await asyncio.sleep(0)
        reply = method.response()
        if method is wire.GET_MODEL_STATUS:
            for version in (2, 1):
                reply.model_version_status.add(version=version, state=30)
        elif method is not wire.RELOAD_CONFIG:
            spec = request.model_spec
            reply.model_spec.version.value = spec.version.value if spec.HasField("version") else 2
        return reply

    return answer


@asynccontextmanager
async def serving(
    fake: FakeServing, *, name: str = "r0", credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[Server]:
    """The fake on a loopback port, plain or with TLS, for as long as the block lasts."""
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((fake,))
    port = (
        server.add_secure_port("127.0.0.1:0", credentials) if credentials else server.add_insecure_port("127.0.0.1:0")
    )
    await server.start()
    try:
        yield Server(ServerName(name), f"127.0.0.1:{port}")
    finally:
        await server.stop(None)
