"""One subtree of tasks per live rollout: its judging and its deliberation.

Recovery is the same call once more: whatever the store has live is taken up.
An unexpected error in a subtree ends the process (the safety ring); the store
and the servers then tell the next one all it needs.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from haldane.domain.evidence import Ruling
from haldane.domain.rollout import Command, Rollout, RolloutId, Transition
from haldane.engine.deliberate import Deliberate
from haldane.engine.desk import Desk
from haldane.engine.judging import Judging, Readings, Shadow, no_readings
from haldane.engine.labels import Labels
from haldane.ports import Clock, Refused, Store, Unavailable

log = structlog.get_logger()

CONFIRM_SECONDS = 1.0  # between two looks for what may have been stored


@dataclass
class Supervisor:
    """Keeps a subtree for every live rollout."""

    desk: Desk
    store: Store
    clock: Clock
    shadow: Shadow
    on_ruling: Callable[[Rollout, Ruling], None]
    on_move: Callable[[Transition], None]
    labels: Labels
    readings: Readings = no_readings
    taken_up: bool = False  # the desk shows every live rollout: before that nobody may act on it
    _running: dict[RolloutId, Deliberate] = field(default_factory=dict)
    _unconfirmed: set[RolloutId] = field(default_factory=set)  # to be stored, and the store did not say that it was
    _arrivals: asyncio.Queue[RolloutId] = field(default_factory=lambda: asyncio.Queue(1000))

    async def run(self) -> None:
        """Keep a subtree for each rollout, from `take_up` on."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_confirming(), name="unconfirmed starts")
            while True:
                name = await self._arrivals.get()
                group.create_task(self._run_one(name), name=f"rollout {name}")

    async def take_up(self) -> None:
        """Everything that is live in the store, once, when the lease is held."""
        for rollout, revision in await asyncio.to_thread(self.store.live):
            self.take(rollout, revision)
        self.taken_up = True

    async def start(self, rollout: Rollout, data: dict[str, Any]) -> None:
        """Store a new rollout and take it up. Unavailable: it is not known whether it was stored (`confirm`)."""
        try:
            revision = await asyncio.to_thread(self.store.commit, rollout, None, [("rollout_started", data)])
        except Unavailable:
            self._unconfirmed.add(rollout.id)
            raise
        self.take(rollout, revision)

    async def confirm(self) -> None:
        """Take up what was stored though the answer was lost: else it would begin by itself at the next restart.

        Unavailable while the store is away; until then nothing else may be started.
        """
        for name in tuple(self._unconfirmed):
            found = await asyncio.to_thread(self.store.rollout, name)
            if name not in self._unconfirmed:
                continue  # somebody else asked meanwhile
            self._unconfirmed.remove(name)
            if found is not None:
                log.warning("rollout_was_stored", rollout=name, why="the store did not confirm it when it was started")
                self.take(*found)

    async def _keep_confirming(self) -> None:
        while True:
            await asyncio.sleep(CONFIRM_SECONDS)
            with suppress(Unavailable):
                await self.confirm()

    def take(self, rollout: Rollout, revision: int) -> None:
        self._running[rollout.id] = Deliberate(
            id=rollout.id, desk=self.desk, store=self.store, clock=self.clock, on_move=self.on_move
        )
        self.desk.put_rollout(rollout, revision)
        self._arrivals.put_nowait(rollout.id)

    async def command(self, rollout: RolloutId, command: Command) -> Transition:
        """Refused when the rollout is over; Unavailable where another agent has it, or may have."""
        deliberate = self._running.get(rollout)
        if deliberate is None and not self.taken_up:
            raise Unavailable(rollout, "this agent stands by: another one acts, or none does yet; give it to that one")
        if deliberate is None:
            raise Refused(rollout, "the rollout is over")
        return await deliberate.command(command)

    async def _run_one(self, name: RolloutId) -> None:
        deliberate = self._running[name]
        judging = Judging(
            id=name,
            desk=self.desk,
            store=self.store,
            clock=self.clock,
            shadow=self.shadow,
            on_ruling=self.on_ruling,
            tell=deliberate.judged,
            labels=self.labels,
            readings=self.readings,
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(judging.run(), name=f"judging {name}")
                group.create_task(deliberate.run(), name=f"deliberate {name}")
        finally:
            self._running.pop(name, None)
            self.desk.rulings.pop(name, None)
