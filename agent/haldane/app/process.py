"""The agent's process: from settings to a running tree of tasks, and down again.

app ─ lease │ supervisor: one subtree per rollout │ converge: one task per server
      an unexpected error in these ends the process; restart is recovery
    └ observer │ web │ sources: guarded
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from functools import partial

import structlog
from starlette.applications import Starlette

import haldane
from haldane.app import releases
from haldane.app.agent import Agent
from haldane.app.assembly import Assembly
from haldane.app.atrest import moved, put_at_rest
from haldane.app.boot import boot_configs
from haldane.app.discover import keep_discovering
from haldane.app.gauges import show_rollout
from haldane.app.labeltopic import keep_reading
from haldane.app.notices import Told, open_told
from haldane.app.parts import Parts, api_token, open_parts
from haldane.app.people import with_certificates, with_tokens
from haldane.app.registry import open_aliases
from haldane.app.releases import Task
from haldane.app.servers import converge, open_roster
from haldane.app.stopping import until_stopped
from haldane.config import Config
from haldane.domain.fleet import ModelName
from haldane.domain.release import Profile
from haldane.domain.vouched import Vouched
from haldane.engine.aliases import Aliases
from haldane.engine.collector import quieten
from haldane.engine.gateway import Gateway, GatewayPace
from haldane.engine.lease import Lease
from haldane.engine.supervisor import Supervisor
from haldane.engine.vouching import Vouching
from haldane.ports import StaleWrite, Unavailable
from haldane.release.vouch import profile_of, vouch
from haldane.telemetry import Telemetry
from haldane.web.listener import listening, serve
from haldane.web.server import make_app

log = structlog.get_logger()

STORE_RETRY_SECONDS = 1.0
AT_REST_SECONDS = 10.0  # between two looks of one that stands by at what is stable
COMFORT_RETRY_SECONDS = 5.0
NOT_HELD = "the store's lease, the right to act, is not held: another agent holds it, or the store is away; see the log"


async def run(config: Config) -> None:
    """Run the agent until it is told to stop (SIGTERM, SIGINT).

    Raises PortError when something it cannot do without cannot be opened, and
    whatever ended the safety ring: the store then holds all that the next
    process needs.
    """
    await until_stopped(partial(_run, config))


async def _run(config: Config, stack: AsyncExitStack) -> None:
    # First the socket: two agents on one address are found out before anything is touched.
    socket = await stack.enter_async_context(listening(config.listen))
    parts = await open_parts(config, stack)
    told = await open_told(config, stack, parts)
    aliases = await open_aliases(config, stack, parts)
    quieten()
    made = Assembly(parts, told.sinks)
    agent, supervisor = made.agent, made.supervisor
    roster = open_roster(parts, made.observer, supervisor)
    watching, acting = list(_watching(made, told)), list(_acting(made, aliases))
    agent.unread = lambda: roster.unread
    if aliases is not None:
        agent.registry = aliases.standing
    await agent.holds()  # what is shown of them is what was read last
    app = _web(made)
    log.info("started", mode=config.mode, listen=config.listen, servers=len(parts.clients), version=haldane.__version__)
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(app, socket), name="web")
        group.create_task(parts.lease.run(), name="lease")
        for name, client in parts.clients.items():
            converging = converge(parts, made.observer, supervisor, parts.desk.servers[name], client)
            group.create_task(converging.run(), name=f"converge {name}")
        group.create_task(roster.run(), name="roster")
        for gateway in _gateways(parts, supervisor):
            group.create_task(gateway.run(), name=f"gateway {gateway.name}")
        for called, deed in watching:
            group.create_task(_comfort(called, deed), name=called)
        group.create_task(_act_when_allowed(parts, agent, acting), name="supervisor")


def _web(made: Assembly) -> Starlette:
    config = made.parts.config
    return make_app(
        made.agent,
        registry=made.parts.telemetry.registry,
        token=api_token(config),
        people=with_tokens(config),
        certified=with_certificates(config),
        refused=made.strangers.note,
    )


def _watching(made: Assembly, told: Told) -> Iterator[Task]:
    """What runs from the start, whoever may act: each begun anew when it breaks."""
    parts, config = made.parts, made.parts.config
    yield "strangers", made.strangers.run
    yield "observer", made.observer.run
    for one in told.logs:
        yield "notices", one.run
    yield "sources", parts.keep_preparing
    yield "footprints", parts.footprints.run
    if config.tap is not None:
        fed = [name for name, traffic in config.tapped.items() if traffic.tap is not None]
        yield "tap", partial(made.agent.tap.run, config.tap_socket, fed, parts.telemetry)
    if config.model_config_file is None:
        yield "discover", partial(keep_discovering, parts.desk, parts.clients)
    for boot in boot_configs(parts, made.supervisor):
        yield f"boot config {boot.name}", boot.run


def _acting(made: Assembly, aliases: Aliases | None) -> Iterator[Task]:
    """What runs while the agent may act: each begun anew when it breaks."""
    yield "late labels", made.late.run
    yield from releases.tasks(made.agent, made.storage)
    if aliases is not None:
        yield "aliases", aliases.run
    yield "vouching", _vouching(made.parts).run
    for name, section in made.parts.config.models.items():
        if section.labels is not None and section.labels.kafka is not None:
            yield (
                f"label topic {name}",
                partial(keep_reading, ModelName(name), section.labels.kafka, made.agent.labels),
            )


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


async def _act_when_allowed(parts: Parts, agent: Agent, acting: Iterable[Task]) -> None:
    """Take up rollouts once the lease is held; end the process when another agent has taken it."""
    agent.waiting["lease"] = NOT_HELD
    showing = asyncio.create_task(_keep_at_rest(parts), name="at rest")
    try:
        while not parts.lease.held():  # noqa: ASYNC110 - a lease begins and ends by the clock, which sets no event
            await asyncio.sleep(0.1)
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
    async with asyncio.TaskGroup() as group:
        group.create_task(_end_when_lost(parts.lease, agent, parts.telemetry), name="lease watch")
        group.create_task(_supervise(parts, agent, acting), name="rollouts")


async def _keep_at_rest(parts: Parts) -> None:
    """While another agent acts: show what is stable as it leaves it, to `haldane render` among others."""
    while True:
        await asyncio.sleep(AT_REST_SECONDS)
        try:
            await _at_rest(parts)
        except Unavailable as error:
            log.warning("store_unavailable", detail=error.detail)


async def _at_rest(parts: Parts) -> None:
    settled = await asyncio.to_thread(parts.store.settled)
    moved_at = await asyncio.to_thread(moved, parts.store)
    put_at_rest(parts.config, parts.desk, settled, moved_at, parts.declared_at)


async def _supervise(parts: Parts, agent: Agent, acting: Iterable[Task]) -> None:
    """Read anew what an agent before this one left, while this one waited: nobody acts before that."""
    while True:
        try:
            await _at_rest(parts)
            await agent.holds()
            await agent.supervisor.take_up()
            # Not before: they are another agent's until then, and what moves there does not show here.
            for rollout in reversed(await asyncio.to_thread(parts.store.rollouts)):
                show_rollout(parts.telemetry, rollout)
                parts.desk.put_ended(rollout)
            for rollout in parts.desk.live():
                agent.history.take_over(rollout.id)
            break
        except Unavailable as error:
            log.error("store_unavailable", detail=error.detail)
        await asyncio.sleep(STORE_RETRY_SECONDS)
    async with asyncio.TaskGroup() as group:
        group.create_task(agent.supervisor.run(), name="subtrees")
        for called, deed in acting:
            group.create_task(_comfort(called, deed), name=called)


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
