"""The agent as the API sees it: what it knows, and how rollouts are started and commanded."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

import haldane
from haldane.adapters.archive import case_of, packed
from haldane.app.candidate import Candidate, check_number
from haldane.app.gateways import check_gateways
from haldane.app.headroom import nothing_known_of_room
from haldane.app.history import History
from haldane.app.tapwatch import TapWatch
from haldane.config import Config
from haldane.domain.evidence import Ruling
from haldane.domain.fleet import Condition, ModelName, ServerName
from haldane.domain.labels import Label, Receipt
from haldane.domain.people import Person, Right
from haldane.domain.record import Record
from haldane.domain.release import Announcement, Hold, Load
from haldane.domain.rollout import Command, CommandKind, Mode, Rollout, RolloutId, Transition
from haldane.engine.apart import Apart
from haldane.engine.desk import Desk
from haldane.engine.holds import Holds
from haldane.engine.intake import Intake
from haldane.engine.judging import rules_of
from haldane.engine.labels import Labels
from haldane.engine.supervisor import Supervisor
from haldane.engine.withdrawals import Withdrawals
from haldane.ports import Clock, Refused, Router, Store, Unavailable
from haldane.release.vouch import content_of
from haldane.web.problem import Unknown
from haldane.web.story import AgentStatus, Story

log = structlog.get_logger()


Prepare = Callable[[ModelName], Awaitable[None]]  # opens the model's traffic source; PortError when it cannot
Clear = Callable[[ServerName], Awaitable[str]]  # why a server must not be changed, or ""


@dataclass
class Agent:
    """Implements `web.api.Agent` over the desk, the store and the supervisor."""

    config: Config
    desk: Desk
    store: Store
    clock: Clock
    supervisor: Supervisor
    history: History
    labels: Labels
    conditions: Callable[[], Sequence[Condition]]
    prepare: Prepare
    clear: Clear
    loads: Callable[[], tuple[Load, ...]] = tuple
    room: Callable[[ModelName, int], Awaitable[list[str]]] = nothing_known_of_room
    routers: Mapping[str, Router] = field(default_factory=dict)
    unusable: Callable[[], Mapping[ModelName, Mapping[str, int]]] = dict
    tap: TapWatch = field(default_factory=TapWatch)
    unread: Callable[[], Sequence[str]] = list  # lists of servers that were never read
    registry: Mapping[ModelName, str] = field(default_factory=dict)  # model -> how its aliases stand
    waiting: dict[str, str] = field(default_factory=dict)  # what is not ready yet -> why
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)  # two at once would both find no other rollout
    _storage: Apart = field(default_factory=Apart)
    intake: Intake = field(init=False)  # it starts rollouts of this agent
    held: Holds = field(init=False)
    withdrawals: Withdrawals = field(init=False)

    def __post_init__(self) -> None:
        self.held = Holds(self.store, self.clock)
        self.withdrawals = Withdrawals(self.store, self._content)

    def _content(self, model: ModelName, version: int) -> str:
        published = self.config.models[model].published or ""
        return content_of(self.config.base_path(model), version, published=published, model=model)

    def local(self, said: str) -> str:
        return self.config.local_name(said)

    def full(self, model: str) -> str:
        return self.config.full_name(model)

    def unready(self) -> Sequence[str]:
        unseen = [
            f"server {server} has not been looked at yet"
            for server in self.desk.servers
            if server not in self.desk.views
        ]
        return [*self.not_ready(), *unseen]

    def not_ready(self) -> list[str]:
        """Why nothing may be started now, one sentence each."""
        return [*self.waiting.values(), *self.unread()]

    def status(self) -> AgentStatus:
        stable: Mapping[ModelName, int | None] = {
            **{ModelName(name): None for name in self.config.models},
            **{name: one.stable if one.released else None for name, one in self.desk.watched.items()},
        }
        return AgentStatus(
            at=self.clock.now(),
            version=haldane.__version__,
            mode=self.desk.mode,
            servers=tuple(self.desk.servers.values()),
            seen=dict(self.desk.views),
            stable=stable,
            namespaces={ModelName(name): one.namespace for name, one in self.config.models.items() if one.namespace},
            rollouts=tuple(self.desk.live()),
            conditions=tuple(self.conditions()),
            unusable=self.unusable(),
            stalled=dict(self.desk.stalled),
            tap=self.tap.counts,
            tap_away=self.tap.away,
            lists=dict(self.desk.lists),
            registry=dict(self.registry),
            holds=self.held.known(),
            loads=self.loads(),
            boot=dict(self.desk.boot),
            announced=tuple(
                f"version {one.version} of {one.model} was announced and waits{f': {why}' if why else ''}"
                for one, why in self.intake.waiting()
            ),
            gateways=dict(self.desk.gateways),
            share=self.desk.wanted_share(),
            trouble={str(server): why for server, why in (self.desk.trouble | self.desk.refusals).items()},
        )

    # --- rollouts -------------------------------------------------------------------------------------------------

    async def start(self, model: str, version: int, *, by: str, why: str, announcement: str = "") -> Rollout:
        """`announcement` is the key of the one it comes from."""
        async with self.starting:
            await self.supervisor.confirm()
            return await self._start(model, version, by=by, why=why, announcement=announcement)

    async def announce(self, one: Announcement) -> bool:
        self._check_known(one.model)
        if self.waiting:  # another agent may act, and would not hear of it
            raise Unavailable(one.model, "; ".join(self.waiting.values()))
        return await self.intake.take(one)

    def dropped(self, model: str, version: int) -> str:
        return self.intake.dropped.get((ModelName(model), version), "")

    async def _start(self, model: str, version: int, *, by: str, why: str, announcement: str) -> Rollout:
        name = ModelName(model)
        self._check_known(name)
        candidate = Candidate(self.config, self.desk, name, version)
        await self._check_startable(candidate)
        await self.prepare(name)
        watched = self.desk.watched[name]
        rules, plan = candidate.rules(watched), candidate.plan(watched)
        room: list[str] = []
        if self.desk.mode is Mode.ENFORCE:
            await check_gateways(name, plan, self.routers, self.desk.live())
            room = await self.room(name, version)
        # A person is not refused what was withdrawn before, and no announcement of it comes as far as this.
        again = await self.withdrawals.told(name, version)
        told = f"{by}: {why} ({again})" if again else f"{by}: {why}"
        rollout = candidate.rollout(watched, plan, rules, at=self.clock.now(), by=by, why=told)
        data: dict[str, Any] = {"by": by, "why": why, "old": rollout.old, "new": version, "mode": rollout.mode}
        data |= {"labels": self.desk.labels(name, rollout.servers), "analysis_hash": rules.digest}
        said = {"announcement": announcement, "memory": room, "again": again}
        await self.supervisor.start(rollout, data | {key: value for key, value in said.items() if value})
        return rollout

    async def _check_startable(self, candidate: Candidate) -> None:
        """Refused, with what would be right; else the desk knows the model at rest."""
        model = candidate.model
        candidate.check_model(self.clock.now())
        if why_not := self.not_ready():
            raise Refused(model, "; ".join(why_not))
        watched = candidate.at_rest()
        self.desk.put_stable(
            model,
            watched.stable,
            self.desk.declared.get(model, watched.stable),
            watched.clients,
            provable=watched.provable,
            released=watched.released,
        )
        await candidate.check_version(self._storage)
        if self.desk.mode is Mode.ENFORCE:
            candidate.check_beside(watched)
            for server in tuple(self.desk.servers):  # they may come and go meanwhile
                if refusal := await self.clear(server):
                    raise Refused(model, refusal)

    def _check_known(self, model: ModelName) -> None:
        if model not in self.config.models:
            known = ", ".join(self.config.models) or "none"
            raise Unknown(f"model {model!r} is not in the config; it has {known}")

    async def put_labels(self, model: str, labels: Sequence[Label]) -> Receipt:
        name = ModelName(model)
        self._check_known(name)
        terms = self.labels.terms(name)
        if terms is None:
            raise Refused(model, f"no labels are expected for it; set models.{model}.labels in the config")
        return await self.labels.put(name, labels, terms)

    async def command(
        self, rollout: RolloutId, kind: CommandKind, *, by: str, why: str, known: bool = False
    ) -> Transition:
        await self.rollout(rollout)
        done = await self.supervisor.command(rollout, Command(self.clock.now(), kind, by, why, known))
        if done.refused:
            data = {"command": kind, "by": by, "why": done.why}
            one = done.before
            await asyncio.to_thread(lambda: self.store.record("command_refused", data, rollout=one.id, model=one.model))
        return done

    # --- holds ----------------------------------------------------------------------------------------------------

    async def holds(self) -> Sequence[Hold]:
        return await self.held.standing()

    async def hold(self, model: str, version: int, *, by: str, why: str, until: float | None) -> Hold:
        name = ModelName(model)
        self._check_known(name)
        check_number(name, version)
        return await self.held.put(name, version, by=by, why=why, until=until)

    async def end_hold(self, model: str, version: int, *, by: str, why: str) -> None:
        await self.held.end(ModelName(model), version, by=by, why=why)

    async def denied(self, person: Person, right: Right, model: str) -> None:
        log.warning("denied", by=person.name, right=right, model=model)
        self.labels.telemetry.agent.denied.labels(right).inc()
        data = {"by": person.name, "right": right, "why": f"{person.name} has no right to {right} of {model}"}
        await asyncio.to_thread(lambda: self.store.record("denied", data, model=model))

    async def rollouts(self, limit: int = 100) -> Sequence[Rollout]:
        return await asyncio.to_thread(self.store.rollouts, limit)

    async def rollout(self, rollout: RolloutId) -> Rollout:
        if live := self.desk.rollout(rollout):
            return live
        found = await asyncio.to_thread(self.store.rollout, rollout)
        if found is None:
            raise Unknown(f"there is no rollout {rollout!r}; `haldane rollout list` shows them")
        return found[0]

    async def records(self, rollout: RolloutId | None, *, after: int = 0, limit: int = 1000) -> Sequence[Record]:
        return await asyncio.to_thread(lambda: self.store.records(rollout, after=after, limit=limit))

    async def rulings(self, rollout: RolloutId) -> Sequence[Ruling]:
        """A revert rests on what was judged of the promotion it takes back."""
        found = await self.rollout(rollout)
        judged = await self.rollout(found.reverts) if found.reverts else found
        return await asyncio.to_thread(self.history.of, judged)

    async def archive(self, rollout: RolloutId) -> Iterator[bytes]:
        found = await self.rollout(rollout)
        return packed(await asyncio.to_thread(case_of, self.store, found))

    async def story(self, rollout: RolloutId) -> Story:
        found = await self.rollout(rollout)
        records = await self.records(rollout)
        rules = rules_of(found)
        told = [record.data["labels"] for record in records if "labels" in record.data]
        now = self.desk.labels(found.model, found.servers)
        return Story(
            rollout=found,
            rulings=await self.rulings(rollout),
            records=records,
            labels_before=told[0] if told else None,
            labels_after=(told[-1] if told else None) if found.phase.final else now,
            alpha=rules.alpha,
            beta=rules.beta,
        )
