"""Answers for delivery tools beside us: Argo Rollouts' web metric, Flagger's webhooks. Reading only, so open.

Argo Rollouts asks for JSON and compares; Flagger posts a body of its own and
looks at the status alone: 2xx lets it promote, or, at the other gate, roll
back. So a gate opens on the one answer it is for, and on nothing else.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from haldane.judge.answer import Answer, Reply, reply_on
from haldane.web.api import Agent
from haldane.web.chinese import in_chinese
from haldane.web.jsonform import JsonAnswer
from haldane.web.problem import Problem, Unknown
from haldane.web.requests import MOST_BODY_BYTES, guarded, read_bytes

MOST_ROLLOUTS = 1000  # how far back the rollout of a version is looked for


class Gates:
    """The /v1/verdict and /v1/gates routes over one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def routes(self) -> list[Route]:
        return [
            Route("/v1/verdict", guarded(self.verdict), methods=["GET"]),
            Route("/v1/gates/promote", guarded(self.promote), methods=["POST"]),
            Route("/v1/gates/rollback", guarded(self.rollback), methods=["POST"]),
        ]

    async def verdict(self, request: Request) -> Response:
        return JsonAnswer(await self._told(request.query_params))

    async def promote(self, request: Request) -> Response:
        return await self._gate(request, Answer.PASS)

    async def rollback(self, request: Request) -> Response:
        return await self._gate(request, Answer.FAIL)

    async def _gate(self, request: Request, opens_on: Answer) -> Response:
        told = await self._told(await _metadata(request))
        opened = told["answer"] == opens_on
        return JsonAnswer(told, status_code=HTTPStatus.OK if opened else HTTPStatus.CONFLICT)

    async def _told(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer as JSON values; Problem where it does not say which version, Unknown for another model."""
        model, text = str(asked.get("model", "")), str(asked.get("version", ""))
        if not model or not (text.isascii() and text.isdecimal()):
            says = "give model and version (a whole number), so that no older verdict is taken for this one"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{says}; got model={model!r:.60}, version={text!r:.60}")
        model = self._agent.local(model)
        known = self._agent.status().stable
        if model not in known:
            raise Unknown(f"model {model!r} is not in the config; it has {', '.join(known) or 'none'}")
        version, rollouts = int(text), await self._agent.rollouts(MOST_ROLLOUTS)
        reply = reply_on(model, version, rollouts, dropped=self._agent.dropped(model, version))
        return _as_json(model, version, reply)


def _as_json(model: str, version: int, reply: Reply) -> dict[str, Any]:
    found = reply.rollout
    return {
        "model": model,
        "version": version,
        "answer": reply.answer,
        "why": reply.why,
        "why_zh": in_chinese(reply.why),
        "rollout": found.id if found else None,
        "phase": found.phase if found else None,
        "verdict": found.verdict if found else None,
    }


async def _metadata(request: Request) -> Mapping[str, Any]:
    """`metadata` of the body that Flagger posts: texts given in the Canary's webhook."""
    try:
        body = json.loads(await read_bytes(request, MOST_BODY_BYTES))
    except (ValueError, RecursionError) as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"the body is not JSON: {error}") from None
    found = body.get("metadata") if isinstance(body, dict) else None
    if not isinstance(found, dict):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, 'the body needs {"metadata": {"model": NAME, "version": "N"}}')
    return found
