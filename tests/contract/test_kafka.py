"""Topics: confluent-kafka against a broker that speaks Kafka's protocol (Tansu, in memory; HALDANE_KAFKA: another)."""

import asyncio
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry
from tests.broker import Broker, events, make_topic, messages, send

from haldane import wire
from haldane.adapters.kafka import Feed, Topic, open_feed
from haldane.adapters.outlet import open_notice_topic
from haldane.app.agent import Agent
from haldane.app.eventtopic import keep_listening
from haldane.app.labeltopic import keep_reading
from haldane.app.notices import of_record
from haldane.app.sources import first_request, open_source, topic_terms
from haldane.cli import main
from haldane.cli.neighbours import neighbours
from haldane.config import Config, ModelSection
from haldane.config.releases import ReleaseTopicSection
from haldane.domain.fleet import ModelName, ServerName
from haldane.domain.labels import Label, Receipt
from haldane.domain.record import Record, chain
from haldane.domain.release import Announcement
from haldane.domain.rollout import Phase
from haldane.domain.traffic import key_of
from haldane.engine.addressing import Addressing
from haldane.engine.labels import Labels, LabelTerms
from haldane.engine.notices import Pace, RecordNotices
from haldane.engine.pairing import ShadowLimits, pairs
from haldane.judge.outputs import OutputKind, OutputRule
from haldane.ports import Flaw, Refused, Unavailable
from haldane.serving.client import ServingClient, open_client
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry
from haldane.tensors import Signature, TensorSpec, encode
from haldane.testing.builders import a_rollout
from haldane.testing.sandboxes import Sandbox
from haldane.web.events import over_kafka

CREDIT = ModelName("credit")


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if given := os.environ.get("HALDANE_KAFKA"):
        yield given
        return
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    try:
        yield broker.address
    finally:
        broker.stop()


@pytest.fixture
def topic(brokers: str) -> str:
    """A new topic of two partitions."""
    return make_topic(brokers, f"t-{uuid.uuid4().hex[:8]}")


def log_of(value: float, model: str = "credit") -> bytes:
    log = wire.PredictionLog()
    log.predict_log.request.model_spec.name = model
    log.predict_log.request.inputs["x"].CopyFrom(encode(np.array([value], np.float32), 1))
    return bytes(log.SerializeToString())


def section(brokers: str, topic: str, **more: Any) -> ModelSection:
    kafka = {"brokers": brokers, "topic": topic, "start": "oldest", **more}
    return ModelSection.model_validate({"clients": "label", "traffic": {"kafka": kafka}})


class Server:
    async def signatures(self, model: str, version: int) -> dict[str, Signature]:
        spec = TensorSpec("x", 1, (-1,))
        return {"serving_default": Signature("serving_default", "tensorflow/serving/predict", {"x": spec}, {})}


async def opened(given: ModelSection, **more: Any) -> Topic:
    source = await open_source(CREDIT, given, 1, [Server()], **more)  # type: ignore[list-item]
    assert isinstance(source, Topic)
    return source


async def take(source: Topic, count: int, *, finish: Sequence[int] = ()) -> list[str]:
    """The ids of so many requests; those at the places `finish` are finished, then the source is closed."""
    taken = []
    async with asyncio.timeout(60), aclosing(source.requests()) as requests:
        async for request in requests:
            taken.append(request)
            if len(taken) == count:
                break
        for place in finish:
            source.finished(taken[place])
    return [request.id for request in taken]


async def test_a_request_is_given_again_until_its_pair_and_all_before_it_are_back(brokers: str, topic: str) -> None:
    send(brokers, topic, [log_of(number) for number in range(4)])
    source = await opened(section(brokers, topic))
    everything = [f"{topic}/0@{offset}" for offset in range(4)]
    assert await take(source, 4, finish=[0, 1, 3]) == everything
    assert await take(source, 2, finish=[0, 1]) == everything[2:]  # 2 was out, so 3 is not committed either
    send(brokers, topic, [log_of(4)], partition=1)
    assert await take(source, 1) == [f"{topic}/1@0"]


async def test_garbage_is_counted_by_reason_and_never_given_again(brokers: str, topic: str) -> None:
    send(brokers, topic, [b"\xff garbage", None, log_of(1, "fraud"), log_of(2)])
    counted: list[Flaw] = []
    source = await opened(section(brokers, topic), on_flaw=counted.append)
    assert await take(source, 1, finish=[0]) == [f"{topic}/0@3"]
    assert Counter(counted) == source.flaws == {Flaw.FORMAT: 2, Flaw.OTHER_MODEL: 1}
    send(brokers, topic, [log_of(3)])
    assert await take(source, 1) == [f"{topic}/0@4"]
    assert len(counted) == 3


