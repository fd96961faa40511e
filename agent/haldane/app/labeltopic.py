"""Labels from a Kafka topic: the same as POST /v1/labels, message by message."""

import asyncio

import structlog

from haldane.adapters.kafka import Feed, open_feed
from haldane.app.sources import topic_terms
from haldane.config import TopicSection
from haldane.domain.fleet import ModelName
from haldane.engine.labels import Labels
from haldane.ports import PortError
from haldane.web.labels import BadLabel, read_labels

log = structlog.get_logger()
RETRY_SECONDS = 5.0


async def keep_reading(model: ModelName, section: TopicSection, labels: Labels) -> None:
    """Never ends. What the store has is committed; while broker or store are away it waits and begins anew from there.

    A label given twice is a duplicate and counts once.
    """
    while True:
        try:
            async with open_feed(topic_terms(section, f"haldane-{model}-labels")) as feed:
                while True:
                    await _some(model, feed, labels)
        except PortError as error:
            log.warning("label_topic_unavailable", model=model, detail=str(error))
        await asyncio.sleep(RETRY_SECONDS)


async def _some(model: ModelName, feed: Feed, labels: Labels) -> None:
    messages, terms = await feed.take(), labels.terms(model)
    found = []
    for message in messages:
        try:
            found += read_labels(message.value)
        except BadLabel as error:
            labels.telemetry.shadow.labels.labels(model, "malformed").inc()
            log.warning("label_unreadable", model=model, message=message.where, detail=str(error))
    if found and terms is not None:
        await labels.put(model, found, terms)
    await feed.commit({message.partition: message.offset + 1 for message in messages})
