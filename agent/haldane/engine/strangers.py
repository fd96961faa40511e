"""Calls by whom nobody here knows: on record, and no flood of them fills the store.

The first is recorded at once. What comes in the minute after is counted and
recorded together, so there is one Record a minute at most, of a few lines,
whatever is sent. What they showed as a token is never seen here.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from haldane.ports import PortError, Store, Unavailable
from haldane.telemetry import Telemetry

log = structlog.get_logger()

CALLER_REFUSED = "caller_refused"  # kind of Record
PACE_SECONDS = 60.0
MOST_LINES = 20  # of one Record: different addresses, paths and reasons; more are counted only
MOST_LETTERS = 100  # of a path


@dataclass
class Strangers:
    """Used by the event loop only."""

    store: Store
    telemetry: Telemetry
    pace_seconds: float = PACE_SECONDS
    _lines: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _others: int = 0
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, address: str, path: str, reason: str) -> None:
        """One call was refused. `reason`: one of a few fixed words."""
        self.telemetry.agent.callers_refused.labels(reason).inc()
        self._count((address, path[:MOST_LETTERS], reason), 1)

    def _count(self, line: tuple[str, str, str], calls: int) -> None:
        if line in self._lines or len(self._lines) < MOST_LINES:
            self._lines[line] += calls
        else:
            self._others += calls
        self._came.set()

    async def run(self) -> None:
        """Records what was noted; also what is left when it is cancelled."""
        try:
            while True:
                await self._came.wait()
                with suppress(Unavailable):  # what could not be stored waits for the next time
                    await self._write()
                await asyncio.sleep(self.pace_seconds)
        finally:
            if self._came.is_set():
                with suppress(PortError):
                    await self._write()

    async def _write(self) -> None:
        lines, others = self._lines, self._others
        self._lines, self._others = Counter(), 0
        self._came.clear()
        data = _told(lines, others)
        log.warning(CALLER_REFUSED, why=data["why"])
        try:
            await asyncio.to_thread(self.store.record, CALLER_REFUSED, data)
        except PortError as error:
            log.error("record_not_stored", detail=error.detail)
            self._others += others
            for line, calls in lines.items():
                self._count(line, calls)
            raise


def _told(lines: Counter[tuple[str, str, str]], others: int) -> dict[str, Any]:
    """`why`: the most frequent in words; `others`: calls from more places than there are lines."""
    attempts = lines.total() + others
    callers = [
        {"address": address, "path": path, "reason": reason, "attempts": count}
        for (address, path, reason), count in lines.most_common()
    ]
    first = callers[0]
    why = f"{first['address']}: {first['path']}, {first['reason']}"
    if attempts > 1:
        why += f" ({first['attempts']:,} of {attempts:,} calls)"
    return {"attempts": attempts, "callers": callers, "others": others, "why": why}
