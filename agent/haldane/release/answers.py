"""Requests with the answers a version gave when it was validated, and how they are kept: one JSON line each.

Hashing a disk does not prove what a process has loaded; its answers do.
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass

from haldane.ports import Malformed


@dataclass(frozen=True, slots=True)
class Answered:
    """A serialized PredictRequest, and the serialized PredictResponse it got when the version was validated."""

    request: bytes
    answer: bytes


def to_lines(answers: Iterable[Answered]) -> str:
    """JSON lines of base64 texts."""
    pairs = ({"request": _text(one.request), "answer": _text(one.answer)} for one in answers)
    return "".join(json.dumps(pair) + "\n" for pair in pairs)


def from_lines(text: str) -> tuple[Answered, ...]:
    """Malformed for anything that `to_lines` would not write."""
    try:
        pairs = [json.loads(line) for line in text.splitlines()]
        return tuple(Answered(base64.b64decode(one["request"]), base64.b64decode(one["answer"])) for one in pairs)
    except (ValueError, KeyError, TypeError) as error:
        raise Malformed("golden answers", f"are not as they were written: {error}") from error


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
