"""The right to act: one agent per store, noticed at once when the last one died here.

Serving checks no token, so the lease must be held before anything is sent, and
acting stops before it ends. It may run out while the store is away and be held
again after; once another agent has had it, what this one knows is old, and it is
lost for good. Hosts that share a store must agree on the time to a second or two.
"""

import asyncio
import os
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from haldane.engine.apart import Apart
from haldane.ports import PortError, Store

log = structlog.get_logger()


@dataclass
class Lease:
    """Taken and renewed for as long as `run` runs."""

    store: Store
    seconds: float = 10.0
    lost: bool = False  # another agent has had it since this one did
    # Two containers may share a host name and both be process 1.
    name: str = field(default_factory=lambda: f"{_here()}-{secrets.token_hex(4)}")
    _thread: Apart = field(default_factory=lambda: Apart(1))  # whatever else fills the others, it is renewed
    _until: float = 0.0
    _had: bool = False
    _away: bool = False  # the store did not answer last time
    _waiting_for: str = ""

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
            got = await self._thread.ask("renew", self._take)
        except PortError as error:
            if not self._away:
                log.error("lease_not_renewed", detail=error.detail)
            self._away = True
            return
        self._away = False
        if got:
            self._until, self._waiting_for, self._had = started + self.seconds, "", True
        else:
            self._until, self.lost = 0.0, self._had

    def _take(self) -> bool:
        # It keeps its holder's name when it runs out, until another takes it.
        if self._had and self.store.lease_holder() != self.name:
            return False
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
            await self._thread.ask("release", lambda: self.store.release_lease(self.name))  # after a renewal under way


def _here(pid: int | None = None) -> str:
    """Host, process and process namespace, in which alone the process number means something."""
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        namespace = "0"
    return f"{socket.gethostname()}:{os.getpid() if pid is None else pid}:{namespace}"


def _dead_here(holder: str) -> bool:
    """The holder ran on this host and its process is gone (killed, say), so its lease need not run out."""
    where = holder.rpartition("-")[0]
    pid = where.split(":")[-2] if where.count(":") >= 2 else ""
    if not pid.isdecimal() or where != _here(int(pid)):
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
