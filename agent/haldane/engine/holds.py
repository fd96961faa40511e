"""Versions whose files must stay, by somebody's word. Kept in the audit log alone: a hold without an end stands.

Whoever deletes asks `standing`, which reads what was recorded since: another
agent over the same store may have written it.
"""

import asyncio
from dataclasses import dataclass, field
from functools import partial

import structlog

from haldane.domain.fleet import ModelName
from haldane.domain.record import Record
from haldane.domain.release import Hold
from haldane.ports import Clock, Refused, Store

log = structlog.get_logger()

HELD, ENDED = "version_held", "hold_ended"  # kinds of Records
_PAGE = 10_000  # records read at a time


@dataclass
class Holds:
    """Used by the event loop only."""

    store: Store
    clock: Clock
    _by_version: dict[tuple[ModelName, int], Hold] = field(default_factory=dict)
    _read_to: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def known(self) -> tuple[Hold, ...]:
        """Those that stand now, as far as was read; by model and version."""
        at = self.clock.now()
        return tuple(one for _, one in sorted(self._by_version.items()) if one.stands(at))

    async def standing(self) -> tuple[Hold, ...]:
        """Those that stand now, as the store has them."""
        async with self._lock:
            await self._read()
        return self.known()

    async def put(self, model: ModelName, version: int, *, by: str, why: str, until: float | None = None) -> Hold:
        """Stored when it returns; one that stands for that version is replaced. Refused when `until` is past."""
        at = self.clock.now()
        if until is not None and until <= at:
            raise Refused(model, "the time until which it should be held is past")
        data = {"version": version, "by": by, "why": why, "until": until}
        await self._record(HELD, data, model)
        log.info(HELD, model=model, **data)
        return self._by_version[model, version]

    async def end(self, model: ModelName, version: int, *, by: str, why: str) -> None:
        """Stored when it returns; Refused when no such hold stands, with those that do."""
        versions = [one.version for one in await self.standing() if one.model == model]
        if version not in versions:
            held = ", ".join(map(str, versions)) or "none"
            raise Refused(model, f"version {version} is not held; of {model} these are: {held}")
        data = {"version": version, "by": by, "why": why}
        await self._record(ENDED, data, model)
        log.info(ENDED, model=model, **data)

    async def _record(self, kind: str, data: dict[str, object], model: ModelName) -> None:
        async with self._lock:
            await asyncio.to_thread(lambda: self.store.record(kind, data, model=model))
            await self._read()

    async def _read(self) -> None:
        while True:
            read = partial(self.store.records, None, kinds=(HELD, ENDED), after=self._read_to, limit=_PAGE)
            found = await asyncio.to_thread(read)
            for record in found:
                self._remember(record)
            if len(found) < _PAGE:
                return

    def _remember(self, record: Record) -> None:
        model, data = ModelName(record.model), record.data
        if record.kind == HELD:
            self._by_version[model, data["version"]] = Hold(
                model=model,
                version=data["version"],
                by=data["by"],
                why=data["why"],
                since=record.at,
                until=data["until"],
            )
        else:
            self._by_version.pop((model, data["version"]), None)
        self._read_to = record.seq
