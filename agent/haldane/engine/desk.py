"""The desk: what is stored and what is seen, side by side in memory.

Rollouts get here only after they are committed, views only from a look. Tasks
read it and are woken when it changes; what a server should hold is worked out
from it afresh each time.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from haldane.domain.evidence import Ruling
from haldane.domain.fleet import Clients, ModelName, Placement, ReplicaView, Server, ServerConfig, ServerName
from haldane.domain.rollout import Looked, Mode, Phase, Progress, Rollout, RolloutId
from haldane.domain.traffic import Request
from haldane.domain.vouched import Standing, Vouched
from haldane.rollout.planner import Step, next_step, progress, unproven
from haldane.rollout.ramp import GatewayView, gateway_progress, wanted_of
from haldane.rollout.second import Second, seconds
from haldane.rollout.wanted import CANARY, STABLE, Watched, compose, has_second_name, second_name, standing


@dataclass
class Desk:
    """One per agent. Only the event loop touches it, so it needs no locks."""

    mode: Mode
    servers: dict[ServerName, Server]  # those of the config, and those that a list has or had a moment ago
    base: ServerConfig
    watched: dict[ModelName, Watched]
    declared: dict[ModelName, int] = field(default_factory=dict)  # the stable version the config says
    golden: dict[ModelName, Request] = field(default_factory=dict)
    rollouts: dict[RolloutId, tuple[Rollout, int]] = field(default_factory=dict)  # live ones, with revision
    ended: dict[ModelName, Rollout] = field(default_factory=dict)  # the last whose canary had a name of its own
    rulings: dict[RolloutId, Ruling] = field(default_factory=dict)  # the newest of each
    views: dict[ServerName, ReplicaView | None] = field(default_factory=dict)
    trouble: dict[ServerName, str] = field(default_factory=dict)  # why the last look or reload failed
    gone: frozenset[ServerName] = frozenset()  # of live rollouts' servers, those that no list has any more
    refusals: dict[ServerName, str] = field(default_factory=dict)  # why this server is not ours to change
    gateways: dict[str, GatewayView] = field(default_factory=dict)  # every gateway of the config, as last seen
    accepted: dict[ServerName, ServerConfig] = field(default_factory=dict)  # the config a server took last
    stalled: dict[ModelName, str] = field(default_factory=dict)  # why no pair of a live rollout is sent just now
    lists: dict[str, str] = field(default_factory=dict)  # list of servers -> how reading it stands, in words
    boot: dict[str, str] = field(default_factory=dict)  # config that servers boot with -> how it stands, in words
    vouches: bool = False  # files are compared with their manifest before a label is set
    vouched: dict[tuple[RolloutId, bool], Vouched] = field(default_factory=dict)  # by rollout, and whether it promotes
    frozen: Callable[[ModelName, float], str] = lambda model, at: ""  # why nothing may go forward at that time, or ""
    _waiting: set[asyncio.Event] = field(default_factory=set)

    def changed(self) -> None:
        """Wake everyone who waits for the desk to change."""
        for event in self._waiting:
            event.set()

    async def wait_changed(self, seconds: float) -> None:
        """Return at the next change, or after so many seconds."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(event)

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self.wait_changed(5.0)

    def live(self) -> Iterable[Rollout]:
        return (rollout for rollout, _ in self.rollouts.values())

    def rollout(self, rollout: RolloutId) -> Rollout | None:
        found = self.rollouts.get(rollout)
        return found[0] if found else None

    def put_rollout(self, rollout: Rollout, revision: int) -> None:
        """What has just been committed. A final rollout leaves the desk; one that moved the stable version says so.

        A live rollout of a model whose stable version nobody declared (observe mode) says it itself.
        """
        if rollout.phase.final:
            self.rollouts.pop(rollout.id, None)
            self.put_ended(rollout)
            self.vouched = {key: found for key, found in self.vouched.items() if key[0] != rollout.id}
        else:
            self.rollouts[rollout.id] = (rollout, revision)
            if rollout.model not in self.watched and self.base.entry(rollout.model):
                released = not rollout.first
                self.put_stable(
                    rollout.model, rollout.old, rollout.old, rollout.clients, provable=False, released=released
                )
        if rollout.settles is not None and rollout.model in self.watched:
            at_rest = self.watched[rollout.model]
            self.watched[rollout.model] = replace(at_rest, stable=rollout.settles, released=True)
        self.changed()

    def put_ended(self, rollout: Rollout) -> None:
        """It is over, and the last of its model. Of one whose canary had its own name something may come back late."""
        if rollout.phase.final and has_second_name(rollout):
            self.ended[rollout.model] = rollout

    def put_stable(
        self,
        model: ModelName,
        stable: int,
        declared: int,
        clients: Clients,
        *,
        provable: bool,
        released: bool = True,
    ) -> None:
        """What is known of a model at rest."""
        self.watched[model] = Watched(stable, clients, provable, released)
        self.declared[model] = declared

    def put_server(self, server: Server) -> None:
        """It has come to the fleet."""
        self.servers[server.name] = server
        self.changed()

    def drop_server(self, name: ServerName) -> None:
        """It has left the fleet, and with it all that was seen of it."""
        for known in (self.servers, self.views, self.trouble, self.refusals, self.accepted):
            known.pop(name, None)
        self.changed()

    def put_view(self, server: ServerName, view: ReplicaView | None, trouble: str = "") -> None:
        self.views[server] = view
        if trouble:
            self.trouble[server] = trouble
        elif server in self.trouble and view is not None:
            del self.trouble[server]
        self.changed()

    def put_vouched(self, rollout: Rollout, found: Vouched) -> None:
        """The files of its new version have been compared with their manifest, at this stage of the rollout."""
        self.vouched[rollout.id, bool(rollout.promoted)] = found
        self.changed()

    def awaits_vouching(self, rollout: Rollout) -> bool:
        """Whether no label may be moved to its new version before its files have been compared."""
        return (
            self.vouches
            and rollout.reverts is None
            and standing(rollout) in (Phase.LOADING, Phase.SHADOWING, Phase.RAMPING, Phase.PROMOTING, Phase.BAKING)
            and (rollout.id, bool(rollout.promoted)) not in self.vouched
        )

    def _doubted(self, rollout: Rollout) -> bool:
        """Its files have not been compared, or are not what was published, which the machine has yet to act on."""
        found = self.vouched.get((rollout.id, bool(rollout.promoted)))
        changed = found is not None and found.standing is Standing.CHANGED
        return self.awaits_vouching(rollout) or changed

    def wanted(self, server: ServerName) -> ServerConfig:
        """The config that server should have; a rollout that was started to observe changes nothing of it."""
        return compose(self.base, self.watched, (r for r in self.live() if r.mode is Mode.ENFORCE), server)

    def seconds(self, server: ServerName) -> dict[ModelName, Second]:
        """The second names of canaries that may be on that server."""
        live, ended = ([r for r in some if server in r.servers] for some in (self.live(), self.ended.values()))
        return seconds(live, self.awaits_vouching, ended)

    def wanted_share(self) -> float | None:
        """The share, 0 to 1, that every gateway should send to the canary's servers; None: they are left alone."""
        return wanted_of(r for r in self.live() if r.mode is Mode.ENFORCE)

    def put_gateway(self, name: str, view: GatewayView) -> None:
        if self.gateways.get(name) != view:
            self.gateways[name] = view
            self.changed()

    def decided(self, server: ServerName) -> ServerConfig:
        """The config that server should have, without the labels of models we do not look after: nobody probes them.

        A canary's second name is left out, too: what it holds on the way is not what it should hold in the end.
        """
        entries = [one for one in self.wanted(server).models if self.base.entry(one.name)]
        return ServerConfig(tuple(one if one.name in self.watched else replace(one, labels={}) for one in entries))

    def step(self, server: ServerName) -> Step | None:
        """The next step of that server; None when it cannot be seen or is not ours to change."""
        view = self.views.get(server)
        if view is None or self.mode is Mode.OBSERVE:
            return None
        for rollout in self.live():
            if self._doubted(rollout):
                view = unproven(view, rollout.model, rollout.new)
        accepted, seconds = self.accepted.get(server), self.seconds(server)
        return next_step(self.wanted(server), view, self.watched, accepted, seconds)

    def looked(self, rollout: Rollout, at: float) -> Looked:
        """How far every server of a rollout is, as an event for the machine."""
        found = {server: self._progress(rollout, server) for server in rollout.present}
        joined = tuple(server for server in self.servers if server not in rollout.present)
        own = rollout.placement is Placement.OWN_REPLICAS
        gateway, gateway_why = gateway_progress(rollout, self.gateways)
        return Looked(
            at=at,
            progress={server: what for server, (what, _) in found.items()},
            detail={server: why for server, (_, why) in found.items()},
            joined=joined,
            dedicated=tuple(server for server in joined if own and self.servers[server].dedicated_canary),
            gone=self.gone.intersection(rollout.present),
            gateway=Progress.SETTLED if rollout.mode is Mode.OBSERVE else gateway,
            gateway_detail=gateway_why,
        )

    def _progress(self, rollout: Rollout, server: ServerName) -> tuple[Progress, str]:
        if rollout.mode is Mode.ENFORCE and self.mode is Mode.OBSERVE:
            # What happens to be loaded must not pass for a label that was never set.
            return Progress.BEHIND, "this agent runs in observe mode and changes no server"
        if rollout.mode is Mode.ENFORCE and server in self.refusals:
            return Progress.BEHIND, self.refusals[server]
        found = self.vouched.get((rollout.id, bool(rollout.promoted)))
        if found and found.standing is Standing.CHANGED and not rollout.phase.withdrawing:
            return Progress.FAILED, f"version {rollout.new} is not what was published: {found.why}"
        step = self.step(server) if rollout.mode is Mode.ENFORCE else None
        view = self.views.get(server)
        if view is not None and self.awaits_vouching(rollout):
            view = unproven(view, rollout.model, rollout.new)
        what, why = progress(rollout, server, view, step)
        return what, why if what is Progress.SETTLED else f"{why} ({self.trouble[server]})" if (
            server in self.trouble
        ) else why

    def probes(self) -> dict[ModelName, list[str]]:
        """The labels to probe, by model: ours, and those the base config names. A canary's second name has none."""
        named = (*self.live(), *self.ended.values())
        apart: dict[ModelName, list[str]] = {second_name(one.model): [] for one in named if has_second_name(one)}
        return apart | {
            entry.name: sorted({STABLE, CANARY, *entry.labels})
            if entry.name in self.watched or self.mode is Mode.OBSERVE
            else []
            for entry in self.base.models
        }

    def proofs(self) -> dict[ModelName, list[tuple[int, Request]]]:
        """The golden requests each version in play must answer before it may be labelled.

        The new version of a rollout is asked only when it is known which answers are recorded of it.
        """
        asked: dict[ModelName, dict[int, list[Request]]] = {}
        for model, watched in self.watched.items():
            if model in self.golden:
                asked[model] = {watched.stable: [self.golden[model]]}
        for rollout in self.live():
            if rollout.model in asked:
                first = [self.golden[rollout.model]]
                found = self.vouched.get((rollout.id, bool(rollout.promoted)))
                recorded = list(found.golden) if found else []
                asked[rollout.model] |= {rollout.old: first, rollout.new: [*first, *recorded]}
                if self.awaits_vouching(rollout):
                    del asked[rollout.model][rollout.new]
                elif has_second_name(rollout):
                    asked[second_name(rollout.model)] = {rollout.new: [*first, *recorded]}
        return {
            model: [(version, request) for version in sorted(versions) for request in versions[version]]
            for model, versions in asked.items()
        }

    def labels(self, model: ModelName, servers: Iterable[ServerName]) -> dict[str, dict[str, int | None]]:
        """server -> label -> version as last seen; "(unversioned)" is what answers requests naming neither."""
        shown = {}
        for server in servers:
            view = self.views.get(server)
            if view is not None and model in view.models:
                seen = view.models[model]
                shown[str(server)] = {**dict(sorted(seen.labels.items())), "(unversioned)": seen.unversioned}
        return shown
