"""Labels as they are handed in: JSON lines, or one JSON list, of {"request", "label"}."""

import json
import math
from collections.abc import Iterator

from haldane.domain.labels import Label
from haldane.domain.traffic import key_of

MOST_LABELS = 50_000  # in one body
MOST_LABELS_BYTES = 8 * 1024 * 1024
MOST_REQUEST_CHARS, MOST_LABEL_CHARS = 1000, 1000


class BadLabel(ValueError):
    """A label that cannot be taken; says on which line it stands, and what would be right."""


def read_labels(body: bytes) -> list[Label]:
    """All labels of a body; BadLabel at the first that is none. May take a second: call it in a worker thread."""
    return [_label(item, where) for where, item in _items(body)]


def _items(body: bytes) -> Iterator[tuple[str, object]]:
    """Each item, and where it stands."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadLabel(f"line {1 + body.count(10, 0, error.start)}: not UTF-8") from None  # 10: a line's end
    if text.lstrip().startswith("["):
        for index, item in enumerate(_parsed(text, "the body"), 1):
            yield f"item {index}", item
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", _parsed(line, f"line {number}")


def _parsed(text: str, where: str) -> "list[object]":
    try:
        parsed: list[object] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadLabel(f'{where}: not JSON ({error}); write {{"request": ID, "label": RIGHT_ANSWER}}') from None
    return parsed


def _label(item: object, where: str) -> Label:
    if not isinstance(item, dict) or item.keys() != {"request", "label"}:
        raise BadLabel(f'{where}: must be {{"request": ID, "label": RIGHT_ANSWER}}, got {_short(item)}')
    request, truth = item["request"], item["label"]
    if not isinstance(request, str) or not 0 < len(request) <= MOST_REQUEST_CHARS:
        raise BadLabel(f"{where}: request must be the request's id, as text, got {_short(request)}")
    if isinstance(truth, bool):
        truth = int(truth)
    if isinstance(truth, str) and 0 < len(truth) <= MOST_LABEL_CHARS:
        return Label(key_of(request), truth)
    if isinstance(truth, int | float) and abs(truth) <= 1e300 and math.isfinite(truth):
        return Label(key_of(request), float(truth))
    raise BadLabel(f"{where}: label must be a number or the name of a class, got {_short(truth)}")


def _short(value: object) -> str:
    return f"{value!r:.60}"
