"""The only writer of one rollout: takes events, asks the machine, commits, and only then tells.

Store, then act, then tell: servers follow what the desk shows, and the desk
shows a rollout only once it is durable.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import structlog

from haldane.domain.rollout import Command, Event, Judged, Looked, Rollout, RolloutId, Transition
from haldane.engine.desk import Desk
from haldane.engine.stopwatch import Stopwatch
from haldane.ports import Clock, Refused, StaleWrite, Store, Unavailable
from haldane.rollout.machine import step
from haldane.rollout.ramp import wanted_share
from haldane.telemetry import Telemetry

log = structlog.get_logger()

TICK_SECONDS = 1.0  # deadlines are noticed at least this often
STORE_RETRY_SECONDS = 1.0


@dataclass
class Deliberate:
    """One live rollout's judge's clerk."""

    id: RolloutId
    desk: Desk
    store: Store
    clock: Clock
    on_move: Callable[[Transition], None]
    inbox: asyncio.Queue[tuple[Event, asyncio.Future[Transition] | None]] = field(
        default_factory=lambda: asyncio.Queue(64)
    )
    over: bool = False  # nobody reads the inbox any more
    _watch: Stopwatch = field(default_factory=Stopwatch)

    async def run(self) -> None:
        """Returns when the rollout is over."""
        while (rollout := self.desk.rollout(self.id)) is not None:
            self._watch.follow(_times(rollout), self.clock.now())
            event, reply = await self._next(rollout)
            transition = step(rollout, self._timed(rollout, event))
            if transition.moved:
                await self._commit(transition, event)
            if reply is not None and not reply.done():
                reply.set_result(transition)
        self.over = True
        self._refuse_rest()

    async def judged(self, judged: Judged) -> None:
        await self.inbox.put((judged, None))

    async def command(self, command: Command) -> Transition:
        """What the machine made of a command, stored. Refused when the inbox is full or the rollout is over."""
        if self.over:
            raise Refused(self.id, "the rollout is over")
        reply: asyncio.Future[Transition] = asyncio.get_running_loop().create_future()
        try:
            self.inbox.put_nowait((command, reply))
        except asyncio.QueueFull:
            raise Refused(self.id, "too many commands are waiting; try again") from None
        return await reply

    async def _next(self, rollout: Rollout) -> tuple[Event, asyncio.Future[Transition] | None]:
        """The next event: from the inbox first, else a look at the desk after a change or a tick."""
        if self.inbox.empty():
            waiting = asyncio.create_task(self.desk.wait_changed(TICK_SECONDS))
            getting = asyncio.create_task(self.inbox.get())
            try:
                await asyncio.wait((waiting, getting), return_when=asyncio.FIRST_COMPLETED)
                if getting.done():
                    return getting.result()
            finally:
                waiting.cancel()
                getting.cancel()
            return self.desk.looked(rollout, self.clock.now()), None
        return self.inbox.get_nowait()

    def _timed(self, rollout: Rollout, event: Event) -> Event:
        """The event with how long that has lasted which has a time limit."""
        if isinstance(event, Looked):
            lasted, watched = self._watch.since(rollout.waits_since)
            return replace(event, lasted=lasted, watched=watched)
        if isinstance(event, Judged) and rollout.step_at is not None:
            _, watched = self._watch.since(rollout.step_at)  # while no agent was there, nobody saw it to be taken
            return replace(event, lasted=watched)
        return event

    async def _commit(self, transition: Transition, event: Event) -> None:
        rollout, revision = self.desk.rollouts[self.id]
        after = transition.after
        records = [] if (change := _fleet_change(transition)) is None else [("fleet_changed", change)]
        if after.phase != rollout.phase or _went_on(transition):
            records.append(self._record(transition, event))
        declared = self.desk.declared.get(after.model, after.old)
        settled = None if after.settles is None else (after.model, after.settles, declared)
        told = False
        while True:
            try:
                revision = await asyncio.to_thread(self.store.commit, after, revision, records, settled=settled)
                break
            except StaleWrite:
                if told and (found := await asyncio.to_thread(self.store.rollout, self.id)) == (after, revision + 1):
                    revision = found[1]  # an attempt before this one was stored, and its answer lost
                    break
                raise  # another agent writes this rollout: the safety ring ends this one
            except Unavailable as error:
                if not told:
                    log.error("store_unavailable", rollout=self.id, detail=error.detail)
                told = True
                await asyncio.sleep(STORE_RETRY_SECONDS)
        self._watch.follow(_times(after), self.clock.now(), fresh=True)
        self.desk.put_rollout(after, revision)
        if change is not None:
            log.info("fleet_changed", rollout=self.id, model=after.model, why=change["why"])
        if records and records[-1][0] == "phase_changed":
            log.info("phase_changed", rollout=self.id, model=after.model, phase=after.phase, why=transition.why)
        self.on_move(transition)

    def _record(self, transition: Transition, event: Event) -> tuple[str, dict[str, Any]]:
        before, after = transition.before, transition.after
        data: dict[str, Any] = {"from": before.phase, "to": after.phase, "why": transition.why}
        data["promoted"] = list(after.promoted)
        if after.plan.traffic_steps:
            data["share"] = wanted_share(after)
        if isinstance(event, Command):
            data["command"], data["by"] = event.kind, event.by
        if ruling := self.desk.rulings.get(self.id):
            data["ruling"] = asdict(ruling)
        data["labels"] = self.desk.labels(after.model, after.servers)
        return "phase_changed", data

    def _refuse_rest(self) -> None:
        while not self.inbox.empty():
            _, reply = self.inbox.get_nowait()
            if reply is not None and not reply.done():
                reply.set_exception(Refused(self.id, "the rollout is over"))


def _times(rollout: Rollout) -> tuple[float, ...]:
    """When that began which has a time limit."""
    step = () if rollout.step_at is None else (rollout.step_at,)
    return rollout.phase_since, rollout.joined_at, *step


def _fleet_change(transition: Transition) -> dict[str, Any] | None:
    """Which servers came to the rollout or left it, for the audit log; None when they are the same."""
    before, after = transition.before.present, transition.after.present
    came, left = [one for one in after if one not in before], [one for one in before if one not in after]
    told = [f"{word}: {', '.join(names)}" for word, names in (("joined", came), ("left", left)) if names]
    return {"why": "; ".join(told), "joined": came, "left": left} if told else None


def _went_on(transition: Transition) -> bool:
    """Within its phase: more servers, another step of traffic, one that begins anew, an approval."""
    before, after = transition.before, transition.after
    moved = (before.promoted, before.step) != (after.promoted, after.step) or before.phase_since != after.phase_since
    return moved or before.approvals != after.approvals


__all__ = ["Deliberate", "Looked", "Telemetry"]
