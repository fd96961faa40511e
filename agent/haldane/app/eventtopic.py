"""Releases announced in a Kafka topic: the same as POST /v1/events, message by message."""

import asyncio
from contextlib import AsyncExitStack

import structlog

from haldane.adapters.kafka import Feed, Letters, Message, open_feed, open_letters
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
                letters = await stack.enter_async_context(open_letters(terms, wanted)) if wanted else None
                while True:
                    await _some(model, feed, letters, agent)
        except PortError as error:
            log.warning("release_topic_unavailable", model=model, detail=str(error))
        await asyncio.sleep(RETRY_SECONDS)


async def _some(model: ModelName, feed: Feed, letters: Letters | None, agent: Agent) -> None:
    for message in await feed.take():
        await _one(model, message, letters, agent)
        await feed.commit({message.partition: message.offset + 1})


async def _one(model: ModelName, message: Message, letters: Letters | None, agent: Agent) -> None:
    try:
        announced = over_kafka(message.headers, message.value)
    except OtherEvent:
        return  # a topic may carry more than releases
    except BadEvent as error:
        agent.intake.telemetry.releases.labels(model, "unreadable").inc()
        log.warning("release_unreadable", model=model, message=message.where, detail=str(error))
        if letters is not None:
            await letters.put(message, str(error))
        return
    if announced.model == model:
        await agent.announce(announced)
