"""Mirrored calls looked at, drawn and queued: every one is counted, and nothing grows without bound."""

import asyncio

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from haldane import wire
from haldane.domain.fleet import ModelName
from haldane.domain.traffic import Api
from haldane.serving.intake import Fate, Intake, Mirrored, Received, Shares, Tally, Use, Waiting
from haldane.telemetry import TapTelemetry
from haldane.tensors import encode

CREDIT, OTHER = ModelName("credit"), ModelName("other")


def body(model: str = "credit", size: int = 1) -> bytes:
    request = wire.PredictRequest()
    request.model_spec.name = model
    request.inputs["x"].CopyFrom(encode(np.zeros(size, np.float32), 1))
    return bytes(request.SerializeToString())


def an_intake(shares: Shares | None = None, waiting_bytes: int = 1 << 20) -> tuple[Intake, CollectorRegistry]:
    registry = CollectorRegistry()
    tally = Tally(TapTelemetry.on(registry))
    return Intake({CREDIT: shares or Shares(shadow=1.0)}, waiting_bytes, tally), registry


def test_each_call_is_counted_once_by_what_it_was():
    intake, registry = an_intake()
    intake.grpc(Api.PREDICT, body())
    intake.grpc(Api.PREDICT, body("another"))
    intake.grpc(Api.PREDICT, b"\xff\xff\xff")
    intake.grpc(Api.PREDICT, b"")
    intake.rest("credit", Api.PREDICT, b"{}")
    intake.rest("../etc", Api.PREDICT, b"{}")
    intake.refuse(Received.TOO_LARGE)
    assert intake.tally.received == {
        ("credit", Received.OK): 2,
        ("", Received.OTHER_MODEL): 2,
        ("", Received.UNREADABLE): 2,
        ("", Received.TOO_LARGE): 1,
    }
    assert registry.get_sample_value("haldane_tap_received_total", {"model": "", "result": "other_model"}) == 2


def test_names_that_others_make_up_make_no_series():
    intake, registry = an_intake()
    for number in range(100):
        intake.grpc(Api.PREDICT, body(f"made-up-{number}"))
    (family,) = [one for one in registry.collect() if one.name == "haldane_tap_received"]
    assert {sample.labels["model"] for sample in family.samples} == {""}


async def test_calls_go_to_the_reader_in_order_and_to_nobody_when_there_is_none():
    intake, _ = an_intake()
    intake.grpc(Api.PREDICT, body(size=1))
    reader = intake.start_reading(CREDIT)
    sent = [body(size=size) for size in (2, 3)]
    for one in sent:
        intake.grpc(Api.PREDICT, one)
    assert [call.body for call in await reader.take(10)] == sent
    intake.stop_reading(CREDIT, reader)
    assert not intake.tally.fates


async def test_a_reader_that_leaves_leaves_what_waited_counted():
    intake, _ = an_intake()
    first = intake.start_reading(CREDIT)
    intake.grpc(Api.PREDICT, body())
    second = intake.start_reading(CREDIT)  # the agent was restarted before the old stream was noticed to be gone
    intake.stop_reading(CREDIT, first)
    intake.grpc(Api.PREDICT, body())
    assert len(second) == 1
    assert intake.tally.fates == {(CREDIT, Use.SHADOW, Fate.LEFT): 1}


async def test_a_flood_that_nobody_takes_is_bounded_and_dropped_by_count():
    intake, _ = an_intake(Shares(shadow=1.0, record=1.0), waiting_bytes=200_000)
    reader, one = intake.start_reading(CREDIT), body(size=100)
    for _ in range(5000):
        intake.grpc(Api.PREDICT, one)
    recorded = intake.recorded[CREDIT]
    assert (len(reader) + len(recorded)) * len(one) < 200_000
    assert len(reader) + intake.tally.fates[CREDIT, Use.SHADOW, Fate.FULL] == 5000
    assert len(recorded) + intake.tally.fates[CREDIT, Use.RECORD, Fate.FULL] == 5000
    await reader.take(10_000)
    intake.grpc(Api.PREDICT, one)
    assert len(reader) == 1  # and there is room again


def test_the_sampled_share_is_drawn():
    intake, _ = an_intake(Shares(record=0.2), waiting_bytes=64 << 20)
    for _ in range(5000):
        intake.grpc(Api.PREDICT, body())
    assert 800 < len(intake.recorded[CREDIT]) < 1200  # seven standard deviations


async def test_the_newest_is_waited_for_and_another_when_it_was_of_no_use():
    intake, _ = an_intake()
    waiting = asyncio.create_task(intake.newest(CREDIT))
    await asyncio.sleep(0)
    intake.grpc(Api.PREDICT, body(size=1))
    first = await waiting
    intake.forget(first)
    waiting = asyncio.create_task(intake.newest(CREDIT))
    await asyncio.sleep(0)
    assert not waiting.done()
    intake.grpc(Api.PREDICT, body(size=2))
    assert (await waiting).body == body(size=2)


@pytest.mark.parametrize("size", [0, 100])
async def test_small_bodies_count_too(size):
    waiting = Waiting(10_000)
    taken = sum(waiting.offer(Mirrored(CREDIT, Api.PREDICT, b"x" * size)) for _ in range(1000))
    assert taken < 60
    assert len(await waiting.take(2000)) == taken


@pytest.mark.parametrize(("headers", "found"), [
    ([("other", "x"), ("loan-id", "4711")], "4711"),
    ([(b"Loan-Id", b"4711")], "4711"),
    ([("loan-id-bin", b"4711")], ""),
    ([("loan-id", "x" * 300)], ""),
    ([("loan-id", b"\xff")], "\ufffd"),
    ([], ""),
])  # fmt: skip
async def test_a_call_has_the_id_that_its_header_says(headers, found):
    intake, _ = an_intake(Shares(shadow=1.0, id_header="Loan-Id"))
    reader = intake.start_reading(CREDIT)
    intake.grpc(Api.PREDICT, body(), headers)
    intake.rest("credit", Api.PREDICT, b"{}", headers)
    assert [call.id for call in await reader.take(2)] == [found, found]


async def test_a_packed_body_is_known_by_its_header():
    intake, _ = an_intake()
    reader = intake.start_reading(CREDIT)
    intake.rest("credit", Api.PREDICT, b"{}", [(b"content-encoding", b"GZIP")])
    intake.rest("credit", Api.PREDICT, b"{}", [(b"content-encoding", b"identity")])
    assert [call.gzip for call in await reader.take(2)] == [True, False]
