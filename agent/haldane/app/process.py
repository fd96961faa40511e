"""The agent's process: from settings to a running tree of tasks, and down again.

app ─ lease │ supervisor: one subtree per rollout │ converge: one task per server
      an unexpected error in these ends the process; restart is recovery
    └ observer │ web │ sources: guarded
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial

import structlog

import haldane
from haldane.adapters.storage import listing
from haldane.app import releases
from haldane.app.agent import Agent
from haldane.app.boot import boot_configs
from haldane.app.discover import keep_discovering
from haldane.app.gauges import show_rollout, show_ruling, show_transition
from haldane.app.headroom import Headroom
from haldane.app.history import History
from haldane.app.labeltopic import keep_reading
from haldane.app.notices import open_told
from haldane.app.parts import Parts, api_token, open_parts, put_at_rest
from haldane.app.people import with_certificates, with_tokens
from haldane.app.registry import open_aliases
from haldane.app.releases import Task
from haldane.app.servers import converge, open_roster
from haldane.app.shadowing import shadow
from haldane.app.storagewatch import StorageWatch
from haldane.app.takeback import take_back
from haldane.config import Config
from haldane.domain.evidence import Ruling
from haldane.domain.fleet import ModelName
from haldane.domain.release import Profile
from haldane.domain.rollout import Mode, Rollout, RolloutId, Transition
from haldane.domain.vouched import Vouched
from haldane.engine.collector import quieten
from haldane.engine.gateway import Gateway, GatewayPace
from haldane.engine.latewatch import LateWatch
from haldane.engine.lease import Lease
from haldane.engine.observe import Observer
from haldane.engine.observe import Pace as ObserverPace
from haldane.engine.strangers import Strangers
from haldane.engine.supervisor import Supervisor
from haldane.engine.vouching import Vouching
from haldane.judge.conditions import of_rollouts
from haldane.judge.storage import Shelf
from haldane.ports import AlertSink, StaleWrite, Unavailable
from haldane.release.vouch import profile_of, vouch
from haldane.serving.exposition import load_counters
from haldane.telemetry import Telemetry
from haldane.web.listener import listening, serve
from haldane.web.server import make_app

log = structlog.get_logger()

STORE_RETRY_SECONDS = 1.0
COMFORT_RETRY_SECONDS = 5.0
NOT_HELD = "the store's lease, the right to act, is not held: another agent holds it, or the store is away; see the log"


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
    parts = await open_parts(config, stack)
    told = await open_told(config, stack, parts)
    aliases = await open_aliases(config, stack, parts)
    quieten()
    agent, observer, late, shelves = _assemble(parts, told.sinks)
    roster = open_roster(parts, observer, agent.supervisor)
    boots = list(boot_configs(parts, agent.supervisor))
    agent.unread = lambda: roster.unread
    await agent.holds()  # what is shown of them is what was read last
    strangers = Strangers(parts.store, parts.telemetry)
    token, certified = api_token(config), with_certificates(config)
    log.info("started", mode=config.mode, listen=config.listen, servers=len(parts.clients), version=haldane.__version__)
    async with asyncio.TaskGroup() as group:
        web = make_app(
            agent,
            registry=parts.telemetry.registry,
            token=token,
            people=with_tokens(config),
            certified=certified,
            refused=strangers.note,
        )
        group.create_task(serve(web, socket), name="web")
        group.create_task(_comfort("strangers", strangers.run), name="strangers")
        group.create_task(parts.lease.run(), name="lease")
        group.create_task(_comfort("observer", observer.run), name="observer")
        for log_told in told.logs:
            group.create_task(_comfort("notices", log_told.run), name="notices")
        group.create_task(_comfort("sources", parts.keep_preparing), name="sources")
        group.create_task(_comfort("footprints", parts.footprints.run), name="footprints")
        if config.tap is not None:
            fed = [name for name, traffic in config.tapped.items() if traffic.tap is not None]
            watch = partial(agent.tap.run, config.tap_socket, fed, parts.telemetry)
            group.create_task(_comfort("tap", watch), name="tap")
        if config.model_config_file is None:
            group.create_task(
                _comfort("discover", lambda: keep_discovering(parts.desk, parts.clients)), name="discover"
            )
        for name, client in parts.clients.items():
            converging = converge(parts, observer, agent.supervisor, parts.desk.servers[name], client)
            group.create_task(converging.run(), name=f"converge {name}")
        group.create_task(roster.run(), name="roster")
        for boot in boots:
            group.create_task(_comfort(f"boot config {boot.name}", boot.run), name=f"boot config {boot.name}")
        for gateway in _gateways(parts, agent.supervisor):
            group.create_task(gateway.run(), name=f"gateway {gateway.name}")
        acting = list(releases.tasks(agent, shelves))
        if aliases is not None:
            agent.registry = aliases.standing
            acting.append(("aliases", aliases.run))
        group.create_task(_act_when_allowed(parts, agent, late, acting), name="supervisor")


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


async def _act_when_allowed(parts: Parts, agent: Agent, late: LateWatch, acting: Iterable[Task]) -> None:
    """Take up rollouts once the lease is held; end the process when another agent has taken it."""
    agent.waiting["lease"] = NOT_HELD
    while not parts.lease.held():  # noqa: ASYNC110 - a lease begins and ends by the clock, which sets no event
        await asyncio.sleep(0.1)
    async with asyncio.TaskGroup() as group:
        group.create_task(_end_when_lost(parts.lease, agent, parts.telemetry), name="lease watch")
        group.create_task(_supervise(parts, agent, late, acting), name="rollouts")


async def _supervise(parts: Parts, agent: Agent, late: LateWatch, acting: Iterable[Task]) -> None:
    """Read anew what an agent before this one left, while this one waited: nobody acts before that."""
    while True:
        try:
            put_at_rest(parts.config, parts.desk, await asyncio.to_thread(parts.store.settled))
            await agent.holds()
            await agent.supervisor.take_up()
            # Not before: they are another agent's until then, and what moves there does not show here.
            for rollout in reversed(await asyncio.to_thread(parts.store.rollouts)):
                show_rollout(parts.telemetry, rollout)
            for rollout in parts.desk.live():
                agent.history.take_over(rollout.id)
            break
        except Unavailable as error:
            log.error("store_unavailable", detail=error.detail)
        await asyncio.sleep(STORE_RETRY_SECONDS)
    async with asyncio.TaskGroup() as group:
        group.create_task(agent.supervisor.run(), name="subtrees")
        group.create_task(_comfort("late labels", late.run), name="late labels")
        for called, deed in acting:
            group.create_task(_comfort(called, deed), name=called)
        group.create_task(_comfort("vouching", _vouching(parts).run), name="vouching")
        for name, section in parts.config.models.items():
            if section.labels is not None and section.labels.kafka is not None:
                read = partial(keep_reading, ModelName(name), section.labels.kafka, agent.labels)
                group.create_task(_comfort("label topic", read), name=f"label topic {name}")


def _vouching(parts: Parts) -> Vouching:
    def published(model: ModelName) -> str:
        section = parts.config.models.get(model)  # None: a rollout is live, and the config does not have it any more
        return (section.published if section else None) or ""

    def compare(model: ModelName, version: int) -> Vouched:
        base_path, full_name = parts.config.base_path(model), parts.config.full_name(model)
        return vouch(base_path, version, published=published(model), model=full_name)

    def measured(model: ModelName, version: int) -> Profile | None:
        base_path, full_name = parts.config.base_path(model), parts.config.full_name(model)
        return profile_of(base_path, version, published=published(model), model=full_name)

    return Vouching(parts.desk, parts.store, compare, measured)


async def _end_when_lost(lease: Lease, agent: Agent, telemetry: Telemetry) -> None:
    """While the store is away nothing is sent, the agent is not ready, and servers are looked at; it ends nothing."""
    while not lease.lost:
        if lease.held() and agent.supervisor.taken_up:
            agent.waiting.pop("lease", None)
        else:
            agent.waiting["lease"] = NOT_HELD
        telemetry.agent.may_act.set("lease" not in agent.waiting)
        await asyncio.sleep(0.1)
    raise StaleWrite("lease", "another agent took it and may act now, so this one ends")


def _assemble(parts: Parts, sinks: Mapping[str, AlertSink]) -> tuple[Agent, Observer, LateWatch, StorageWatch]:
    desk, telemetry = parts.desk, parts.telemetry
    history = History(parts.store)
    failing: dict[RolloutId, float] = {}  # since when stable has failed more than it may

    def on_ruling(rollout: Rollout, ruling: Ruling) -> None:
        history.add(rollout.id, ruling)
        show_ruling(telemetry, rollout, ruling)
        if ruling.stable_fails:
            failing.setdefault(rollout.id, parts.clock.now())
        else:
            failing.pop(rollout.id, None)

    def on_move(transition: Transition) -> None:
        show_transition(telemetry, transition)
        if not transition.after.phase.judging:
            failing.pop(transition.after.id, None)
        if transition.after.phase.final:
            history.over(transition.after.id)
            late.add(transition.after)

    def on_shelf(path: str, shelf: Shelf, at: float) -> None:
        shelves.on_shelf(path, shelf, at)

    labels = parts.labels()
    supervisor = Supervisor(
        desk=desk,
        store=parts.store,
        clock=parts.clock,
        shadow=partial(shadow, parts),
        labels=labels,
        on_ruling=on_ruling,
        on_move=on_move,
        readings=parts.readings,
    )
    observer = Observer(
        parts.clients,
        base=desk.base,
        read=load_counters,
        sinks=sinks,
        telemetry=telemetry,
        clock=parts.clock,
        wanted=desk.decided if desk.mode is Mode.ENFORCE else None,
        list_storage=listing if parts.config.list_every else None,
        on_shelf=on_shelf,
        on_queued=parts.batch_waits.on_scrape,
        also=lambda at, bounds: of_rollouts(desk.live(), failing, at=at, bounds=bounds),
        pace=ObserverPace(listing=parts.config.list_every.total_seconds()),
    )
    for model in parts.config.models:
        telemetry.releases.taken_back.labels(model)  # there from the start, so that an increase from 0 shows
    agent = Agent(
        config=parts.config,
        desk=desk,
        store=parts.store,
        clock=parts.clock,
        supervisor=supervisor,
        history=history,
        labels=labels,
        conditions=observer.conditions,
        prepare=parts.prepare,
        clear=parts.clear,
        loads=parts.footprints.loads,
        room=Headroom(parts.config, parts.desk, parts.gauges_from.processes).check,
        routers=parts.routers,
        unusable=parts.unusable,
    )
    agent.intake = releases.give(agent)
    shelves = releases.watch(agent)

    late = LateWatch(
        store=parts.store,
        clock=parts.clock,
        labels=labels,
        take_back=lambda promoted, ruling: take_back(agent, promoted, ruling),
        on_labels=lambda rollout: history.grew(rollout.id),
    )
    return agent, observer, late, shelves


def _gateways(parts: Parts, supervisor: Supervisor) -> list[Gateway]:
    every = parts.config.look_every.total_seconds()
    return [
        Gateway(
            name=name,
            router=router,
            desk=parts.desk,
            telemetry=parts.telemetry,
            may_act=lambda: parts.lease.held() and supervisor.taken_up,
            note=parts.note,
            pace=GatewayPace(live=every, rest=max(every, 5.0) if every >= 1 else every),
        )
        for name, router in parts.routers.items()
    ]
