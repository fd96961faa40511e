"""The HTTP API, and what it needs from the agent behind it.

What the composition root implements is the protocol `Agent`; it hands over

- `AgentStatus`: servers, what was seen of them, stable versions, live rollouts, conditions;
- `Story`: one rollout with its rulings over time, records and labels.

It may raise `Unknown` (404), `Refused` or `StaleWrite` (409), `Unavailable`
(503). `Command`s, starts, events and labels need a bearer token, whose holder may do what
`people` in the config says; reading is open.

| method and path | what you get |
|---|---|
| GET /-/healthy | 200 while the process runs |
| GET /-/ready | 200 once every loop runs, else 503 with the reasons |
| GET /metrics | Prometheus text, or OpenMetrics when asked for |
| GET /v1/status | mode, servers, labels, versions, live rollouts, conditions |
| GET /v1/rollouts | the newest first |
| GET /v1/rollouts/ID | the rollout, its newest ruling with all findings |
| GET /v1/rollouts/ID/rulings | every ruling of its trace, oldest first |
| GET /v1/rollouts/ID/explanation | why, in sentences; `?language=en` or `zh` |
| GET /v1/rollouts/ID/evidence | its evidence log, rules and recorded rulings as an NPZ archive, to judge again |
| GET /v1/rollouts/ID/records | its audit records; `?after=SEQ&limit=N` |
| GET /v1/records | all audit records, oldest first, as JSON lines to verify; `?after=SEQ&limit=N` |
| POST /v1/rollouts | start one: `{"model", "version", "by", "why"}` |
| POST /v1/rollouts/ID/commands | pause, resume, promote or abort: `{"kind", "by", "why"}` |
| POST /v1/events | a release is announced, as a CloudEvent (202; `taken` is false for one told before) |
| POST /v1/labels | right answers of `?model=NAME`, as JSON lines or a list of `{"request", "label"}` |
| GET /v1/holds | versions that must not be deleted, as the store has them now |
| POST /v1/holds | hold one: `{"model", "version", "by", "why"}`, and `"until"` in seconds since 1970 if it ends |
| POST /v1/holds/end | end one: `{"model", "version", "by", "why"}` |
| GET /v1/verdict | pass, fail, wait or inconclusive on `?model=NAME&version=N`, for Argo Rollouts |
| POST /v1/gates/promote | 200 when the answer is pass, else 409; a body as Flagger posts it |
| POST /v1/gates/rollback | 200 when the answer is fail, else 409 |
| GET / and /rollouts/ID | the same for people, as pages |
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from haldane.domain.evidence import Ruling
from haldane.domain.fleet import ModelName
from haldane.domain.labels import Label, Receipt
from haldane.domain.people import Person, Right, right_for
from haldane.domain.record import Record, to_line
from haldane.domain.release import Announcement, Hold
from haldane.domain.rollout import CommandKind, Rollout, RolloutId, Transition
from haldane.web.events import MOST_EVENT_BYTES, BadEvent, OtherEvent, over_http
from haldane.web.jsonform import JsonAnswer, as_json
from haldane.web.labels import MOST_LABELS, MOST_LABELS_BYTES, BadLabel, read_labels
from haldane.web.people import Keys, refusal
from haldane.web.problem import Problem
from haldane.web.requests import guarded, read_body, read_bytes, read_number
from haldane.web.sentences import explained
from haldane.web.story import AgentStatus, Story

LANGUAGES = ("en", "zh")


class Agent(Protocol):
    """What the API needs of the agent. Implemented by the composition root."""

    def unready(self) -> Sequence[str]:
        """Why it is not ready, in sentences; empty when it is."""

    def local(self, said: str) -> str:
        """The model's name that Serving knows, of one said with its namespace; any other as it is."""

    def full(self, model: str) -> str:
        """The model's name with its namespace, by which people's rights go."""

    def status(self) -> AgentStatus: ...

    async def start(self, model: str, version: int, *, by: str, why: str) -> Rollout:
        """Start a rollout; Unknown for a model that is not watched, Refused when it cannot start now."""

    async def announce(self, one: Announcement) -> bool:
        """Stored when it returns; False when it was known. Unknown, or Refused for a model that takes none."""

    def dropped(self, model: str, version: int) -> str:
        """Why nothing came of the announcement of that version; "" when it was not announced, or still waits."""

    async def denied(self, person: Person, right: Right, model: str) -> None:
        """Somebody who is known wanted what they may not; on record when it returns."""

    async def command(
        self, rollout: RolloutId, kind: CommandKind, *, by: str, why: str, known: bool = False
    ) -> Transition:
        """Stored when it returns. Unknown, or Refused (also by the machine: `Transition.refused`)."""

    async def holds(self) -> Sequence[Hold]:
        """Those that stand, read from the store: what is deleted next rests on them."""

    async def hold(self, model: str, version: int, *, by: str, why: str, until: float | None) -> Hold:
        """Stored when it returns. Unknown for a model that is not in the config, Refused when `until` is past."""

    async def end_hold(self, model: str, version: int, *, by: str, why: str) -> None:
        """Stored when it returns. Refused when no such hold stands."""

    async def put_labels(self, model: str, labels: Sequence[Label]) -> Receipt:
        """Stored when it returns. Unknown for a model that is not watched, Refused when it expects no labels."""

    async def rollouts(self, limit: int = 100) -> Sequence[Rollout]: ...

    async def rollout(self, rollout: RolloutId) -> Rollout:
        """Unknown when there is none."""

    async def records(self, rollout: RolloutId | None, *, after: int = 0, limit: int = 1000) -> Sequence[Record]: ...

    async def rulings(self, rollout: RolloutId) -> Sequence[Ruling]:
        """Its trace, oldest first, at most a few hundred; empty without evidence."""

    async def story(self, rollout: RolloutId) -> Story: ...

    async def archive(self, rollout: RolloutId) -> Iterator[bytes]:
        """Its case file as an NPZ archive, in pieces; each may take a moment, so they are asked for in a thread."""