async def test_rest_bodies_name_themselves_and_must_fit_the_signature(brokers: str, topic: str) -> None:
    lines = [{"inputs": ["text"]}, {"instances": [0.5], "id": "loan-1", "truth": 1}]
    send(brokers, topic, [json.dumps(line).encode() for line in lines])
    source = await opened(section(brokers, topic, form="rest_json"))
    assert await take(source, 1) == ["loan-1"]
    assert source.flaws == {Flaw.SIGNATURE: 1}


async def test_the_first_request_is_one_of_the_last_and_takes_no_place(brokers: str, topic: str) -> None:
    send(brokers, topic, [log_of(1), b"\xff"])
    source = await opened(section(brokers, topic, start="newest"))
    assert (await first_request(source)).id == f"{topic}/0@0"
    assert await take(await opened(section(brokers, topic)), 1) == [f"{topic}/0@0"]


async def test_a_topic_that_cannot_be_read_says_why(brokers: str, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="absent"):
        await first_request(await opened(section(brokers, "absent")))
    settings = tmp_path / "client.properties"
    settings.write_text("# ours\nno.such.setting=1\n")
    with pytest.raises(Refused, match=r"no\.such\.setting"):
        await first_request(await opened(section(brokers, "absent", settings_file=str(settings))))
    settings.write_text("sasl.password secret\n")
    with pytest.raises(Refused, match=r"client\.properties:1: must be key=value") as caught:
        await opened(section(brokers, "absent", settings_file=str(settings)))
    assert "secret" not in str(caught.value)


async def test_requests_of_a_topic_become_pairs_and_what_was_paired_is_not_given_again(
    brokers: str, topic: str, tmp_path: Path
) -> None:
    given = section(brokers, topic)
    with Sandbox(tmp_path) as sandbox:
        for version in (1, 2):
            sandbox.add(CREDIT, version)
        sandbox.start(sandbox.config(sandbox.entry(CREDIT, 1, 2)))
        async with open_client(sandbox.server) as client, asyncio.timeout(60):
            while (await client.look({CREDIT: ()}, {})).models[CREDIT].loaded != (1, 2):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            send(brokers, topic, [log_of(number) for number in range(20)])
            assert await paired(client, await opened(given), 20) == 20
            send(brokers, topic, [log_of(number) for number in range(3)])
            assert await paired(client, await opened(given), 3) == 3  # none of the 20 before them


async def paired(client: ServingClient, source: Topic, count: int) -> int:
    """How many pairs a run gave that ended when it had given `count` at least."""
    batches = pairs(
        rollout=a_rollout(Phase.SHADOWING),
        servers={ServerName("r0"): client},
        source=source,
        limits=ShadowLimits(pairs_per_second=200.0, batch_seconds=0.1, aa_share=0.0),
        score=Scorer(OutputRule(kind=OutputKind.REGRESSION)),
        address=lambda: Addressing(1, 2),
        masked=lambda _: False,
        next_seq=0,
        judged_rows=set(),
        elapsed=lambda: 0.0,
        telemetry=Telemetry.on(CollectorRegistry()),
        finished=source.finished,
    )
    found = 0
    async with aclosing(batches):
        async for batch in batches:
            found += len(batch)
            if found >= count:
                break
    return found


class LabelStore:
    """Keeps labels; away for the first call."""

    def __init__(self) -> None:
        self.kept: list[Label] = []
        self.away = True

    def put_labels(self, model: ModelName, labels: Sequence[Label], **_: Any) -> Receipt:
        if self.away:
            self.away = False
            raise Unavailable("store", "away")
        self.kept += labels
        return Receipt(accepted=len(labels))


class Noon:
    def now(self) -> float:
        return 0.0


