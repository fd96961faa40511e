"""One task per server: look, plan, change, look again.

Called again after any crash it looks before it acts, so doing it twice does no
harm. A reload that the server accepted proves nothing; only the next look does.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from haldane.domain.fleet import ModelName, ReplicaView, Server, ServerConfig
from haldane.domain.rollout import Mode
from haldane.engine.desk import Desk
from haldane.ports import ModelServer, PortError, Refused
from haldane.rollout import invariants
from haldane.telemetry import Telemetry

log = structlog.get_logger()

Guard = Callable[[Server, ModelServer], Awaitable[str]]  # why a server must not be changed, or ""
Note = Callable[[str, dict[str, Any]], Awaitable[None]]  # an audit record


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a server is looked at, and how often the same config may be sent again; seconds."""

    live: float = 1.0  # while a rollout is under way there
    rest: float = 5.0
    after_change: float = 0.15
    resend: float = 10.0


@dataclass
class Converge:
    """Keeps one server at what is wanted of it."""

    server: Server
    client: ModelServer
    desk: Desk
    telemetry: Telemetry
    may_act: Callable[[], bool]  # the lease is held
    guard: Guard
    note: Note
    on_view: Callable[[Server, ReplicaView | None], None]
    pace: Pace = field(default_factory=Pace)
    _sent: ServerConfig | None = None
    _sent_at: float = float("-inf")
    _guarded: bool = False
    _failed: tuple[ServerConfig, str] | None = None  # what was sent in vain last, and how it ended
    _unrecorded: list[dict[str, Any]] = field(default_factory=list)  # sent, but the store was gone
    _told_away: bool = False

    async def run(self) -> None:
        changed_models: frozenset[ModelName] = frozenset()
        while True:
            view = await self._look(changed_models)
            changed = view is not None and await self._act(view)
            if changed and self.server.name in self.desk.accepted:
                await self._look(changed_models)  # a label that moved is seen at once; what loads is awaited below
            changed_models = await self._pause(changed=changed)

    async def _look(self, only: frozenset[ModelName] = frozenset()) -> ReplicaView | None:
        """Look at the server and show what was seen; None when it could not be seen.

        `only`: the models whose wanted entry has just changed. A rollback waits
        for no look at the others, of which there may be hundreds; they keep
        what was seen of them last. A restart in between still shows: a process
        that has just started has no history of the canary. Empty: all models.
        """
        name = self.server.name
        known = self.desk.views.get(name)
        probes, proofs = self.desk.probes(), self.desk.proofs()
        if partly := known if only else None:
            probes = {model: labels for model, labels in probes.items() if model in only}
        try:
            view = await self.client.look(probes, proofs)
        except PortError as error:
            if name not in self.desk.trouble:
                log.warning("server_unseen", server=name, reason=error.reason, detail=error.detail)
            self.on_view(self.server, None)
            self.desk.put_view(name, None, trouble=error.detail)
            self._guarded = False  # it may come back as another process with other models
            self.desk.accepted.pop(name, None)
            return None
        if partly:
            view = replace(view, models={**partly.models, **view.models})
        if _shorter(known, view):
            self._guarded = False
            self.desk.accepted.pop(name, None)
        self.on_view(self.server, view)
        self.desk.put_view(name, view)
        return view

    async def _act(self, view: ReplicaView) -> bool:
        """Send the next step if one is due; True when it is worth another look soon.

        Nothing is awaited between the step and its sending: what was decided,
        seen or leased before a wait may not hold after it.
        """
        if self.desk.mode is Mode.OBSERVE or not await self._recorded() or not self.may_act():
            return False
        step = self.desk.step(self.server.name)
        if step is None or not step.due or not self._may_send(step.config):
            return False
        if not self._guarded:
            return await self._cleared()
        seconds = {name: one.model for name, one in self.desk.seconds(self.server.name).items()}
        invariants.check(step.config, view, self.desk.watched, seconds)
        await self._send(step.config, step.why)
        return True

    def _may_send(self, config: ServerConfig) -> bool:
        return config != self._sent or time.monotonic() - self._sent_at >= self.pace.resend

    async def _cleared(self) -> bool:
        """Before the first reload to this process: does it serve anything that our config would unload?"""
        refusal = await self.guard(self.server, self.client)
        self._note_refusal(refusal)
        self._guarded = not refusal
        return self._guarded

    def _note_refusal(self, refusal: str) -> None:
        known = self.desk.refusals.get(self.server.name, "")
        if refusal and refusal != known:
            log.error("enforce_refused", server=self.server.name, why=refusal)
            self.desk.refusals[self.server.name] = refusal
            self.desk.changed()
        elif not refusal and known:
            del self.desk.refusals[self.server.name]

    async def _send(self, config: ServerConfig, why: str) -> None:
        name = self.server.name
        self._sent, self._sent_at = config, time.monotonic()
        self.desk.accepted.pop(name, None)
        try:
            await self.client.reload(config)
            result, detail = "accepted", ""
            self.desk.accepted[name] = config
        except PortError as error:
            result, detail = error.reason, error.detail
            self.desk.trouble[name] = f"the last reload: {error.detail}"
            if isinstance(error, Refused):
                log.warning("reload_refused", server=name, detail=error.detail)
        self.telemetry.fleet.reloads.labels(name, result).inc()
        failed = None if result == "accepted" else (config, result)
        if failed is None or failed != self._failed:  # a failure that repeats itself is only counted
            log.info("config_sent", server=name, why=why, result=result)
            self._unrecorded.append({"server": str(name), "why": why, "result": result, "detail": detail})
            await self._recorded()
        self._failed = failed

    async def _recorded(self) -> bool:
        """What was sent is on record. While the store is gone it is not, and nothing more is sent."""
        while self._unrecorded:
            try:
                await self.note("config_sent", self._unrecorded[0])
            except PortError as error:
                if not self._told_away:
                    log.error("record_not_stored", server=self.server.name, reason=error.reason, detail=error.detail)
                self._told_away = True
                return False
            del self._unrecorded[0]
            self._told_away = False
        return True

    async def _pause(self, *, changed: bool) -> frozenset[ModelName]:
        """Wait for the next look; returns the models whose wanted entry changed meanwhile, when that ended the wait."""
        live = any(self.server.name in rollout.servers for rollout in self.desk.live())
        seconds = self.pace.after_change if changed else self.pace.live if live else self.pace.rest
        until = time.monotonic() + seconds
        before = self._interest()
        while (left := until - time.monotonic()) > 0 and self._interest() == before:
            await self.desk.wait_changed(left)
        now = self.desk.wanted(self.server.name)
        return frozenset(entry.name for entry in now.models if before[0].entry(entry.name) != entry)

    def _interest(self) -> tuple[ServerConfig, int]:
        """What, when it changes, is worth an earlier look."""
        return self.desk.wanted(self.server.name), len(self.desk.rollouts)


def _shorter(before: ReplicaView | None, now: ReplicaView) -> bool:
    """Versions are missing from its history: another process, since one process lists them for good."""
    known = before.models if before else {}
    return any(
        {s.version for s in seen.versions} - {s.version for s in now.models[model].versions}
        for model, seen in known.items()
        if model in now.models
    )
