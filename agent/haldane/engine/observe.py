"""The watch over a fleet: scrapes pages, takes in views, keeps Conditions, tells sinks and our own metrics.

Owns: the scrape loops, and who is told what. Leaves what is wrong to
`judge.conditions`, and looking at servers to `engine.converge`, which hands
each view over by `on_view`. Belongs to the comfort ring: a page that cannot be
read or a sink that is gone is counted and tried again, never an end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from haldane.domain.fleet import Condition, ModelName, Policy, ReplicaView, Server, ServerConfig, ServerName
from haldane.engine.gauges import Gauges
from haldane.judge import conditions, memory, storage
from haldane.judge.loads import LoadCounters, Loads, Tally, between, grown
from haldane.judge.memory import Bounds, Memory
from haldane.judge.unwanted import Expected
from haldane.ports import AlertSink, Clock, IntoVersions, ListStorage, ModelServer, PortError
from haldane.telemetry import Telemetry

log = structlog.get_logger()

LoadKey = tuple[ServerName, ModelName, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often, in seconds. Sinks are told at once when something changed; an alert outlives three tellings."""

    scrape: float = 15.0
    tell: float = 60.0
    listing: float = 30.0
    retry: float = 5.0  # after a sink could not be told


class Observer:
    """What is wrong in the fleet, and those who should know.

    `base` gives the models' paths; `read` turns a metrics page into counters
    and raises nothing; `wanted` the config a server should have, None where
    nobody here decides what should be loaded: in observe mode, and on an agent
    that stands by, which does not know what the other one does. `list_storage`
    lists a base path, where this process can read it; None: not asked for.
    `also` gives what is wrong elsewhere, as of a time (seconds).
    """

    def __init__(
        self,
        clients: Mapping[ServerName, ModelServer],
        *,
        base: ServerConfig,
        read: Callable[[str], LoadCounters],
        sinks: Mapping[str, AlertSink],
        telemetry: Telemetry,
        clock: Clock,
        wanted: Callable[[ServerName], ServerConfig | None] = lambda server: None,
        list_storage: ListStorage | None = None,
        on_shelf: Callable[[str, storage.Shelf, float], None] = lambda path, shelf, at: None,
        on_queued: Callable[[ServerName, Mapping[float, float]], None] = lambda server, queued: None,
        also: Callable[[float, Bounds], Iterable[Condition]] = lambda at, bounds: (),
        bounds: Bounds | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._clients, self._sinks = dict(clients), sinks
        self._read, self._clock, self._wanted = read, clock, wanted
        self._telemetry, self._gauges = telemetry, Gauges(telemetry)
        self._bounds, self._pace = bounds or Bounds(), pace or Pace()
        self._list_storage, self._on_shelf, self._on_queued = list_storage, on_shelf, on_queued
        self._also = also
        self._entries = {entry.name: entry for entry in base.models if entry.base_path}
        self._shelves: dict[str, storage.Shelf] = {}  # by base path without a last slash
        self._paths = {entry.name: entry.base_path for entry in base.models}
        self._memories: dict[ServerName, Memory] = {}
        self._counters: dict[ServerName, LoadCounters] = {}
        for server in clients:
            self.add(server)
        self._tallies: dict[LoadKey, Tally] = {}
        self._shown: tuple[Condition, ...] = ()
        self._changed = {name: asyncio.Event() for name in sinks}
        self._troubled: set[str] = set()  # scrapes and sinks that failed last time, so that it is logged once

    def conditions(self) -> tuple[Condition, ...]:
        """Everything wrong now, oldest first."""
        at = self._clock.now()
        of_servers = conditions.conditions(self._memories, at=at, bounds=self._bounds)
        return tuple(sorted((*of_servers, *self._also(at, self._bounds)), key=lambda one: one.since))

    def add(self, server: ServerName) -> None:
        """It is in the fleet; nothing is known of it yet."""
        self._memories[server] = Memory(paths=self._paths)
        self._counters[server] = LoadCounters({})

    def drop(self, server: ServerName) -> None:
        """It has left the fleet: nothing is wrong with it any more."""
        self._memories.pop(server, None)
        self._counters.pop(server, None)
        self._tallies = {key: tally for key, tally in self._tallies.items() if key[0] != server}
        self._troubled.discard(f"scrape {server}")
        self._gauges.forget(server)
        self._refresh()

    # --- taking in ------------------------------------------------------------------------------------------------

    def on_view(self, server: Server, view: ReplicaView | None) -> None:
        """A look at one server has ended; None: it could not be seen."""
        before = self._memories[server.name]
        at = self._clock.now()
        now = memory.looked(before, view, at=at, expected=self._expected(server.name), bounds=self._bounds)
        self._memories[server.name] = storage.noticed(now, self._entries, self._shelves, at)
        self._gauges.show(server.name, view)
        if view is not None:
            self._count_states(server.name, before.view, view)
        self._refresh()

    def on_counters(self, server: ServerName, counters: LoadCounters) -> None:
        """A scrape of one server's page has been read."""
        known = self._memories[server]
        known = replace(known, paths=memory.learned(known.paths, counters.attempts))
        self._memories[server] = memory.counted(known, counters, at=self._clock.now(), bounds=self._bounds)
        # A directory that two names share is counted for the first of them only.
        owner = {path.rstrip("/"): model for model, path in sorted(known.paths.items(), reverse=True)}
        for (path, version), loads in grown(self._counters[server], counters).items():
            if (model := owner.get(path)) is not None:
                self._tally((server, model, version), by_counter=loads)
        self._counters[server] = counters
        self._on_queued(server, counters.queued)
        self._telemetry.fleet.scrape_errors.labels(server, "corrupt_line").inc(counters.corrupt)
        self._refresh()

    def on_listing(self, path: str, found: Mapping[int, storage.Files | None] | None) -> None:
        """A base path has been listed; the next look at each server takes it in.

        None: this process cannot see it, so nothing is said of it.
        """
        if found is None and path not in self._shelves:
            log.info("storage_not_seen", base_path=path, why="no such directory for this process; servers may have it")
        at = self._clock.now()
        self._shelves[path] = storage.listed(self._shelves.get(path, {}), found or {}, at)
        self._on_shelf(path, self._shelves[path], at)

    def _expected(self, server: ServerName) -> Expected | None:
        if (wanted := self._wanted(server)) is None:
            return None
        return {entry.name: entry for entry in wanted.models if entry.policy is Policy.SPECIFIC}

    def _count_states(self, server: ServerName, before: ReplicaView | None, view: ReplicaView) -> None:
        for model, seen in view.models.items():
            past = before.models.get(model) if before else None
            for status in seen.versions:
                loads = between(past.status(status.version) if past else None, status)
                self._tally((server, model, status.version), by_status=loads)

    def _tally(self, key: LoadKey, *, by_status: Loads | None = None, by_counter: Loads | None = None) -> None:
        """Add loads to a version's tally and what the total grew by to our own counters."""
        old = self._tallies.get(key, Tally())
        new = replace(
            old, by_status=old.by_status + (by_status or Loads()), by_counter=old.by_counter + (by_counter or Loads())
        )
        self._tallies[key] = new
        _, model, version = key
        more = new.total - old.total
        self._telemetry.fleet.load_requests.labels(model, str(version)).inc(more.requests)
        self._telemetry.fleet.load_failures.labels(model, str(version)).inc(more.failures)

    def _refresh(self) -> None:
        """Show what holds now, and wake the sinks when something began or ended."""
        now = self.conditions()
        was, present = {_identity(one) for one in self._shown}, {_identity(one) for one in now}
        for one in now:
            if _identity(one) not in was:
                log.warning("condition_began", condition=one.name, model=one.model, version=one.version, why=one.detail)
        for one in self._shown:
            if _identity(one) not in present:
                log.info("condition_ended", condition=one.name, model=one.model, version=one.version)
        self._gauges.show_conditions(now)
        self._shown = now
        if was != present:
            for event in self._changed.values():
                event.set()

    # --- the loops ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Scrape those who were there from the start, and tell, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for server, client in self._clients.items():
                group.create_task(self.keep_scraping(server, client), name=f"scrape {server}")
            for name, sink in self._sinks.items():
                group.create_task(self._keep_telling(name, sink), name=f"tell {name}")
            if self._list_storage is not None:
                group.create_task(self._keep_listing(self._list_storage), name="list storage")

    async def keep_scraping(self, server: ServerName, client: ModelServer) -> None:
        """Read one server's page regularly, until cancelled."""

        async def scrape() -> None:
            page = await client.scrape()
            if page is not None:
                self.on_counters(server, await asyncio.to_thread(self._read, page))  # a large page takes a while

        while True:
            if reason := await self._guarded(f"scrape {server}", scrape):
                self._telemetry.fleet.scrape_errors.labels(server, reason).inc()
            await asyncio.sleep(self._pace.scrape)

    async def _keep_listing(self, list_storage: ListStorage) -> None:
        """One base path after the other, so that a slow store is asked by one thread only."""
        paths = sorted({entry.base_path.rstrip("/") for entry in self._entries.values()})
        while True:
            for path in paths:
                into = storage.worth_a_look(tuple(self._memories.values()), path)

                async def look(path: str = path, into: IntoVersions = into) -> None:
                    self.on_listing(path, await asyncio.to_thread(list_storage, path, into))

                if reason := await self._guarded(f"list {path}", look):
                    self._telemetry.fleet.storage_errors.labels(reason).inc()
            await asyncio.sleep(self._pace.listing)

    async def _keep_telling(self, name: str, sink: AlertSink) -> None:
        changed = self._changed[name]

        async def tell() -> None:
            await sink.tell(self.conditions())

        while True:
            changed.clear()
            reason = await self._guarded(f"tell {name}", tell)
            self._telemetry.agent.notifications.labels(name, reason or "told").inc()
            await _wait(changed, self._pace.retry if reason else self._pace.tell)

    async def _guarded(self, what: str, deed: Callable[[], Awaitable[None]]) -> str:
        """Why it failed, "" when it did not. A failure is logged when it begins, its end when it is over."""
        try:
            await deed()
        except PortError as error:
            if what not in self._troubled:
                log.warning("observing_failed", what=what, reason=error.reason, detail=error.detail)
            self._troubled.add(what)
            return error.reason
        except Exception:  # the comfort ring: watching goes on, whatever a sink or a page brings up
            log.exception("observing_broke", what=what)
            return "unexpected"
        if what in self._troubled:
            log.info("observing_recovered", what=what)
            self._troubled.discard(what)
        return ""


def _identity(condition: Condition) -> tuple[str, str, int | None]:
    return condition.name, condition.model, condition.version


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
