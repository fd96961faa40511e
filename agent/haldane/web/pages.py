"""The pages for people: a list of rollouts with the fleet, and the report of one rollout."""

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from haldane.domain.rollout import RolloutId
from haldane.web import report

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
        return HTMLResponse(report.index_page(status, await self._agent.rollouts(50)))

    async def one(self, request: Request) -> Response:
        try:
            story = await self._agent.story(RolloutId(request.path_params["rollout"]))
        except LookupError as unknown:
            return HTMLResponse(report.missing_page(str(unknown)), HTTPStatus.NOT_FOUND)
        return HTMLResponse(report.page(story))
