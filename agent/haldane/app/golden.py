"""A golden set: rows of known answer that every canary gets first, each once, before any traffic.

It is read from end to end when it is opened, so that a mistake in it is told
with file and line before a rollout starts, and again row by row when it is sent.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from haldane.app.sources import read
from haldane.config import GoldenSection, ModelSection, TrafficSection, golden_files, golden_kind
from haldane.domain.fleet import ModelName
from haldane.domain.traffic import GOLDEN_ROW, Request
from haldane.ports import Malformed, PortError, Refused, TrafficSource
from haldane.tensors import Signature

_CHUNK = 256  # rows read in one visit to the worker thread
_AGAIN_AFTER = 1000  # requests of traffic: by then what was sent before is judged


@dataclass(frozen=True, slots=True)
class Golden:
    """A golden set that was read once without a mistake; `read` begins anew each time."""

    name: str
    length: int
    read: Callable[[], Iterator[Request]]


async def open_golden(
    model: ModelName,
    section: ModelSection,
    signatures: Mapping[str, Signature],
    *,
    fields: frozenset[str] = frozenset(),
) -> Golden | None:
    """The model's golden set, None without one. Refused, with file and line, when a row of it cannot be used.

    Its rows carry those of `fields` that they have: what slices are made by.
    """
    if section.golden is None:
        return None
    golden = section.golden

    def rows() -> Iterator[Request]:
        return _rows(model, golden, section.traffic, signatures, fields)

    length = await asyncio.to_thread(lambda: sum(1 for _ in rows()))
    if not length:
        raise Refused(model, f"golden: {golden.path} holds no row")
    return Golden(golden.path.name, length, rows)


def _rows(
    model: ModelName,
    golden: GoldenSection,
    traffic: TrafficSection | None,
    signatures: Mapping[str, Signature],
    fields: frozenset[str],
) -> Iterator[Request]:
    """All rows of all files, numbered from GOLDEN_ROW on, with ids of their own."""
    row = GOLDEN_ROW
    for file in golden_files(golden.path):
        try:
            for request in read(golden.source(file, traffic), file, model, signatures, fields):
                if isinstance(request, Malformed):
                    raise request
                if request.truth is None:
                    raise Malformed(request.id, "has no right answer")
                yield replace(request, id=f"golden:{request.id}", row=row)
                row += 1
        except PortError as error:
            raise Refused(model, f"golden: {_where(file, error.target)}: {error.detail}") from error


def _where(file: Path, target: str) -> str:
    """The file with the line, as far as the reader can say it."""
    name, _, row = target.partition("#")
    if golden_kind(file) == "labelled" and row.isdecimal() and file.suffix.lower() == ".csv":
        return f"{file}, line {int(row) + 2}"  # rows count from 0, below the line of names
    return f"{file.parent / target}" if name.startswith(file.name) else f"{file}: {target}"


class GoldenFirst:
    """The golden rows that were not judged yet, then the traffic; `judged_rows` may grow meanwhile.

    Rows that nobody answered, because a server was busy just then, are given once more after some traffic.
    """

    def __init__(self, golden: Golden, traffic: TrafficSource, judged_rows: Collection[int]) -> None:
        self._golden, self._traffic, self._judged = golden, traffic, judged_rows

    async def requests(self) -> AsyncIterator[Request]:
        async for request in self._left():
            yield request
        given = 0
        async for request in self._traffic.requests():
            yield request
            given += 1
            if given == _AGAIN_AFTER:
                async for row in self._left():
                    yield row

    async def _left(self) -> AsyncIterator[Request]:
        rows = self._golden.read()
        while chunk := await asyncio.to_thread(_take, rows):
            for request in chunk:
                if request.row not in self._judged:
                    yield request


def _take(rows: Iterable[Request]) -> list[Request]:
    return list(islice(rows, _CHUNK))
