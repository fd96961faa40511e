"""A promotion taken back: the revert is stored, then told."""

import asyncio
from dataclasses import asdict
from typing import Any

import structlog

from haldane.app.agent import Agent
from haldane.domain.evidence import Ruling
from haldane.domain.rollout import Mode, Rollout, Transition
from haldane.rollout.revert import refusal, revert, revert_id

log = structlog.get_logger()

OBSERVES = "this agent runs in observe mode and changes no server"
TAKEN_BACK = "promotion_taken_back"  # a Record of the promotion's rollout


async def take_back(agent: Agent, promoted: Rollout, ruling: Ruling) -> str:
    """Start the revert of a promotion that late labels show to be harmful; else why it cannot be done now.

    Called again after a crash it does what is left to do, and once all is done, nothing.
    """
    async with agent.starting:
        await agent.supervisor.confirm()
        known = await asyncio.to_thread(agent.store.rollout, revert_id(promoted.id))
        if known is None:
            if why_not := _refusal(agent, promoted):
                return why_not
            made = await _start(agent, promoted, ruling)
        else:
            made = known[0]
    records = await asyncio.to_thread(agent.store.records, promoted.id)
    if not any(record.kind == TAKEN_BACK for record in records):
        await _tell(agent, promoted, made, ruling)
    return ""


def _refusal(agent: Agent, promoted: Rollout) -> str:
    if why_not := agent.not_ready():
        return "; ".join(why_not)
    if agent.desk.mode is not Mode.ENFORCE:
        return OBSERVES
    watched = agent.desk.watched.get(promoted.model)
    return refusal(promoted, stable=watched.stable if watched else None, live=agent.desk.live())


async def _start(agent: Agent, promoted: Rollout, ruling: Ruling) -> Rollout:
    why = f"labels that came after version {promoted.new} was promoted show harm: {ruling.why}"
    made = revert(promoted, at=agent.clock.now(), why=why)
    data: dict[str, Any] = {"by": "haldane", "why": why, "old": made.old, "new": made.new, "mode": made.mode}
    data |= {"reverts": promoted.id, "labels": agent.desk.labels(made.model, made.servers)}
    await agent.supervisor.start(made, data)
    agent.supervisor.on_move(Transition(before=promoted, after=made, why=why))
    return made


async def _tell(agent: Agent, promoted: Rollout, made: Rollout, ruling: Ruling) -> None:
    """On the promotion's rollout, whose evidence it is: that is where it can be replayed."""
    data = {"by": "haldane", "why": made.why, "revert": made.id, "ruling": asdict(ruling)}
    record, model = agent.store.record, promoted.model
    await asyncio.to_thread(lambda: record(TAKEN_BACK, data, rollout=promoted.id, model=model))
    agent.labels.telemetry.releases.taken_back.labels(model).inc()
    log.error(TAKEN_BACK, rollout=promoted.id, model=model, revert=made.id, why=made.why)
