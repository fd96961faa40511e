"""A Kafka topic: requests to shadow, or messages for anybody else (`Feed`).

All partitions are assigned, none joined by group: one agent acts at a time, by its
lease, and an assignment is there at once, where joining takes seconds. The group
only keeps the place: what is committed is never given again, what was given and
not finished is. confluent-kafka is imported when a topic is opened (extra `kafka`).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import structlog

from haldane.adapters.replay import OnFlaw
from haldane.domain.traffic import Request
from haldane.ports import Flaw, Malformed, Refused, Unavailable, Unusable

log = structlog.get_logger()
T = TypeVar("T")

Read = Callable[[bytes, str], Request | Malformed]  # (value, where it stands) -> what it is

_CHUNK = 256
_POLL_SECONDS, _COMMIT_SECONDS, _ANSWER_SECONDS = 0.5, 1.0, 10.0
_LOOKED_BACK, _FIRST_WITHIN_SECONDS = 100, 5.0  # for a first request: messages of each partition, and how long


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicTerms:
    """Which topic, and how it is read. `settings` are librdkafka's own (security, timeouts)."""

    topic: str
    brokers: str
    group: str
    oldest: bool = False  # where to begin when the group has no place yet
    settings: Mapping[str, str] = field(default_factory=dict)


def client_settings(path: Path | None, topic: str) -> dict[str, str]:
    """librdkafka's settings out of a file, one key=value a line; none without one. Refused, with the line, when not."""
    if path is None:
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(topic, f"settings_file: cannot read {path.name}: {error}") from error
    settings = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals:  # the line may hold a password, so it is not told
            raise Refused(topic, f"settings_file: {path.name}:{number}: must be key=value")
        settings[key.strip()] = value.strip()
    return settings


@dataclass(frozen=True, slots=True)
class Message:
    """One message; a deleted key (no value) is empty."""

    where: str
    partition: int
    offset: int
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)


class Feed:
    """An open topic. Made by `open_feed`; all calls go through one thread, as the client wants it."""

    def __init__(self, terms: TopicTerms) -> None:
        self._terms = terms
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka")
        self._consumer: Any = None

    async def take(self) -> list[Message]:
        """What has come, at most some hundred, in order within a partition; [] after half a second without any.

        Unavailable when the client has failed for good; a broker that is away is only waited for.
        """
        from confluent_kafka import KafkaException

        found = []
        try:
            messages = await self._call(lambda: self._consumer.consume(_CHUNK, _POLL_SECONDS))
        except KafkaException as error:
            raise Unavailable(self._terms.topic, str(error)) from error
        for message in messages:
            if message.error() is not None:
                log.warning("topic_error", topic=self._terms.topic, detail=str(message.error()))
                continue
            partition, offset = message.partition(), message.offset()
            where = f"{self._terms.topic}/{partition}@{offset}"
            headers = {name: value or b"" for name, value in message.headers() or ()}
            found.append(Message(where, partition, offset, message.value() or b"", headers))
        return found

    async def commit(self, places: Mapping[int, int]) -> None:
        """Partition -> the offset to go on from. What cannot be committed is given again some time: only logged."""
        from confluent_kafka import KafkaException, TopicPartition

        if not places:
            return
        offsets = [TopicPartition(self._terms.topic, *place) for place in places.items()]
        try:
            await self._call(lambda: self._consumer.commit(offsets=offsets, asynchronous=False))
        except KafkaException as error:
            log.warning("topic_commit_failed", topic=self._terms.topic, detail=str(error))

    async def open(self, back: int) -> None:
        await self._call(lambda: self._open(back))

    async def close(self) -> None:
        if self._consumer is not None:
            await self._call(self._consumer.close)
        self._thread.shutdown(wait=False)

    async def _call(self, deed: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, deed)

    def _open(self, back: int) -> None:
        """From the group's place on; with `back`, so many messages before each partition's end."""
        from confluent_kafka import OFFSET_STORED, Consumer, KafkaException, TopicPartition

        terms = self._terms
        own = {
            "bootstrap.servers": terms.brokers,
            "group.id": terms.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest" if terms.oldest else "latest",
            "error_cb": lambda error: log.warning("topic_error", topic=terms.topic, detail=str(error)),
        }
        try:
            self._consumer = Consumer({"log_level": 2, **terms.settings, **own})
        except (KafkaException, TypeError, ValueError) as error:
            raise Refused(terms.topic, f"the client does not take its settings: {error}") from error
        try:
            found = self._consumer.list_topics(terms.topic, timeout=_ANSWER_SECONDS).topics[terms.topic]
            if found.error is not None:
                raise Unavailable(terms.topic, f"cannot be read: {found.error}")
            places = [TopicPartition(terms.topic, partition, OFFSET_STORED) for partition in sorted(found.partitions)]
            for place in places if back else []:
                low, high = self._consumer.get_watermark_offsets(place, timeout=_ANSWER_SECONDS)
                place.offset = max(low, high - back)
            self._consumer.assign(places)
        except KafkaException as error:
            raise Unavailable(terms.topic, f"{terms.brokers} does not answer: {error}") from error


