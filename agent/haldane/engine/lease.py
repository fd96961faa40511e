"""The right to act: one agent per store, noticed at once when the last one died here.

Serving checks no token, so the lease must be held before anything is sent, and
acting stops before it ends.
"""

import asyncio
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

import structlog

from haldane.ports import PortError, Store

log = structlog.get_logger()


@dataclass
class Lease:
    """Taken and renewed for as long as `run` runs."""

    store: Store
    seconds: float = 10.0
    _until: float = 0.0
    _waiting_for: str = ""

    @property
    def name(self) -> str:
        return f"{socket.gethostname()}:{os.getpid()}"

    def held(self) -> bool:
        """False from a moment before it ends, so that nothing is sent after."""
        return time.monotonic() < self._until - self.seconds / 5

    async def run(self) -> None:
        while True:
            await self.renew()
            await asyncio.sleep(self.seconds / 4)

    async def renew(self) -> None:
        started = time.monotonic()
        try:
            got = await asyncio.to_thread(self._take)
        except PortError as error:
            log.error("lease_not_renewed", detail=error.detail)
            return
        if got:
            self._until, self._waiting_for = started + self.seconds, ""
        else:
            self._until = 0.0

    def _take(self) -> bool:
        if self.store.hold_lease(self.name, seconds=self.seconds):
            return True
        holder = self.store.lease_holder()
        if holder and _dead_here(holder):
            self.store.release_lease(holder)
            return self.store.hold_lease(self.name, seconds=self.seconds)
        if holder and holder != self._waiting_for:
            log.warning("lease_held_by_another", holder=holder)
            self._waiting_for = holder
        return False

    async def release(self) -> None:
        self._until = 0.0
        with suppress(PortError):
            await asyncio.to_thread(self.store.release_lease, self.name)


def _dead_here(holder: str) -> bool:
    """The holder ran on this host and its process is gone (killed, say), so its lease need not run out."""
    host, _, pid = holder.rpartition(":")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
