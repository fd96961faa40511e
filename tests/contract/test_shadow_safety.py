"""What shadowing may never do to the server it hits: against a running one, or a gRPC server that fails as told."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from tests.shadowing import Bench, bench_in

from haldane import wire
from haldane.domain.fleet import ModelName, ServerName
from haldane.domain.rollout import Phase
from haldane.domain.traffic import Api, Batch, Request, Status
from haldane.engine.addressing import Addressing
from haldane.engine.batchwaits import BatchWaits
from haldane.engine.pairing import ShadowLimits, pairs
from haldane.judge.outputs import OutputRule
from haldane.serving.client import open_client
from haldane.serving.exposition import load_counters
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout
from haldane.testing.fake_serving import FakeServing, serving
from haldane.testing.sandboxes import Sandbox, affine_request


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_in(tmp_path) as bench:
        yield bench


async def read_on(batches: AsyncGenerator[Batch, None]) -> None:
    async for _ in batches:
        pass


def sent(bench: Bench) -> float:
    return bench.telemetry.registry.get_sample_value("haldane_pairs_sent_total", {"model": "credit"}) or 0.0


async def until(claim: object) -> None:
    async with asyncio.timeout(20):
        while not claim():  # type: ignore[operator]  # noqa: ASYNC110 - a counter tells nobody
            await asyncio.sleep(0.02)


async def test_when_stable_fails_shadowing_stops_and_comes_back_slowly_when_it_is_well_again(bench: Bench) -> None:
    """Only stable fails here: a canary that does is what is to be found out."""
    async with aclosing(bench.pairs()) as batches, asyncio.TaskGroup() as group:
        await anext(batches)
        reading = group.create_task(read_on(batches))
        await bench.break_down("fail", version=1, code="INTERNAL")
        await until(lambda: bench.shed().get("errors"))
        await asyncio.sleep(0.3)  # what was on its way is back and counted
        before = sent(bench)
        await asyncio.sleep(0.3)
        assert sent(bench) == before
        await bench.heal()
        await until(lambda: sent(bench) > before)
        again, shed = sent(bench), bench.shed()["errors"]
        await until(lambda: sent(bench) > again)
        assert bench.shed()["errors"] > shed  # not all turns are taken yet
        reading.cancel()


async def test_a_canary_that_fails_goes_on_being_shadowed(bench: Bench) -> None:
    await bench.break_down("fail", version=2, code="INTERNAL")
    found = await bench.take(100, aa_share=0.0)
    assert (found["canary_status"] != 0).all()
    assert bench.shed() == {}


def refuse(fake: FakeServing) -> None:
    fake.fail(wire.PREDICT, grpc.StatusCode.UNAVAILABLE, "Socket closed")


def hang(fake: FakeServing) -> None:
    fake.hang(wire.PREDICT)


async def test_waits_for_a_batch_are_seen_on_the_page_of_a_server_that_batches(tmp_path: Path) -> None:
    """First batches are due at once, then after a tenth of a second: calls wait for others that never come."""
    parameters, waits = tmp_path / "batching.txt", BatchWaits()
    flags = ["--enable_batching", f"--batching_parameters_file={parameters}"]
    with Sandbox(tmp_path / "server", flags=flags) as sandbox:
        sandbox.add("credit", 1)
        for timeout, crowded in ((0, False), (100_000, True)):
            parameters.write_text(f"max_batch_size {{ value: 32 }} batch_timeout_micros {{ value: {timeout} }}")
            await asyncio.to_thread(sandbox.start, sandbox.config(sandbox.entry("credit", 1)), rest=True)
            async with open_client(sandbox.server) as client, asyncio.timeout(60):
                for calls in (0, 10):
                    for _ in range(calls):
                        deadline = asyncio.get_running_loop().time() + 10.0
                        request = affine_request(1.0)
                        answer = await client.predict(ModelName("credit"), request, version=1, deadline=deadline)
                        assert answer.status is Status.OK, answer
                    page = await client.scrape()
                    assert page is not None
                    waits.on_scrape(sandbox.server.name, load_counters(page).queued)
            assert waits.crowded(sandbox.server.name) is crowded
            sandbox.stop()


class Endless:
    async def requests(self) -> AsyncIterator[Request]:
        number = 0
        while True:
            number += 1
            yield Request(f"q{number}", Api.PREDICT, b"")


@pytest.mark.parametrize("failing", [refuse, hang], ids=["refused", "no answer"])
async def test_no_call_is_repeated_however_the_server_fails(failing: object) -> None:
    """gRPC would retry a refused call by itself, up to five times, if it were let."""
    fake, telemetry = FakeServing(), Telemetry.on(CollectorRegistry())
    failing(fake)  # type: ignore[operator]
    async with serving(fake) as server, open_client(server) as client:
        batches = pairs(
            rollout=a_rollout(Phase.PROMOTING, servers=(ServerName("r0"),)),
            servers={ServerName("r0"): client},
            source=Endless(),
            limits=ShadowLimits(
                pairs_per_second=200.0, concurrency=3, deadline_seconds=0.2, batch_pairs=5, look_seconds=0.0
            ),
            score=Scorer(OutputRule()),
            address=lambda: Addressing(1, 2),
            masked=lambda server: False,
            next_seq=0,
            judged_rows=set(),
            elapsed=lambda: 0.0,
            telemetry=telemetry,
        )
        async with asyncio.timeout(20), aclosing(batches):
            seen = 0
            async for batch in batches:
                seen += len(batch)
                if seen >= 10:
                    break
    pairs_sent = telemetry.registry.get_sample_value("haldane_pairs_sent_total", {"model": ModelName("credit")}) or 0.0
    assert fake.calls[wire.PREDICT.path] <= 2 * pairs_sent
    assert fake.busiest <= 2 * 3