@asynccontextmanager
async def open_feed(terms: TopicTerms, *, back: int = 0) -> AsyncIterator[Feed]:
    """The topic from its group's place on, or from `back` messages before its end without a place.

    Unavailable when no broker answers or there is no such topic; Refused when confluent-kafka is not installed or
    does not take its settings.
    """
    try:
        import confluent_kafka  # noqa: F401
    except ImportError as error:
        raise Refused(terms.topic, 'topics need confluent-kafka: pip install "haldane[kafka]"') from error
    feed = Feed(terms)
    try:
        await feed.open(back)
        yield feed
    finally:
        await feed.close()


class Offsets:
    """From where each partition is to be gone on with, when messages are finished out of order."""

    def __init__(self) -> None:
        self._open: dict[int, dict[int, None]] = {}  # given, not finished; in order of being given
        self._next: dict[int, int] = {}
        self._changed: set[int] = set()

    def given(self, partition: int, offset: int) -> None:
        self._open.setdefault(partition, {})[offset] = None
        self._next[partition] = offset + 1

    def finished(self, partition: int, offset: int) -> None:
        self._open[partition].pop(offset, None)
        self._changed.add(partition)

    def take(self) -> dict[int, int]:
        """Partition -> the first offset that is not finished, for those that have changed since the last call."""
        changed, self._changed = self._changed, set()
        return {partition: next(iter(self._open[partition]), self._next[partition]) for partition in changed}


class Topic:
    """A TrafficSource that never ends. A message's place is committed once its pair is back and all before it are.

    `requests()` raises what `open_feed` raises; a broker that goes away later is waited for.
    """

    finite = False

    def __init__(self, terms: TopicTerms, read: Read, *, on_flaw: OnFlaw = lambda _: None) -> None:
        self.name = terms.topic
        self.flaws: Counter[Flaw] = Counter()
        self._terms, self._read, self._on_flaw = terms, read, on_flaw
        # By identity, for ids may come twice; the request is held, so that its identity stays its own.
        self._out: dict[int, tuple[Request, Offsets, int, int]] = {}

    async def requests(self) -> AsyncGenerator[Request, None]:
        loop, offsets = asyncio.get_running_loop(), Offsets()
        self._out.clear()
        async with open_feed(self._terms) as feed:
            try:
                due = loop.time() + _COMMIT_SECONDS
                while True:
                    for message in await feed.take():
                        if (request := self._taken(message, offsets)) is not None:
                            yield request
                        if loop.time() >= due:
                            await feed.commit(offsets.take())
                            due = loop.time() + _COMMIT_SECONDS
                    if loop.time() >= due:
                        await feed.commit(offsets.take())
                        due = loop.time() + _COMMIT_SECONDS
            finally:
                await feed.commit(offsets.take())

    def finished(self, request: Request) -> None:
        """Its pair is back, or was set aside: it need not be given again."""
        if (held := self._out.pop(id(request), None)) is not None:
            _, offsets, partition, offset = held
            offsets.finished(partition, offset)

    async def recent(self) -> AsyncGenerator[Request, None]:
        """The last requests of the topic, then what comes within some seconds; nothing is committed.

        Unavailable when there are no more.
        """
        until, why = asyncio.get_running_loop().time() + _FIRST_WITHIN_SECONDS, "nothing came"
        async with open_feed(self._terms, back=_LOOKED_BACK) as feed:
            while asyncio.get_running_loop().time() < until:
                for message in await feed.take():
                    found = self._read(message.value, message.where)
                    if isinstance(found, Request):
                        yield found
                    else:
                        why = str(found)
        raise Unavailable(self.name, f"no usable request among the last ones, nor within 5 s; {why}")

    def _taken(self, message: Message, offsets: Offsets) -> Request | None:
        offsets.given(message.partition, message.offset)
        found = self._read(message.value, message.where)
        if isinstance(found, Request):
            self._out[id(found)] = found, offsets, message.partition, message.offset
            return found
        flaw = found.flaw if isinstance(found, Unusable) else Flaw.FORMAT
        self.flaws[flaw] += 1
        if sum(self.flaws.values()) == 1:
            log.warning("topic_message_unusable", topic=self.name, first=str(found))
        self._on_flaw(flaw)
        offsets.finished(message.partition, message.offset)
        return None
