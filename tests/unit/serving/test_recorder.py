"""From mirrored calls to files, with a disk that refuses and calls that cannot be redacted."""

import asyncio
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from prometheus_client import CollectorRegistry

from haldane import wire
from haldane.domain.fleet import ModelName
from haldane.domain.traffic import Api
from haldane.serving import recorder as module
from haldane.serving.intake import Fate, Intake, Shares, Tally, Use
from haldane.serving.recorder import Recorder
from haldane.serving.recording import Recording, Terms
from haldane.serving.records import read_frames
from haldane.serving.redact import Redaction
from haldane.serving.tapfeed import Reading
from haldane.telemetry import TapTelemetry
from haldane.tensors import encode

CREDIT = ModelName("credit")


def body(size: int = 1, **more: bytes) -> bytes:
    request = wire.PredictRequest()
    request.model_spec.name = "credit"
    request.inputs["x"].CopyFrom(encode(np.zeros(size, np.float32), 1))
    for name, value in more.items():
        request.inputs[name].CopyFrom(encode(np.array([value], object), 7))
    return bytes(request.SerializeToString())


async def nothing(_: ModelName) -> None:
    """No server says what a model takes."""


@asynccontextmanager
async def recording(
    folder: Path, redaction: Redaction | None = None, known: Callable[[ModelName], Awaitable[None]] = nothing
) -> AsyncIterator[Intake]:
    """A recorder at work; its file is finished at the end."""
    terms = Terms(folder, file_bytes=1 << 20, file_seconds=3600.0, keep_bytes=1 << 30, keep_seconds=3600.0)
    intake = Intake({CREDIT: Shares(record=1.0)}, 10 << 20, Tally(TapTelemetry.on(CollectorRegistry())))
    files = Recording(CREDIT, terms)
    files.open()
    work = asyncio.create_task(Recorder(CREDIT, intake, Reading(known, 1 << 20), files, redaction or Redaction()).run())
    try:
        yield intake
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def until(intake: Intake, holds: Callable[[Callable[[Fate], int]], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds(lambda fate: intake.tally.fates[CREDIT, Use.RECORD, fate]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def written(folder: Path) -> list[Any]:
    return [one for path in sorted(folder.glob("*.tfrecord")) for one in read_frames(path)]


async def test_a_full_disk_is_counted_and_recording_goes_on_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.05)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with structlog.testing.capture_logs() as logs:
        async with recording(tmp_path) as intake:
            intake.grpc(Api.PREDICT, body())
            await until(intake, lambda count: count(Fate.GIVEN) == 1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
            try:
                for _ in range(3):
                    intake.grpc(Api.PREDICT, body(size=100))
                    await asyncio.sleep(0.02)
                await until(intake, lambda count: count(Fate.DISK) == 3)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            await asyncio.sleep(0.1)
            intake.grpc(Api.PREDICT, body(size=2))
            await until(intake, lambda count: count(Fate.GIVEN) == 2)
    records = written(tmp_path)
    assert len(records) == 2
    assert all(isinstance(one, bytes) for one in records)
    assert [one["event"] for one in logs] == ["recording_failed", "recording_resumed"]


async def test_a_rest_call_waits_for_no_server_that_could_say_what_it_means(tmp_path):
    async with recording(tmp_path) as intake:
        intake.rest("credit", Api.PREDICT, b'{"instances": [1.0]}')
        intake.grpc(Api.PREDICT, b"\x0a\x08\x0a\x06credit")  # names the model and nothing else
        intake.grpc(Api.PREDICT, body())
        await until(intake, lambda count: count(Fate.GIVEN) + count(Fate.NO_SIGNATURE) + count(Fate.UNREADABLE) == 3)
    assert intake.tally.fates == {
        (CREDIT, Use.RECORD, fate): 1 for fate in (Fate.GIVEN, Fate.NO_SIGNATURE, Fate.UNREADABLE)
    }


async def test_a_tap_that_is_told_to_stop_writes_what_waits(tmp_path):
    """More than is taken in one go, some of it just in hand."""
    async with recording(tmp_path) as intake:
        for _ in range(300):
            intake.grpc(Api.PREDICT, body())
        await asyncio.sleep(0)
    assert intake.tally.fates == {(CREDIT, Use.RECORD, Fate.GIVEN): 300}
    assert len(written(tmp_path)) == 300


async def test_a_tap_that_is_told_to_stop_counts_what_it_has_no_time_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FINISH_SECONDS", 0.2)

    async def hangs(_: ModelName) -> None:
        await asyncio.sleep(60)

    async with recording(tmp_path, known=hangs) as intake:
        for _ in range(100):
            intake.rest("credit", Api.PREDICT, b'{"instances": [1.0]}')
        await asyncio.sleep(0.05)  # some are in hand, while a server is asked what they mean
    assert intake.tally.fates == {(CREDIT, Use.RECORD, Fate.STOPPED): 100}


async def test_what_breaks_the_redaction_is_not_written(tmp_path, monkeypatch):
    def broken(self, api, request):
        if "name" in request.inputs:
            raise RuntimeError("a mistake of ours")
        return frozenset()

    monkeypatch.setattr(Redaction, "apply", broken)
    async with recording(tmp_path, Redaction(drop=frozenset({"name"}))) as intake:
        intake.grpc(Api.PREDICT, body(name=b"Ada"))
        intake.grpc(Api.PREDICT, body())
        await until(intake, lambda count: count(Fate.GIVEN) == 1 and count(Fate.UNREADABLE) == 1)
    assert not any(b"Ada" in one for one in written(tmp_path))


@pytest.mark.parametrize(("name", "told"), [("name", []), ("naem", [["naem"]])])
async def test_a_field_that_no_request_has_is_told(tmp_path, name, told):
    with structlog.testing.capture_logs() as logs:
        async with recording(tmp_path, Redaction(drop=frozenset({name}))) as intake:
            for _ in range(150):
                intake.grpc(Api.PREDICT, body(name=b"Ada"))
            await until(intake, lambda count: count(Fate.GIVEN) == 150)
    assert [one["fields"] for one in logs if one["event"] == "redacted_field_never_seen"] == told
