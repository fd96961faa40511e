"""The pages for people: a list of rollouts with the fleet, and the report of one rollout.

A page takes some 20 ms to draw and the templates 50 ms to load once, so both
happen in a worker thread, and not before somebody looks.
"""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from haldane.domain.rollout import Rollout, RolloutId
from haldane.web.story import AgentStatus, Story

if TYPE_CHECKING:
    from haldane.web.api import Agent


class Pages:
    """The HTML routes over one agent."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent

    def routes(self) -> list[Route]:
        return [Route("/", self.index), Route("/rollouts/{rollout}", self.one)]

    async def index(self, request: Request) -> Response:
        status = self._agent.status()
        return HTMLResponse(await asyncio.to_thread(_index, status, await self._agent.rollouts(50)))

    async def one(self, request: Request) -> Response:
        try:
            story = await self._agent.story(RolloutId(request.path_params["rollout"]))
        except LookupError as unknown:
            return HTMLResponse(await asyncio.to_thread(_missing, str(unknown)), HTTPStatus.NOT_FOUND)
        return HTMLResponse(await asyncio.to_thread(_page, story))


def _index(status: AgentStatus, rollouts: Sequence[Rollout]) -> bytes:
    from haldane.web import report

    return _page_of(report.index_page(status, rollouts))


def _missing(what: str) -> bytes:
    from haldane.web import report

    return _page_of(report.missing_page(what))


def _page(story: Story) -> bytes:
    from haldane.web import report

    return _page_of(report.page(story))


def _page_of(text: str) -> bytes:
    """Its bytes, whatever texts it shows: see `JsonAnswer`."""
    return text.encode(errors="replace")
