"""Versions that must not be deleted, over HTTP: read by whoever cleans up, set by people with the right to."""

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from haldane.domain.people import Person, Right
from haldane.domain.release import Hold
from haldane.web.api import Agent, allowed
from haldane.web.jsonform import JsonAnswer, as_json
from haldane.web.people import Keys
from haldane.web.problem import Problem
from haldane.web.requests import guarded, read_body

MOST_UNTIL = 32_503_680_000  # the year 3000: a time that no page could draw would take all pages away
_FIELDS = {"model": str, "version": int, "by": str, "why": str}


class HoldRoutes:
    """The /v1/holds routes over one agent."""

    def __init__(self, agent: Agent, keys: Keys) -> None:
        self._agent, self._keys = agent, keys

    def routes(self) -> list[Route]:
        return [
            Route("/v1/holds", guarded(self.holds), methods=["GET"]),
            Route("/v1/holds", guarded(self.hold), methods=["POST"]),
            Route("/v1/holds/end", guarded(self.end), methods=["POST"]),
        ]

    async def holds(self, request: Request) -> Response:
        return JsonAnswer({"holds": [self._told(one) for one in await self._agent.holds()]})

    async def hold(self, request: Request) -> Response:
        person, body = await self._asked(request, {**_FIELDS, "until": int})
        until = body.get("until")
        if until is not None and until >= MOST_UNTIL:
            why = "until: must be seconds since 1970, not milliseconds, and before the year 3000"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, why)
        made = await self._agent.hold(
            body["model"],
            body["version"],
            by=person.name,
            why=body["why"],
            until=None if until is None else float(until),
        )
        return JsonAnswer({"hold": self._told(made)})

    async def end(self, request: Request) -> Response:
        person, body = await self._asked(request, _FIELDS)
        await self._agent.end_hold(body["model"], body["version"], by=person.name, why=body["why"])
        return JsonAnswer({"model": body["model"], "version": body["version"]})

    def _told(self, one: Hold) -> dict[str, Any]:
        return {**as_json(one), "name": self._agent.full(one.model)}

    async def _asked(self, request: Request, fields: dict[str, type]) -> tuple[Person, dict[str, Any]]:
        self._keys.who(request)  # before a byte of the body is read
        body = await read_body(request, fields, optional=("until",))
        body["model"] = self._agent.local(body["model"])
        person = self._keys.who(request, body["by"])
        return await allowed(self._agent, person, Right.HOLD, body["model"]), body
