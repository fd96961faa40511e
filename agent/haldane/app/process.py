"""The agent's process: from settings to a running tree of tasks, and down again.

app ─ lease │ supervisor: one subtree per rollout │ converge: one task per server
      an unexpected error in these ends the process; restart is recovery
    └ observer │ web │ sources: guarded
"""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

import haldane
from haldane.adapters.alertmanager import open_alertmanager
from haldane.adapters.replay import Replay
from haldane.adapters.sql import SqlStore, open_store
from haldane.app.agent import Agent
from haldane.app.discover import keep_discovering
from haldane.app.gauges import show_rollout, show_ruling, show_transition
from haldane.app.history import History
from haldane.app.sources import Onward, first_request, open_source
from haldane.config import Config
from haldane.domain.evidence import Ruling
from haldane.domain.fleet import Availability, ModelEntry, ModelName, ReplicaView, Server, ServerConfig, ServerName
from haldane.domain.rollout import Mode, Rollout, RolloutId, Transition
from haldane.domain.traffic import Batch
from haldane.engine.converge import Converge, Pace
from haldane.engine.desk import Desk
from haldane.engine.judging import Progress
from haldane.engine.lease import Lease
from haldane.engine.observe import Observer
from haldane.engine.pairing import ShadowLimits, addressing, pairs
from haldane.engine.supervisor import Supervisor
from haldane.ports import AlertSink, PortError, Refused, StaleWrite, Unavailable
from haldane.rollout.wanted import stable_of
from haldane.serving.channel import Tls
from haldane.serving.client import ServingClient, open_client
from haldane.serving.exposition import load_counters
from haldane.serving.foreign import foreign_models
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry
from haldane.web.server import listening, make_app, serve

log = structlog.get_logger()

SOURCE_RETRY_SECONDS = 5.0
STORE_RETRY_SECONDS = 1.0
COMFORT_RETRY_SECONDS = 5.0
NOT_HELD = "the store's lease, the right to act, is not held: another agent holds it, or the store is away; see the log"


class SystemClock:
    """Wall time, UTC seconds."""

    def now(self) -> float:
        return time.time()


@dataclass
class Parts:
    """Everything opened, for the functions that put tasks together."""

    config: Config
    clients: Mapping[ServerName, ServingClient]
    store: SqlStore
    desk: Desk
    telemetry: Telemetry
    lease: Lease
    clock: SystemClock = field(default_factory=SystemClock)
    sources: dict[ModelName, Replay] = field(default_factory=dict)
    exhausted: dict[RolloutId, set[ServerName]] = field(default_factory=dict)  # ran out of threads: not shadowed again

    async def prepare(self, model: ModelName) -> None:
        """Open the model's source and take its golden request; PortError when it cannot be read."""
        if model in self.sources:
            return
        if model not in self.config.models or model not in self.desk.watched:
            raise Refused(model, "a rollout of it is live, but the config does not have it any more")
        section, watched = self.config.models[model], self.desk.watched[model]
        source = await open_source(model, section, watched.stable, self.clients.values())
        if source is not None:
            self.desk.golden[model] = await first_request(source)
            self.desk.watched[model] = replace(self.desk.watched[model], provable=True)
            self.sources[model] = source

    async def keep_preparing(self) -> None:
        """Golden requests are wanted from the start, so that labels can be restored after a restart."""
        missing = set(self.desk.watched)
        while missing:
            for model in sorted(missing):
                try:
                    await self.prepare(model)
                    missing.discard(model)
                except PortError as error:
                    log.warning("source_not_ready", model=model, detail=str(error))
            await asyncio.sleep(SOURCE_RETRY_SECONDS if missing else 0)

    async def clear(self, server: ServerName) -> str:
        return await foreign_models(self.desk.base, self.desk.servers[server], self.clients[server])

    def loading(self, model: ModelName, server: ServerName) -> bool:
        """Some model is loading there, so latency says nothing of a version."""
        view = self.desk.views.get(server)
        states = [status.availability for seen in view.models.values() for status in seen.versions] if view else []
        return Availability.LOADING in states

    async def shadow(self, rollout: Rollout, progress: Progress) -> AsyncGenerator[Batch, None]:
        """Pairs for one rollout, from its model's source, on the servers that may be shadowed."""
        await self.prepare(rollout.model)
        source = self.sources.get(rollout.model)
        if source is None:
            return
        shadow, names = self.config.shadow, rollout.dedicated or rollout.servers
        batches = pairs(
            rollout=rollout,
            servers={name: self.clients[name] for name in names if name in self.clients},
            source=Onward(source, progress.judged_rows),
            limits=ShadowLimits(
                pairs_per_second=shadow.rate,
                concurrency=shadow.concurrency,
                deadline_seconds=shadow.deadline.total_seconds(),
                aa_share=shadow.aa_share,
            ),
            score=Scorer(self.config.outputs_of(rollout.model).rule()),
            address=lambda: addressing(self.desk.rollout(rollout.id) or rollout),
            masked=lambda server: self.loading(rollout.model, server),
            next_seq=progress.next_seq,
            judged_rows=progress.judged_rows,
            elapsed=progress.elapsed,
            telemetry=self.telemetry,
            stopped=self.exhausted.setdefault(rollout.id, set()),
        )
        async with aclosing(batches):
            async for batch in batches:
                yield batch


