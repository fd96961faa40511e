"""Reading what a request brings, and turning what goes wrong into an answer."""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from haldane.ports import PortError, Refused, StaleWrite, Unavailable
from haldane.web.jsonform import JsonAnswer, whole
from haldane.web.problem import Problem, Unknown

MOST_BODY_BYTES = 64 * 1024  # a command is a few hundred bytes; more is a mistake or an attack

Handler = Callable[[Request], Awaitable[Response]]


def guarded(handler: Handler) -> Handler:
    """The handler with every expected failure turned into {"error": sentence} and the right status."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Problem as problem:
            status, error = problem.status, str(problem)
        except Unknown as unknown:
            status, error = HTTPStatus.NOT_FOUND, str(unknown.args[0] if unknown.args else unknown)
        except (Refused, StaleWrite) as refused:
            status, error = HTTPStatus.CONFLICT, refused.detail
        except Unavailable as away:
            status, error = HTTPStatus.SERVICE_UNAVAILABLE, str(away)
        except PortError as other:
            status, error = HTTPStatus.BAD_GATEWAY, str(other)
        headers = {"WWW-Authenticate": 'Bearer realm="haldane"'} if status == HTTPStatus.UNAUTHORIZED else None
        return JsonAnswer({"error": error}, status_code=status, headers=headers)

    return answer


async def read_bytes(request: Request, most: int) -> bytes:
    """The body; 413 when it is larger."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > most:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {most} bytes")
    return bytes(raw)


async def read_body(request: Request, fields: Mapping[str, type], optional: Collection[str] = ()) -> dict[str, Any]:
    """The JSON object of the body with exactly these fields, less those `optional`; 422 with all mistakes otherwise."""
    try:
        body = json.loads(await read_bytes(request, MOST_BODY_BYTES))
    except (ValueError, RecursionError) as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "the body must be a JSON object")
    mistakes = [f"{key}: unknown field" for key in body if key not in fields]
    wanted = {key: kind for key, kind in fields.items() if key in body or key not in optional}
    mistakes += [_mistake(key, kind, body.get(key)) for key, kind in wanted.items() if not _fits(body.get(key), kind)]
    if mistakes:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(mistakes))
    return {key: whole(value) if isinstance(value, str) else value for key, value in body.items()}


def _fits(value: object, kind: type) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, str) and bool(value.strip())


def _mistake(key: str, kind: type, value: object) -> str:
    want = "a whole number, 0 or more" if kind is int else "text that is not empty"
    return f"{key}: missing, must be {want}" if value is None else f"{key}: must be {want}, got {value!r:.60}"


def read_number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isdecimal() and len(text) < 20):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: must be a whole number, got {text!r:.60}")
    return min(int(text), most)
