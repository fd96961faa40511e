"""What loading a version took on each server: resident bytes and seconds, as far as it was watched.

Serving tells neither per version. Memory is the process's, read before the
load began and once it was over; a load that was not alone, or not watched from
before its beginning, gives no figure rather than a wrong one. Seconds are
those between looks, so they are right to about one look.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from haldane.domain.fleet import Availability, ModelName, ReplicaView, Server, ServerName
from haldane.domain.release import Load
from haldane.ports import PortError, ProcessMeter

log = structlog.get_logger()

Key = tuple[ModelName, int]
_UNDER_WAY = (Availability.START, Availability.LOADING)
SAMPLE_SECONDS = 5.0
FRESH_SECONDS = 4 * SAMPLE_SECONDS  # what was resident longer ago says nothing of the moment before a load


@dataclass
class _Load:
    """A load under way: when it was first seen, when it was last not seen, and whether another ran meanwhile."""

    seen: float
    not_yet: float
    alone: bool = True


@dataclass
class _Watched:
    """One server: its last look, what is loading, and what was resident when."""

    at: float | None = None  # of the last look; None: not seen then
    states: dict[Key, Availability] = field(default_factory=dict)
    loads: dict[Key, _Load] = field(default_factory=dict)
    ended: dict[Key, float] = field(default_factory=dict)  # resident bytes before, of loads whose after is to be read
    samples: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=8))


class Footprints:
    """Fed by `on_view`; `run` reads what is resident. `bytes_of` and `seconds_of` are the facts so far."""

    def __init__(
        self,
        meters: Mapping[ServerName, ProcessMeter],
        *,
        now: Callable[[], float] = time.monotonic,
        every_seconds: float = SAMPLE_SECONDS,
    ) -> None:
        self._meters, self._now, self._every = meters, now, every_seconds
        self._servers: dict[ServerName, _Watched] = {}
        self._bytes: dict[tuple[ServerName, Key], float] = {}
        self._seconds: dict[tuple[ServerName, Key], float] = {}
        self._wake = asyncio.Event()

    def bytes_of(self, server: ServerName, model: ModelName, version: int) -> float | None:
        """Resident bytes that its load added; None when that is not known."""
        return self._bytes.get((server, (model, version)))

    def seconds_of(self, server: ServerName, model: ModelName, version: int) -> float | None:
        """Seconds between the looks that saw its load begin and end; None when that is not known."""
        return self._seconds.get((server, (model, version)))

    def loads(self) -> tuple[Load, ...]:
        """All that is known so far, by server, model and version."""
        keys = sorted({*self._bytes, *self._seconds})
        return tuple(
            Load(
                server=server,
                model=model,
                version=version,
                seconds=self.seconds_of(server, model, version),
                bytes=self.bytes_of(server, model, version),
            )
            for server, (model, version) in keys
        )

    def drop(self, server: ServerName) -> None:
        """It has left the fleet."""
        self._servers.pop(server, None)
        self._bytes = {key: value for key, value in self._bytes.items() if key[0] != server}
        self._seconds = {key: value for key, value in self._seconds.items() if key[0] != server}

    # --- looks -------------------------------------------------------------------

    def on_view(self, server: Server, view: ReplicaView | None) -> None:
        """A look at one server has ended; None: it could not be seen, so it may be another process when it is again."""
        watched = self._servers.setdefault(server.name, _Watched())
        if view is None:
            self._servers[server.name] = _Watched()
            return
        at = self._now()
        states = {
            (model, status.version): status.availability
            for model, seen in view.models.items()
            for status in seen.versions
        }
        if watched.at is not None:
            for key, state in states.items():
                self._step(server.name, watched, watched.at, at, key, state)
        watched.at, watched.states = at, states

    def _step(
        self, server: ServerName, watched: _Watched, before: float, at: float, key: Key, state: Availability
    ) -> None:
        was = watched.states.get(key)
        began = state in _UNDER_WAY or (state is Availability.AVAILABLE and was is not Availability.AVAILABLE)
        if began and key not in watched.loads:
            first = watched.loads[key] = _Load(seen=at, not_yet=before)
            if len(watched.loads) > 1 or watched.ended:
                first.alone = False
                for load in watched.loads.values():
                    load.alone = False
        if state is Availability.AVAILABLE and key in watched.loads:
            self._end(server, watched, at, key, watched.loads.pop(key))
        elif state in (Availability.UNLOADING, Availability.END):
            watched.loads.pop(key, None)

    def _end(self, server: ServerName, watched: _Watched, at: float, key: Key, load: _Load) -> None:
        self._seconds[server, key] = at - (load.seen if load.seen < at else load.not_yet)
        self._bytes.pop((server, key), None)  # of an earlier load
        known = [
            value
            for moment, value in watched.samples
            if moment <= load.not_yet and load.not_yet - moment <= FRESH_SECONDS
        ]
        if known and load.alone:
            watched.ended[key] = known[-1]
            self._wake.set()

    # --- samples -----------------------------------------------------------------

    async def run(self) -> None:
        """Read what is resident, regularly and when a load has ended, until cancelled."""
        while True:
            self._wake.clear()
            await asyncio.gather(*(self._sample(server, meter) for server, meter in self._meters.items()))
            try:
                async with asyncio.timeout(self._every):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _sample(self, server: ServerName, meter: ProcessMeter) -> None:
        watched = self._servers.setdefault(server, _Watched())
        waiting = dict(watched.ended)  # loads that ended before this reading began
        at = self._now()
        try:
            value = await meter.resident_bytes()
        except PortError as error:
            log.debug("resident_bytes_unknown", server=server, why=str(error))
            return
        watched.samples.append((at, value))
        for key, before in waiting.items():
            if watched.ended.pop(key, None) is not None:
                self._bytes[server, key] = max(0.0, value - before)