async def test_labels_of_a_topic_are_kept_though_the_store_was_away(
    brokers: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haldane.app.labeltopic.RETRY_SECONDS", 0.1)
    send(brokers, topic, [b'{"request": "loan-1", "label": 1}', b"junk", b'[{"request": "loan-2", "label": "good"}]'])
    store, telemetry = LabelStore(), Telemetry.on(CollectorRegistry())
    labels = Labels(
        store,  # type: ignore[arg-type]
        Noon(),
        telemetry,
        terms=lambda _: LabelTerms(60, count_late=True),
        score=None,  # type: ignore[arg-type]
    )
    kafka = {"brokers": brokers, "topic": topic}
    given = ModelSection.model_validate({"clients": "label", "labels": {"kafka": kafka}})
    assert given.labels is not None and given.labels.kafka is not None
    reading = asyncio.create_task(keep_reading(CREDIT, given.labels.kafka, labels))
    async with asyncio.timeout(60):
        while len(store.kept) < 2:  # noqa: ASYNC110 - the store sets no event
            await asyncio.sleep(0.05)
    send(brokers, topic, [b'{"request": "loan-3", "label": 0}'])
    async with asyncio.timeout(60):
        while len(store.kept) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert store.kept == [Label(key_of("loan-1"), 1.0), Label(key_of("loan-2"), "good"), Label(key_of("loan-3"), 0.0)]
    assert telemetry.registry.get_sample_value("haldane_labels_total", {"model": "credit", "result": "malformed"}) in (
        1,
        2,
    )  # told again when the messages are


class Listener:
    """What stands for the agent: takes announcements, is away the first time, knows what it was told."""

    def __init__(self) -> None:
        self.taken: list[Announcement] = []
        self.away = True
        self.intake = SimpleNamespace(telemetry=Telemetry.on(CollectorRegistry()))

    def local(self, said: str) -> str:
        return said.removeprefix("finance/")

    async def announce(self, one: Announcement) -> bool:
        if self.away:
            self.away = False
            raise Unavailable("store", "away")
        if one.key not in [each.key for each in self.taken]:
            self.taken.append(one)
        return True

    @property
    def unreadable(self) -> float | None:
        registry = self.intake.telemetry.registry
        return registry.get_sample_value("haldane_releases_total", {"model": "credit", "result": "unreadable"})


def published(version: int, name: str, model: str = "credit", kind: str = "haldane.release.published") -> bytes:
    event = {"specversion": "1.0", "id": name, "source": "/ci", "type": kind, "datacontenttype": "application/json"}
    return json.dumps({**event, "data": {"model": model, "version": version}}).encode()


async def test_releases_of_a_topic_are_taken_at_least_once_and_what_cannot_be_read_goes_to_the_dead_letters(
    brokers: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haldane.app.eventtopic.RETRY_SECONDS", 0.1)
    dead = f"{topic}-dead"
    values = [
        published(2, "1"),
        b"junk",
        published(2, "1"),
        published(9, "3", model="fraud"),
        published(9, "4", kind="com.example.trained"),
        published(3, "5", model="finance/credit"),
    ]
    send(brokers, topic, values, headers={"content-type": b"application/cloudevents+json"})
    section = ReleaseTopicSection(brokers=brokers, topic=topic, dead_letters=dead)
    listener = Listener()
    listening = asyncio.create_task(keep_listening(CREDIT, section, cast(Agent, listener)))
    async with asyncio.timeout(60):
        while len(listener.taken) < 2:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert [(one.model, one.version, one.key) for one in listener.taken] == [
        ("credit", 2, "/ci 1"),
        ("credit", 3, "/ci 5"),
    ]
    assert listener.unreadable == 1
    async with open_feed(topic_terms(ReleaseTopicSection(brokers=brokers, topic=dead), "readers")) as feed:
        found = []
        async with asyncio.timeout(30):
            while not found:
                found = await feed.take()
    assert [one.value for one in found] == [b"junk"]
    assert b"not a CloudEvent" in found[0].headers["haldane-why"]
    assert found[0].headers["haldane-from"] == f"{topic}/0@1".encode()


async def test_a_feed_is_closed_when_it_cannot_be_opened() -> None:
    terms = topic_terms(section("127.0.0.1:1", "t").traffic.kafka, "g")  # type: ignore[union-attr,arg-type]
    with pytest.raises(Unavailable, match="does not answer"):
        async with open_feed(terms) as feed:
            assert isinstance(feed, Feed)


async def test_a_broker_that_is_restarted_in_mid_run_is_waited_for_and_read_on(tmp_path: Path) -> None:
    """This one forgets what it held; a Kafka would not. What counts is that the run goes on by itself."""
    broker = Broker(tmp_path)
    broker.start()
    try:
        name = make_topic(broker.address, "requests")
        send(broker.address, name, [log_of(number) for number in range(3)])
        source = await opened(section(broker.address, name))
        taken = []
        async with asyncio.timeout(90), aclosing(source.requests()) as requests:
            for _ in range(3):
                taken.append(await anext(requests))
            source.finished(taken[0])
            await asyncio.to_thread(broker.stop)
            source.finished(taken[1])  # there is nobody to commit it to
            waiting = asyncio.ensure_future(anext(requests))
            await asyncio.sleep(1.0)
            assert not waiting.done()
            broker.start()
            await asyncio.to_thread(make_topic, broker.address, name)
            await asyncio.to_thread(send, broker.address, name, [log_of(10 + number) for number in range(8)])
            assert (await waiting).id.startswith(f"{name}/0@")
    finally:
        broker.stop()


async def test_a_release_that_the_command_announces_is_what_the_agent_reads(brokers: str, topic: str) -> None:
    command = ["release", "announce", "credit", "7", "--by", "ci", "--kafka", brokers, "--topic", topic]
    result = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert result.exit_code == 0, result.output
    (message,) = await messages(brokers, topic)
    one = over_kafka(message.headers, message.value)
    assert (one.model, one.version, one.by, one.key) == ("credit", 7, "ci", "haldane-release-announce credit/7")


async def test_topics_of_the_config_are_asked_for_before_anything_runs(brokers: str, topic: str) -> None:
    there, absent = {"brokers": brokers, "topic": topic}, {"brokers": brokers, "topic": "absent"}
    models = {"credit": {"clients": "label", "releases": {"kafka": there}}}
    config = Config.model_validate({"models": models, "notices_topic": absent})
    found = await neighbours(config)
    assert found[0] == (True, f"credit: releases: topic {topic} is there")
    assert found[1][0] is False
    assert found[1][1].startswith("notices: absent: cannot be read")


def test_brokers_that_are_away_are_told_with_their_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haldane.adapters.outlet._ANSWER_SECONDS", 1.0)
    command = ["release", "announce", "credit", "7", "--kafka", "127.0.0.1:1", "--topic", "t"]
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, result.stderr.startswith("t: ")) == (4, True), result.output


class AuditLog:
    """Records of two models' rollouts, and a journal in memory."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.kept: dict[str, Any] = {"after": 0}

    def add(self, model: str) -> None:
        data = {"from": "SHADOWING", "to": "PROMOTING", "why": "every server is settled"}
        last = self.records[-1] if self.records else None
        self.records.append(chain(last, at=1.0, kind="phase_changed", rollout="x", model=model, data=data))

    def load(self) -> dict[str, Any]:
        return self.kept

    def save(self, values: Mapping[str, Any]) -> None:
        self.kept = dict(values)


async def test_what_happens_while_the_broker_is_away_is_told_in_order_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This broker forgets what it held when it ends, so what is told later is all that it holds then."""
    monkeypatch.setattr("haldane.adapters.outlet._ANSWER_SECONDS", 1.0)
    broker, log, telemetry = Broker(tmp_path), AuditLog(), Telemetry.on(CollectorRegistry())
    opening = open_notice_topic("decisions", brokers=broker.address, settings={}, source="http://agent/")
    async with opening as topic:
        pace = Pace(look=0.05, first_retry=0.05, most_retry=0.2, tries=None)
        notices = RecordNotices(
            lambda after: log.records[after:],
            topic,
            name="topic",
            notice=of_record,
            journal=log,
            may_tell=lambda: True,
            telemetry=telemetry,
            pace=pace,
        )
        telling = asyncio.create_task(notices.run())
        for model in ("credit", "fraud", "credit"):
            log.add(model)
        missed = {"notifier": "topic", "result": "unavailable"}
        async with asyncio.timeout(60):
            while not telemetry.registry.get_sample_value("haldane_notifications_total", missed):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert log.kept == {"after": 0}
        broker.start()
        try:
            async with asyncio.timeout(60):
                while log.kept != {"after": 3}:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            found = await events(broker.address, "decisions")
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            broker.stop()
    told = {event.get_id(): event for event in found}  # at least once
    assert [one.get_data()["seq"] for one in told.values() if one.get_data()["model"] == "credit"] == [1, 3]
    assert {one.get_data()["seq"] for one in told.values()} == {1, 2, 3}
    assert {(one.get_type(), one.get_source()) for one in told.values()} == {("haldane.rollout.moved", "http://agent/")}
