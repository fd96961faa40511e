"""Domain values as JSON values: the form of the API, and nothing else.

NaN and infinities become null: JSON has no word for them, and "not known" is
what they mean to a reader.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from starlette.responses import JSONResponse


def whole(text: str) -> str:
    """The text with "?" for half a character, which JSON may hold and UTF-8 has no bytes for."""
    return text if text.isascii() else text.encode(errors="replace").decode()


class JsonAnswer(JSONResponse):
    """JSON whatever its texts hold: a file's name, or what an older release took in, need be no UTF-8."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")


def as_json(value: Any) -> Any:
    """The value as dicts, lists, strings, numbers, booleans and None; TypeError for anything else."""
    match value:
        case Enum():
            return value.value
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return value.hex()
        case Mapping():
            return {str(as_json(key)): as_json(item) for key, item in value.items()}
        case list() | tuple():
            return [as_json(item) for item in value]
        case set() | frozenset():
            return sorted(as_json(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"no JSON form for {type(value).__name__}")
