"""Releases that were announced, into rollouts: stored before anybody is told "taken", each tried once.

What waits is kept in the audit log alone: an announcement without an ending is
pending, so a new process knows it from there. A rollout's first record names
the announcement it comes from, in the transaction that stores the rollout.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from haldane.domain.fleet import ModelName
from haldane.domain.record import Record
from haldane.domain.release import Announcement, Newer
from haldane.domain.rollout import Rollout
from haldane.engine.desk import Desk
from haldane.engine.withdrawals import Withdrawals
from haldane.ports import Clock, PortError, Refused, Store
from haldane.rollout.intake import Dropped, due, flapping
from haldane.telemetry import Telemetry

log = structlog.get_logger()

ANNOUNCED, STARTED = "release_announced", "rollout_started"  # kinds of Records
REFUSED, PASSED_OVER = "release_refused", "release_passed_over"
LOOK_SECONDS = 5.0
_PAGE = 10_000  # records read at a time

Start = Callable[[Announcement], Awaitable[Rollout]]  # Refused or another PortError when it cannot start now
Abort = Callable[[Rollout, str], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Terms:
    """Of one model. What cannot start within `patience_seconds` of being first tried is refused."""

    newer: Newer
    patience_seconds: float


@dataclass
class Intake:
    """`terms` has the models that take announcements. Used by the event loop only."""

    store: Store
    desk: Desk
    clock: Clock
    telemetry: Telemetry
    terms: Mapping[ModelName, Terms]
    start: Start
    abort: Abort
    withdrawals: Withdrawals
    flapping: dict[ModelName, str] = field(default_factory=dict)  # why what waits is left to a person, or ""
    dropped: dict[tuple[ModelName, int], str] = field(default_factory=dict)  # versions nothing came of, and why
    _pending: dict[str, Announcement] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)  # keys of all that was ever announced
    _tried: dict[str, tuple[float, str]] = field(default_factory=dict)  # since when it could not start, and why
    _read: bool = False
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, one: Announcement) -> bool:
        """Stored when it returns; False when its key was taken before. Refused for a model that takes none."""
        if one.model not in self.terms:
            takes = ", ".join(self.terms) or "none"
            raise Refused(one.model, f"it takes no announced releases (models.{one.model}.releases); these do: {takes}")
        async with self._lock:
            await self._recall()
            if one.key in self._known:
                return False
            data = {"key": one.key, "version": one.version, "by": one.by, "why": one.why}
            await self._record(ANNOUNCED, data, one)
            self._known.add(one.key)
            self._pending[one.key] = one
            self.dropped.pop((one.model, one.version), None)
        log.info("release_announced", model=one.model, version=one.version, by=one.by)
        self._news.set()
        return True

    def waiting(self) -> list[tuple[Announcement, str]]:
        """What was announced and has not been rolled out, and why not yet."""
        return [
            (one, self.flapping.get(one.model) or self._tried.get(one.key, (0.0, ""))[1])
            for one in self._pending.values()
        ]

    async def run(self) -> None:
        """See to what waits, until cancelled."""
        while True:
            self._news.clear()
            async with self._lock:
                await self._recall()
                for model in sorted({one.model for one in self._pending.values()}):
                    await self._see_to(model)
            self._show()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _see_to(self, model: ModelName) -> None:
        pending = [one for one in self._pending.values() if one.model == model]
        if model not in self.terms:  # the config has changed meanwhile
            for one in pending:
                await self._drop(Dropped(one, f"models.{model}.releases is no longer in the config", refused=True))
            return
        watched = self.desk.watched.get(model)
        past = await self.withdrawals.past(model)
        newest = max(one.version for one in pending)
        what = due(
            pending,
            stable=watched.stable if watched and watched.released else None,
            live=next((one for one in self.desk.live() if one.model == model), None),
            past=past.withdrawn,
            newer=self.terms[model].newer,
            content=await self.withdrawals.content(model, newest) if past.withdrawn else "",
        )
        for dropped in what.drop:
            await self._drop(dropped)
        if what.abort is not None:
            await self._supersede(what.abort, newest)
        why = flapping(past, self.clock.now())
        if why and not self.flapping.get(model):
            log.error("releases_flapping", model=model, why=why)
        self.flapping[model] = why if what.start is not None else ""
        if what.start is not None and not why and not self.desk.frozen(model, self.clock.now()):
            await self._try(what.start)

    async def _supersede(self, live: Rollout, version: int) -> None:
        try:
            await self.abort(live, f"version {version} was announced, which supersedes it")
        except PortError as error:
            log.warning("rollout_not_superseded", rollout=live.id, why=str(error))

    async def _try(self, one: Announcement) -> None:
        try:
            rollout = await self.start(one)
        except PortError as error:
            since, _ = self._tried.setdefault(one.key, (self.clock.now(), ""))
            self._tried[one.key] = (since, str(error))
            if self.clock.now() - since >= self.terms[one.model].patience_seconds:
                await self._drop(Dropped(one, str(error), refused=True))
            return
        self._forget(one)
        self.telemetry.releases.announced.labels(one.model, "started").inc()
        log.info("release_taken_up", model=one.model, version=one.version, rollout=rollout.id)

    async def _drop(self, dropped: Dropped) -> None:
        one, kind = dropped.one, REFUSED if dropped.refused else PASSED_OVER
        await self._record(kind, {"key": one.key, "version": one.version, "by": one.by, "why": dropped.why}, one)
        self._forget(one)
        self.dropped[one.model, one.version] = dropped.why
        self.telemetry.releases.announced.labels(one.model, kind.removeprefix("release_")).inc()
        log.info(kind, model=one.model, version=one.version, why=dropped.why)

    def _forget(self, one: Announcement) -> None:
        self._pending.pop(one.key, None)
        self._tried.pop(one.key, None)

    def _show(self) -> None:
        for model in self.terms:
            waits = sum(one.model == model for one in self._pending.values())
            self.telemetry.releases.pending.labels(model).set(waits)
            self.telemetry.releases.flapping.labels(model).set(bool(waits and self.flapping.get(model)))

    # --- the audit log --------------------------------------------------------------------------------------------

    async def _record(self, kind: str, data: dict[str, Any], one: Announcement) -> None:
        await asyncio.to_thread(lambda: self.store.record(kind, data, model=one.model))

    async def _recall(self) -> None:
        """What an agent before this one was told and had not seen to."""
        if self._read:
            return
        records = await self._records(after=0)
        while records:
            for record in records:
                self._remember(record)
            records = await self._records(after=records[-1].seq)
        self._read = True

    async def _records(self, after: int) -> list[Record]:
        kinds = (ANNOUNCED, STARTED, REFUSED, PASSED_OVER)
        return await asyncio.to_thread(lambda: self.store.records(None, kinds=kinds, after=after, limit=_PAGE))

    def _remember(self, record: Record) -> None:
        data, model = record.data, ModelName(record.model)
        if record.kind == ANNOUNCED:
            self.dropped.pop((model, data["version"]), None)
            self._known.add(data["key"])
            self._pending[data["key"]] = Announcement(
                key=data["key"],
                model=model,
                version=data["version"],
                by=data["by"],
                why=data["why"],
            )
        elif record.kind in (REFUSED, PASSED_OVER):
            self._pending.pop(data["key"], None)
            self.dropped[model, data["version"]] = data["why"]
        elif record.kind == STARTED:
            self._pending.pop(data.get("announcement", ""), None)