async def run(config: Config) -> None:
    """Run the agent until it is told to stop (SIGTERM, SIGINT).

    Raises PortError when something it cannot do without cannot be opened, and
    whatever ended the safety ring: the store then holds all that the next
    process needs.
    """
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        async with AsyncExitStack() as stack:
            await _run(config, stack)
    except asyncio.CancelledError:
        log.info("stopped")


async def _run(config: Config, stack: AsyncExitStack) -> None:
    # First the socket: two agents on one address are found out before anything is touched.
    socket = await stack.enter_async_context(listening(config.listen))
    parts = await _open(config, stack)
    sinks = await _sinks(config, stack, parts.clock)
    agent, observer = _assemble(parts, sinks)
    token = _token(config)
    log.info("started", mode=config.mode, listen=config.listen, servers=len(parts.clients), version=haldane.__version__)
    async with asyncio.TaskGroup() as group:
        web = make_app(agent, registry=parts.telemetry.registry, token=token)
        group.create_task(serve(web, socket), name="web")
        group.create_task(parts.lease.run(), name="lease")
        group.create_task(_comfort("observer", observer.run), name="observer")
        group.create_task(_comfort("sources", parts.keep_preparing), name="sources")
        if config.model_config_file is None:
            group.create_task(
                _comfort("discover", lambda: keep_discovering(parts.desk, parts.clients)), name="discover"
            )
        for name, client in parts.clients.items():
            converge = _converge(parts, observer, agent.supervisor, name, client)
            group.create_task(converge.run(), name=f"converge {name}")
        group.create_task(_act_when_allowed(parts, agent), name="supervisor")


async def _comfort(
    name: str, deed: Callable[[], Awaitable[None]], retry_seconds: float = COMFORT_RETRY_SECONDS
) -> None:
    """The comfort ring: what goes wrong here is logged and begun anew, and never ends the process."""
    while True:
        try:
            return await deed()
        except Exception:
            log.exception("comfort_task_failed", task=name)
        await asyncio.sleep(retry_seconds)


async def _act_when_allowed(parts: Parts, agent: Agent) -> None:
    """Take up rollouts once the lease is held; end the process when another agent has taken it."""
    agent.waiting["lease"] = NOT_HELD
    while not parts.lease.held():  # noqa: ASYNC110 - a lease begins and ends by the clock, which sets no event
        await asyncio.sleep(0.1)
    async with asyncio.TaskGroup() as group:
        group.create_task(_end_when_lost(parts.lease, agent, parts.telemetry), name="lease watch")
        group.create_task(_supervise(parts, agent), name="rollouts")


async def _supervise(parts: Parts, agent: Agent) -> None:
    """Read anew what an agent before this one left, while this one waited: nobody acts before that."""
    while True:
        try:
            put_at_rest(parts.config, parts.desk, await asyncio.to_thread(parts.store.settled))
            await agent.supervisor.take_up()
            for rollout in parts.desk.live():
                agent.history.take_over(rollout.id)
            break
        except Unavailable as error:
            log.error("store_unavailable", detail=error.detail)
        await asyncio.sleep(STORE_RETRY_SECONDS)
    await agent.supervisor.run()


async def _end_when_lost(lease: Lease, agent: Agent, telemetry: Telemetry) -> None:
    """While the store is away nothing is sent, the agent is not ready, and servers are looked at; it ends nothing."""
    while not lease.lost:
        if lease.held() and agent.supervisor.taken_up:
            agent.waiting.pop("lease", None)
        else:
            agent.waiting["lease"] = NOT_HELD
        telemetry.may_act.set("lease" not in agent.waiting)
        await asyncio.sleep(0.1)
    raise StaleWrite("lease", "another agent took it and may act now, so this one ends")