async def allowed(agent: Agent, person: Person, right: Right, model: str) -> Person:
    """The same person, when they may; Problem otherwise, on record when it is somebody known."""
    if not person.may(right, full := agent.full(model)):
        await agent.denied(person, right, model)
        raise Problem(HTTPStatus.FORBIDDEN, refusal(person, right, full))
    return person


class Api:
    """The /v1 routes over one agent."""

    def __init__(self, agent: Agent, keys: Keys) -> None:
        self._agent = agent
        self._keys = keys

    def routes(self) -> list[Route]:
        one = "/v1/rollouts/{rollout}"
        return [
            Route("/v1/status", guarded(self.status), methods=["GET"]),
            Route("/v1/rollouts", guarded(self.rollouts), methods=["GET"]),
            Route("/v1/rollouts", guarded(self.start), methods=["POST"]),
            Route(one, guarded(self.rollout), methods=["GET"]),
            Route(one + "/rulings", guarded(self.rulings), methods=["GET"]),
            Route(one + "/explanation", guarded(self.explanation), methods=["GET"]),
            Route(one + "/evidence", guarded(self.evidence), methods=["GET"]),
            Route(one + "/records", guarded(self.records), methods=["GET"]),
            Route(one + "/commands", guarded(self.command), methods=["POST"]),
            Route("/v1/records", guarded(self.log), methods=["GET"]),
            Route("/v1/labels", guarded(self.labels), methods=["POST"]),
            Route("/v1/events", guarded(self.events), methods=["POST"]),
        ]

    async def status(self, request: Request) -> Response:
        return JsonAnswer(as_json(self._agent.status()))

    async def rollouts(self, request: Request) -> Response:
        found = await self._agent.rollouts(read_number(request, "limit", 100, 1000))
        return JsonAnswer({"rollouts": as_json(list(found))})

    async def rollout(self, request: Request) -> Response:
        name = RolloutId(request.path_params["rollout"])
        found = await self._agent.rollout(name)
        rulings = await self._agent.rulings(name)
        return JsonAnswer({"rollout": as_json(found), "ruling": as_json(rulings[-1] if rulings else None)})

    async def rulings(self, request: Request) -> Response:
        name = RolloutId(request.path_params["rollout"])
        await self._agent.rollout(name)
        return JsonAnswer({"rulings": as_json(list(await self._agent.rulings(name)))})

    async def explanation(self, request: Request) -> Response:
        language = request.query_params.get("language", "en")
        if language not in LANGUAGES:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"language: must be one of {', '.join(LANGUAGES)}")
        story = await self._agent.story(RolloutId(request.path_params["rollout"]))
        rollout, sentences = story.rollout, explained(story, language)
        return JsonAnswer({"verdict": rollout.verdict, "phase": rollout.phase, "sentences": sentences})

    async def evidence(self, request: Request) -> Response:
        name = RolloutId(request.path_params["rollout"])
        await self._agent.rollout(name)
        headers = {"content-disposition": f'attachment; filename="{name}.npz"'}
        return StreamingResponse(await self._agent.archive(name), media_type="application/zip", headers=headers)

    async def records(self, request: Request) -> Response:
        name = RolloutId(request.path_params["rollout"])
        await self._agent.rollout(name)
        after, limit = read_number(request, "after", 0, 2**53), read_number(request, "limit", 1000, 10_000)
        found = await self._agent.records(name, after=after, limit=limit)
        return JsonAnswer({"records": as_json(list(found))})

    async def log(self, request: Request) -> Response:
        """Not `as_json`: a hash covers every number as it was stored."""
        after, limit = read_number(request, "after", 0, 2**53), read_number(request, "limit", 1000, 10_000)
        found = await self._agent.records(None, after=after, limit=limit)
        return Response("".join(to_line(record) + "\n" for record in found), media_type="application/x-ndjson")

    async def start(self, request: Request) -> Response:
        self._keys.who(request)
        body = await read_body(request, {"model": str, "version": int, "by": str, "why": str})
        model = self._agent.local(body["model"])
        person = await self._allowed(request, Right.START, model, body["by"])
        made = await self._agent.start(model, body["version"], by=person.name, why=body["why"])
        return JsonAnswer({"rollout": as_json(made)}, status_code=HTTPStatus.CREATED)

    async def command(self, request: Request) -> Response:
        self._keys.who(request)
        body = await read_body(request, {"kind": str, "by": str, "why": str})
        if body["kind"] not in list(CommandKind):
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY, f"kind: must be one of {', '.join(CommandKind)}, got {body['kind']!r}"
            )
        rollout, kind = await self._agent.rollout(RolloutId(request.path_params["rollout"])), CommandKind(body["kind"])
        person = await self._allowed(request, right_for(kind), rollout.model, body["by"])
        by, known = person.name, person.known
        done = await self._agent.command(rollout.id, kind, by=by, why=body["why"], known=known)
        if done.refused:
            raise Problem(HTTPStatus.CONFLICT, done.why)
        return JsonAnswer({"before": done.before.phase, "after": done.after.phase, "why": done.why})

    async def labels(self, request: Request) -> Response:
        self._keys.who(request)
        model = self._agent.local(request.query_params.get("model", ""))
        if not model:
            raise Problem(HTTPStatus.BAD_REQUEST, "model: missing; post to /v1/labels?model=NAME")
        await self._allowed(request, Right.LABEL, model)
        body = await read_bytes(request, MOST_LABELS_BYTES)
        try:
            labels = await asyncio.to_thread(read_labels, body)
        except BadLabel as bad:
            raise Problem(HTTPStatus.BAD_REQUEST, f"{bad}; nothing was taken") from None
        if len(labels) > MOST_LABELS:
            why = f"{len(labels)} labels in one body; send at most {MOST_LABELS}. Nothing was taken"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, why)
        found = await self._agent.put_labels(model, labels)
        told = {"accepted": found.accepted, "duplicate": found.duplicate, "unknown": found.unknown}
        return JsonAnswer(told, status_code=HTTPStatus.ACCEPTED)

    async def _allowed(self, request: Request, right: Right, model: str, says: str = "") -> Person:
        return await allowed(self._agent, self._keys.who(request, says), right, model)

    async def events(self, request: Request) -> Response:
        self._keys.who(request)
        body = await read_bytes(request, MOST_EVENT_BYTES)
        try:
            one = over_http(request.headers, body)
        except (BadEvent, OtherEvent) as bad:
            raise Problem(HTTPStatus.BAD_REQUEST, f"{bad}; nothing was taken") from None
        except ImportError:
            why = 'CloudEvents need a small package: pip install "haldane[notify]"'
            raise Problem(HTTPStatus.NOT_IMPLEMENTED, why) from None
        model = ModelName(self._agent.local(one.model))
        person = await self._allowed(request, Right.ANNOUNCE, model, one.by)
        taken = await self._agent.announce(replace(one, model=model, by=person.name))
        told = {"model": one.model, "version": one.version, "taken": taken}
        return JsonAnswer(told, status_code=HTTPStatus.ACCEPTED)


__all__ = ["Agent", "AgentStatus", "Api", "Story"]
