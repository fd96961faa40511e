"""How releases reach the agent by themselves: what listens, and the intake behind it."""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from haldane.app.agent import Agent
from haldane.app.eventtopic import keep_listening
from haldane.app.storagewatch import StorageWatch
from haldane.config import Config
from haldane.domain.fleet import ModelName
from haldane.domain.release import Announcement
from haldane.domain.rollout import CommandKind, Rollout
from haldane.engine.intake import Intake, Terms

Task = tuple[str, Callable[[], Awaitable[None]]]


def terms_of(config: Config) -> dict[ModelName, Terms]:
    """The models that take announcements."""
    return {
        ModelName(name): Terms(section.releases.newer, section.releases.patience.total_seconds())
        for name, section in config.models.items()
        if section.releases is not None
    }


def give(agent: Agent) -> Intake:
    """The agent's intake, which starts and aborts its rollouts."""

    async def start(one: Announcement) -> Rollout:
        return await agent.start(one.model, one.version, by=one.by, why=one.why, announcement=one.key)

    async def abort(rollout: Rollout, why: str) -> None:
        await agent.command(rollout.id, CommandKind.ABORT, by="haldane", why=why)

    return Intake(
        store=agent.store,
        desk=agent.desk,
        clock=agent.clock,
        telemetry=agent.labels.telemetry,
        terms=terms_of(agent.config),
        start=start,
        abort=abort,
        withdrawals=agent.withdrawals,
    )


def watch(agent: Agent) -> StorageWatch:
    """Of the models whose storage announces their versions."""
    wanted = {ModelName(name) for name, one in agent.config.models.items() if one.releases and one.releases.watch}
    entries = {name: agent.desk.base.entry(name) for name in wanted}
    return StorageWatch(agent, {name: one.base_path.rstrip("/") for name, one in entries.items() if one is not None})


def tasks(agent: Agent, storage: StorageWatch) -> Iterator[Task]:
    """What runs while the agent may act: each begun anew when it breaks."""
    yield "releases", agent.intake.run
    yield "storage watch", storage.run
    for name, section in agent.config.models.items():
        if section.releases is not None and section.releases.kafka is not None:
            yield f"release topic {name}", partial(keep_listening, ModelName(name), section.releases.kafka, agent)