async def _open(config: Config, stack: AsyncExitStack) -> Parts:
    config.state_dir.mkdir(parents=True, exist_ok=True)
    store = await asyncio.to_thread(open_store, config.store_url.get_secret_value())
    stack.callback(store.close)
    tls = Tls(ca=config.tls.ca, cert=config.tls.cert, key=config.tls.key) if config.tls else None
    clients = {server.name: await stack.enter_async_context(open_client(server, tls)) for server in config.fleet}
    telemetry = Telemetry.on(CollectorRegistry())
    telemetry.build.labels(haldane.__version__).set(1)
    telemetry.mode.labels(config.mode).set(1)
    lease = Lease(store)
    stack.push_async_callback(lease.release)
    return Parts(config, clients, store, _desk(config, store), telemetry, lease)


def _desk(config: Config, store: SqlStore) -> Desk:
    base = config.base or ServerConfig(tuple(ModelEntry(name=ModelName(name), base_path="") for name in config.models))
    desk = Desk(mode=config.mode, servers={server.name: server for server in config.fleet}, base=base, watched={})
    put_at_rest(config, desk, store.settled())
    return desk


def put_at_rest(config: Config, desk: Desk, settled: Mapping[ModelName, tuple[int, int]]) -> None:
    """Each model's stable version: what the config declares, or what rollouts made of it since (`settled`)."""
    for name, section in config.models.items():
        model = ModelName(name)
        entry = desk.base.entry(model)
        declared = section.stable if section.stable is not None else stable_of(entry) if entry else None
        if declared is None:
            continue
        stable, was_declared = settled.get(model, (declared, declared))
        if was_declared != declared:
            # Somebody has edited the file since that rollout: the file is the newer word.
            if model not in desk.watched:
                log.warning("stable_taken_from_config", model=name, config=declared, rollout=stable)
            stable = declared
        known = desk.watched.get(model)
        desk.put_stable(model, stable, declared, section.clients, provable=known is not None and known.provable)


async def _sinks(config: Config, stack: AsyncExitStack, clock: SystemClock) -> dict[str, AlertSink]:
    if config.alertmanager is None:
        return {}
    link = f"http://{config.listen}/"
    sink = await stack.enter_async_context(open_alertmanager(str(config.alertmanager), now=clock.now, link=link))
    return {"alertmanager": sink}


def _assemble(parts: Parts, sinks: Mapping[str, AlertSink]) -> tuple[Agent, Observer]:
    desk, telemetry = parts.desk, parts.telemetry
    history = History(parts.store)

    def on_ruling(rollout: Rollout, ruling: Ruling) -> None:
        history.add(rollout.id, ruling)
        show_ruling(telemetry, rollout, ruling)

    def on_move(transition: Transition) -> None:
        show_transition(telemetry, transition)
        if transition.after.phase.final:
            history.over(transition.after.id)

    supervisor = Supervisor(
        desk=desk, store=parts.store, clock=parts.clock, shadow=parts.shadow, on_ruling=on_ruling, on_move=on_move
    )
    observer = Observer(
        parts.clients,
        base=desk.base,
        read=load_counters,
        sinks=sinks,
        telemetry=telemetry,
        clock=parts.clock,
        wanted=desk.wanted if desk.mode is Mode.ENFORCE else None,
    )
    for rollout in reversed(parts.store.rollouts()):
        show_rollout(telemetry, rollout)
    agent = Agent(
        config=parts.config,
        desk=desk,
        store=parts.store,
        clock=parts.clock,
        supervisor=supervisor,
        history=history,
        conditions=observer.conditions,
        prepare=parts.prepare,
        clear=parts.clear,
    )
    return agent, observer


def _converge(
    parts: Parts, observer: Observer, supervisor: Supervisor, name: ServerName, client: ServingClient
) -> Converge:
    async def guard(server: Server, _: Any) -> str:
        return await parts.clear(server.name)

    async def note(kind: str, data: dict[str, Any]) -> None:
        await asyncio.to_thread(parts.store.record, kind, data)

    def on_view(server: Server, view: ReplicaView | None) -> None:
        try:
            observer.on_view(server, view)
        except Exception:  # the comfort ring begins here: a gauge or a condition never ends the looking
            log.exception("observing_broke", what=f"view {server.name}")

    every = parts.config.look_every.total_seconds()
    return Converge(
        server=parts.desk.servers[name],
        client=client,
        desk=parts.desk,
        telemetry=parts.telemetry,
        may_act=lambda: parts.lease.held() and supervisor.taken_up,
        guard=guard,
        note=note,
        on_view=on_view,
        pace=Pace(live=every, rest=max(every, 5.0) if every >= 1 else every),
    )


def _token(config: Config) -> str:
    """The API's token: the configured one, or a random one that only this user can read."""
    if config.token is not None:
        return config.token.get_secret_value()
    path = config.token_path
    if not path.exists():
        fresh = path.with_suffix(".new")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        fresh.rename(path)
    return path.read_text().strip()
