"""One task per gateway: look, set the share that is wanted, look again.

Beside the tasks of the servers and woken by the same change, so that on a
rollback users leave the canary's servers while the labels there go back, and
neither waits for the other. What was set counts only once it was read back.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from haldane.domain.rollout import Mode
from haldane.engine.converge import Note
from haldane.engine.desk import Desk
from haldane.ports import PortError, Router
from haldane.rollout import invariants
from haldane.rollout.ramp import GatewayView, taken
from haldane.telemetry import Telemetry

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class GatewayPace:
    """How often a gateway is looked at, and how often the same share may be set again; seconds."""

    live: float = 1.0  # while a rollout with steps is under way
    rest: float = 5.0
    resend: float = 2.0


@dataclass
class Gateway:
    """Keeps one gateway at the share that is wanted of it, and leaves it alone when none is."""

    name: str
    router: Router
    desk: Desk
    telemetry: Telemetry
    may_act: Callable[[], bool]  # the lease is held
    note: Note
    pace: GatewayPace = field(default_factory=GatewayPace)
    _set: float | None = None  # the share that was set last
    _set_at: float = float("-inf")
    _noted: float | None = None  # the share whose order is on record
    _refused: str = ""  # why the last order was not taken
    _trouble: str = ""

    async def run(self) -> None:
        while True:
            wanted = self.desk.wanted_share()
            await self._look()
            if await self._act():
                await self._look()
            await self._pause(wanted)

    async def _look(self) -> None:
        try:
            view = GatewayView(await self.router.share(), self._refused)
            self._told("")
        except PortError as error:
            view = GatewayView(None, error.detail)
            self._told(error.detail)
        self.desk.put_gateway(self.name, view)
        self.telemetry.gateway.share_seen.labels(self.name).set(float("nan") if view.share is None else view.share)
        self.telemetry.gateway.share_wanted.labels(self.name).set(self.desk.wanted_share() or 0.0)

    def _told(self, trouble: str) -> None:
        if trouble and not self._trouble:
            log.warning("gateway_unseen", gateway=self.name, detail=trouble)
        self._trouble = trouble

    async def _act(self) -> bool:
        """Set the wanted share unless it is seen already; True when it is worth another look at once.

        Also when the gateway could not be read: an order is absolute, so it can only be right or lost.
        """
        wanted = self.desk.wanted_share()
        if wanted is None:
            self._set = self._noted = None
            self._refused = ""
        if wanted is None or self.desk.mode is Mode.OBSERVE or not self._due(wanted):
            return False
        if not self.may_act() or not await self._on_record(wanted):
            return False
        if self.desk.wanted_share() != wanted or not self.may_act():  # it may have changed while the record was stored
            return True
        invariants.check_share(wanted, self.desk.live())
        await self._order(wanted)
        return True

    def _due(self, wanted: float) -> bool:
        seen = self.desk.gateways[self.name].share
        if seen is not None and taken(wanted, seen):
            return False
        return wanted != self._set or time.monotonic() - self._set_at >= self.pace.resend

    async def _order(self, wanted: float) -> None:
        self._set, self._set_at = wanted, time.monotonic()
        try:
            await self.router.set_share(wanted)
            result, self._refused = "accepted", ""
        except PortError as error:
            result, self._refused = error.reason, error.detail
        self.telemetry.gateway.orders.labels(self.name, result).inc()
        log.info("share_set", gateway=self.name, share=wanted, result=result)

    async def _on_record(self, wanted: float) -> bool:
        """The order is on record before it is given; while the store is gone none is."""
        if self._noted == wanted:
            return True
        seen = self.desk.gateways[self.name].share
        try:
            await self.note("share_set", {"gateway": self.name, "share": wanted, "seen": seen})
        except PortError as error:
            log.error("record_not_stored", gateway=self.name, reason=error.reason, detail=error.detail)
            return False
        self._noted = wanted
        return True

    async def _pause(self, before: float | None) -> None:
        """Wait for the next look; not at all where another share is wanted than before this one."""
        until = time.monotonic() + (self.pace.rest if before is None else self.pace.live)
        while (left := until - time.monotonic()) > 0 and self.desk.wanted_share() == before:
            await self.desk.wait_changed(left)
