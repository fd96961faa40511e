"""A Kafka topic to write to: announcements, what could not be read, and the agent's own notices.

Owns what "written" means: taken by every broker that must have it, once per call
that returns, in order within a key. confluent-kafka is imported when a topic is
opened (extra `kafka`). Leaves to `engine.notices` what is told again, and when.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from haldane.adapters.cloudevent import event_of
from haldane.ports import Notice, Refused, Unavailable

_ANSWER_SECONDS = 10.0


class Outlet:
    """An open topic. Made by `open_outlet`."""

    def __init__(self, topic: str, producer: Any) -> None:
        self._topic, self._producer = topic, producer

    async def put(self, value: bytes, *, headers: Mapping[str, bytes], key: bytes | None = None) -> None:
        """It is there when this returns, behind whatever was put with the same key before.

        Unavailable: not taken in time, though it may still have come. Refused: larger than the topic takes.
        """
        await asyncio.to_thread(self._put, value, headers, key)

    def _put(self, value: bytes, headers: Mapping[str, bytes], key: bytes | None) -> None:
        from confluent_kafka import KafkaError, KafkaException

        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: object) -> None:
            if error is not None:
                failed.append(error)

        try:
            self._producer.produce(self._topic, value, key, headers=list(headers.items()), on_delivery=delivered)
            left = self._producer.flush(_ANSWER_SECONDS + 5.0)  # beyond the time-out of the message itself
        except KafkaException as error:
            failed.append(error.args[0])
            left = 0
        except BufferError as error:
            raise Unavailable(self._topic, str(error)) from error
        if failed and failed[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
            raise Refused(self._topic, str(failed[0]))
        if failed or left:
            raise Unavailable(self._topic, str(failed[0]) if failed else "the broker does not take it")


@asynccontextmanager
async def open_outlet(topic: str, *, brokers: str, settings: Mapping[str, str]) -> AsyncIterator[Outlet]:
    """That topic; `settings` are librdkafka's own. Brokers that are away now are no error yet.

    Refused when confluent-kafka is not installed or does not take its settings.
    """
    try:
        from confluent_kafka import KafkaException, Producer
    except ImportError as error:
        raise Refused(topic, 'topics need confluent-kafka: pip install "haldane[kafka]"') from error
    # Idempotent, so that a retry within the client is no second message. A message that is given up here must not
    # arrive later, behind its successor: the client's own time-out is five minutes.
    own = {"enable.idempotence": True, "message.timeout.ms": int(_ANSWER_SECONDS * 1000), "log_level": 2}
    try:
        made = Producer({**own, **settings, "bootstrap.servers": brokers})
    except (KafkaException, TypeError, ValueError) as error:
        raise Refused(topic, f"the client does not take its settings: {error}") from error
    yield Outlet(topic, made)


class NoticeTopic:
    """A Notifier: each notice a structured CloudEvent, keyed by its model. `source` names this agent."""

    def __init__(self, outlet: Outlet, source: str) -> None:
        self._outlet, self._source = outlet, source

    async def tell(self, notice: Notice) -> None:
        """There when it returns. Unavailable when it may be told again, Refused when the topic never takes it."""
        from cloudevents.core.bindings.kafka import to_structured_event

        message = to_structured_event(event_of(notice, self._source))
        model = str(notice.data.get("model") or "")
        await self._outlet.put(message.value, headers=message.headers, key=model.encode() or None)


@asynccontextmanager
async def open_notice_topic(
    topic: str, *, brokers: str, settings: Mapping[str, str], source: str
) -> AsyncIterator[NoticeTopic]:
    """A notifier for that topic. Refused when a package is missing, or the client does not take its settings."""
    try:
        import cloudevents  # noqa: F401 - said now, not at the first notice
    except ImportError as error:
        raise Refused(topic, 'CloudEvents need a small package: pip install "haldane[notify]"') from error
    async with open_outlet(topic, brokers=brokers, settings=settings) as outlet:
        yield NoticeTopic(outlet, source)
