"""The agent's web server: routes put together.

Runs in the comfort ring: a failing page never stops the agent. It owns no
state of its own.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from haldane.domain.people import Person
from haldane.web.api import Agent, Api
from haldane.web.gates import Gates
from haldane.web.holds import HoldRoutes
from haldane.web.pages import Pages
from haldane.web.people import Certified, Keys

# Pages carry their own style and no script; nothing may be loaded or framed.
_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class _SafeHeaders:
    """Adds the fixed response headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def make_app(
    agent: Agent,
    *,
    registry: CollectorRegistry,
    token: str,
    people: Sequence[tuple[str, Person]] = (),
    certified: Certified | None = None,
    refused: Callable[[str, str, str], None] = lambda address, path, reason: None,
) -> Starlette:
    """The whole gallery over one agent, as an ASGI app. `token` is the agent's own, `people` have theirs.

    `refused`: see `Keys`.
    """

    async def healthy(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(request: Request) -> Response:
        reasons: Sequence[str] = agent.unready()
        if reasons:
            return PlainTextResponse("".join(f"{why}\n" for why in reasons), HTTPStatus.SERVICE_UNAVAILABLE)
        return PlainTextResponse("ready\n")

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    keys = Keys(token, people, certified=certified, refused=refused)
    routes = [
        Route("/-/healthy", healthy),
        Route("/-/ready", ready),
        Route("/metrics", metrics),
        *Api(agent, keys).routes(),
        *HoldRoutes(agent, keys).routes(),
        *Gates(agent).routes(),
        *Pages(agent).routes(),
    ]
    return Starlette(routes=routes, middleware=[Middleware(_SafeHeaders)])
