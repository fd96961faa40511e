"""Who is in the fleet: the lists of servers that others keep, read again and again.

One task per server on a list, from when it appears until it has been on none
for a minute. A list that cannot be read, is empty, or names a server twice
changes nothing: what it said last still holds, also what it said to the agent
before this one, so that a rollback under way goes on. Nothing new starts on
that. Leaves to the caller what is done with a server, and to `rollout.machine`
what its coming and going means.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from haldane.domain.fleet import Server, ServerName
from haldane.engine.desk import Desk
from haldane.ports import Malformed, NoData, PortError, ServerList
from haldane.telemetry import Telemetry

log = structlog.get_logger()

GONE_SECONDS = 60.0  # a rolling restart, or a list written while it is read, is over by then
TICK_SECONDS = 1.0

Names = Mapping[str, Sequence[Server]]  # list -> the servers it named
LookAfter = Callable[[Server], Coroutine[Any, Any, None]]  # until it is cancelled


@dataclass(frozen=True, slots=True)
class Listed:
    """One list: how it is read, and how often in seconds."""

    source: ServerList
    every_seconds: float


@dataclass
class Roster:
    """Keeps the desk's servers equal to what the lists say. `fixed` are those of the config, which never leave."""

    desk: Desk
    fixed: Sequence[Server]
    lists: Mapping[str, Listed]
    telemetry: Telemetry
    look_after: LookAfter
    now: Callable[[], float] = time.monotonic
    recalled: Names = field(default_factory=dict)  # what lists said in an earlier life
    remember: Callable[[Names], None] = lambda known: None  # for a later life
    _known: dict[str, tuple[Server, ...]] = field(default_factory=dict)  # what each list said last
    _fresh: set[str] = field(default_factory=set)  # those that said it in this life
    _missing: dict[ServerName, float] = field(default_factory=dict)  # on no list, since when
    _tasks: dict[ServerName, tuple[Server, asyncio.Task[None]]] = field(default_factory=dict)
    _read: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def unread(self) -> list[str]:
        """Why some list has not been read in this life, one sentence each; empty when all have been."""
        return [
            f"{name}: {self.desk.lists.get(name, 'not read yet')}" for name in self.lists if name not in self._fresh
        ]

    async def run(self) -> None:
        """Read the lists and look after who is on them, until cancelled."""
        self._recall()
        async with asyncio.TaskGroup() as group:
            for name, listed in self.lists.items():
                group.create_task(self._keep_reading(name, listed), name=f"list {name}")
            while True:
                await self._settle(group)
                self._read.clear()
                try:
                    async with asyncio.timeout(TICK_SECONDS):
                        await self._read.wait()
                except TimeoutError:
                    pass

    # --- reading --------------------------------------------------------------------------------------------------

    def _recall(self) -> None:
        """Begin with what lists said last, but for what the config has under another list or by name since."""
        for name in self.lists:
            try:
                self._refuse_twins(name, found := tuple(self.recalled.get(name, ())))
            except PortError as error:
                log.warning("servers_not_recalled", list=name, detail=error.detail)
            else:
                self._known |= {name: found} if found else {}

    async def _keep_reading(self, name: str, listed: Listed) -> None:
        while True:
            await self.read(name)
            await asyncio.sleep(listed.every_seconds)

    async def read(self, name: str) -> None:
        """Read one list now. What is wrong with it is told, and its last word kept."""
        trouble, before = "", self.desk.lists.get(name)
        try:
            found = tuple(await self.lists[name].source.read())
            if not found:
                raise NoData(name, "no server is on it")
            self._refuse_twins(name, found)
            self._fresh.add(name)
            self._keep(name, found)
        except PortError as error:
            trouble = error.detail
            self.telemetry.lists.errors.labels(name, error.reason).inc()
        self.telemetry.lists.failing.labels(name).set(bool(trouble))
        self.telemetry.lists.listed.labels(name).set(len(self._known.get(name, ())))
        self.desk.lists[name] = self._told(name, trouble)
        if self.desk.lists[name] != before:
            log.log(30 if trouble else 20, "servers_listed", list=name, says=self.desk.lists[name])
        self._read.set()

    def _keep(self, name: str, found: tuple[Server, ...]) -> None:
        if found == self._known.get(name):
            return
        self._known[name] = found
        try:
            self.remember(self._known)
        except OSError as error:  # it costs the next life some time, and this one nothing
            log.warning("servers_not_remembered", list=name, detail=str(error))

    def _told(self, name: str, trouble: str) -> str:
        count = len(self._known.get(name, ()))
        kept = f"the {count} server(s) it named last are kept" if name in self._known else "it was never read"
        return f"{trouble}; {kept}" if trouble else f"{count} server(s)"

    def _refuse_twins(self, name: str, found: Iterable[Server]) -> None:
        """One process under two names would be sent two configs in turn."""
        others = {other: servers for other, servers in self._known.items() if other != name}
        names: dict[str, str] = {}
        for where, server in [
            *(("servers of the config", server) for server in self.fixed),
            *((other, server) for other, servers in others.items() for server in servers),
            *((name, server) for server in found),
        ]:
            for key in {f"name {server.name}", f"address {server.address}"}:
                if key in names and where == name:
                    raise Malformed(name, f"the {key} is in {names[key]} already; list every server once")
                names[key] = where

    # --- who is there ---------------------------------------------------------------------------------------------

    async def _settle(self, group: asyncio.TaskGroup) -> None:
        """Begin with those that came, end with those that have been gone long enough."""
        listed = {server.name: server for servers in self._known.values() for server in servers}
        for name, server in listed.items():
            known = self._tasks.get(name)
            if known is not None and known[0] != server:  # the same name elsewhere, or another pod, is another process
                await self._end(name)
            if name not in self._tasks:
                self._tasks[name] = server, group.create_task(self.look_after(server), name=f"server {name}")
        gone = self._gone({*listed, *(server.name for server in self.fixed)})
        for name in gone & self._tasks.keys():
            log.warning("server_left", server=name, seconds=GONE_SECONDS)
            await self._end(name)
        if gone != self.desk.gone:
            self.desk.gone = gone
            self.desk.changed()

    def _gone(self, listed: set[ServerName]) -> frozenset[ServerName]:
        """Who has been on no list for a minute. While a list was never read, nobody can be known to be gone."""
        in_play = {server for rollout in self.desk.live() for server in rollout.present}
        missing = ({*self._tasks, *in_play} - listed) if not self.unread else set()
        now = self.now()
        self._missing = {name: self._missing.get(name, now) for name in missing}
        return frozenset(name for name, since in self._missing.items() if now - since >= GONE_SECONDS)

    async def _end(self, name: ServerName) -> None:
        _, task = self._tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
