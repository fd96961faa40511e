"""Releases announced in a Kafka topic: the same as POST /v1/events, message by message."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import structlog

from haldane.adapters.kafka import Feed, Message, open_feed
from haldane.adapters.outlet import Outlet, open_outlet
from haldane.app.agent import Agent
from haldane.app.sources import topic_terms
from haldane.config.releases import ReleaseTopicSection
from haldane.domain.fleet import ModelName
from haldane.ports import PortError
from haldane.web.events import BadEvent, OtherEvent, over_kafka

log = structlog.get_logger()
RETRY_SECONDS = 5.0


async def keep_listening(model: ModelName, section: ReleaseTopicSection, agent: Agent) -> None:
    """Never ends. What is stored, or set aside as unreadable, is committed: at least once, and a repeat is known."""
    terms = topic_terms(section, f"haldane-{model}-releases")
    while True:
        try:
            async with AsyncExitStack() as stack:
                feed = await stack.enter_async_context(open_feed(terms))
                wanted = section.dead_letters
                opening = open_outlet(wanted, brokers=terms.brokers, settings=terms.settings) if wanted else None
                letters = await stack.enter_async_context(opening) if opening else None
                while True:
                    await _some(model, feed, letters, agent)
        except PortError as error:
            log.warning("release_topic_unavailable", model=model, detail=str(error))
        await asyncio.sleep(RETRY_SECONDS)


async def _some(model: ModelName, feed: Feed, letters: Outlet | None, agent: Agent) -> None:
    for message in await feed.take():
        await _one(model, message, letters, agent)
        await feed.commit({message.partition: message.offset + 1})


async def _one(model: ModelName, message: Message, letters: Outlet | None, agent: Agent) -> None:
    try:
        announced = over_kafka(message.headers, message.value)
    except OtherEvent:
        return  # a topic may carry more than releases
    except BadEvent as error:
        agent.intake.telemetry.releases.announced.labels(model, "unreadable").inc()
        log.warning("release_unreadable", model=model, message=message.where, detail=str(error))
        if letters is not None:
            said = {"haldane-why": str(error).encode(), "haldane-from": message.where.encode()}
            await letters.put(message.value, headers={**message.headers, **said})
        return
    if agent.local(announced.model) == model:
        await agent.announce(replace(announced, model=model))
