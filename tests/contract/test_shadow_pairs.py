"""Shadow pairs over the wire, against two versions on a running server: nothing here is faked."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest_asyncio
from tests.shadowing import ROWS, Bench, bench_in

from haldane.domain.traffic import Batch, Outcome, Status
from haldane.engine.addressing import Addressing


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_in(tmp_path) as bench:
        yield bench


async def test_pairs_flow_with_outputs_compared_and_held_against_the_truth(bench: Bench) -> None:
    found = await bench.take(200, aa_share=0.2)
    assert (found["stable_status"] == Status.OK).all()
    assert (found["canary_status"] == Status.OK).all()
    assert bench.set_aside() == {}
    ab, aa = found[~found["aa"]], found[found["aa"]]
    assert len(aa) > 10
    assert (aa["distance"] == 0).all()
    assert np.allclose(ab["distance"], 10 * ab["row"])
    assert (ab["disagrees"] == (ab["row"] > 0)).all()
    assert np.allclose(found["stable_output"], 10 * found["row"])
    assert np.allclose(ab["canary_output"], 20 * ab["row"])
    assert (found["stable_loss"] == 0).all()
    assert np.allclose(ab["canary_loss"], (10.0 * ab["row"]) ** 2 / 1e6)
    assert np.bincount(ab["row"][ab["fresh"]], minlength=ROWS).max() == 1


async def test_a_flip_in_the_middle_sets_aside_only_the_pairs_that_straddle_it(bench: Bench) -> None:
    taken: list[Batch] = []
    flipped_at = None
    async with aclosing(bench.pairs(aa_share=0.0)) as batches:
        async for batch in batches:
            taken.append(batch)
            count = sum(map(len, taken))
            if count >= 100 and flipped_at is None:
                await bench.label(stable=2)  # for a moment label pairs are (2, 2), and the agent does not know yet
                flipped_at = time.monotonic()
                bench.address = Addressing(1, 2)
            if flipped_at and batch["at"].min() > flipped_at + 0.3:
                break
    found = np.concatenate(taken)
    aside = bench.set_aside()
    assert set(aside) <= {"straddled"}
    missing = set(range(int(found["seq"].max()) + 1)) - set(found["seq"].tolist())
    assert len(missing) == sum(aside.values())
    assert np.ptp(sorted(missing) or [0]) < 200  # all around the flip, none elsewhere
    assert np.allclose(found["distance"], 10 * found["row"])  # every counted pair is version 1 beside version 2


async def test_a_canary_version_that_is_gone_gives_no_pairs_and_says_why(bench: Bench) -> None:
    bench.address = Addressing("stable", 9)
    async with aclosing(bench.pairs(aa_share=0.5)) as batches:
        async for batch in batches:
            assert batch["aa"].all()
            break
    assert set(bench.set_aside()) == {"not_found"}


async def test_when_stable_slows_down_shadowing_goes_to_zero(bench: Bench) -> None:
    sent: list[float] = []
    predict = bench.client.predict

    async def noted(*args: Any, **fields: Any) -> Outcome:
        sent.append(time.monotonic())
        return await predict(*args, **fields)

    bench.client.predict = noted  # type: ignore[method-assign]
    async with aclosing(bench.pairs()) as batches, asyncio.TaskGroup() as group:
        await anext(batches)
        await anext(batches)
        reading = group.create_task(read_on(batches))
        await bench.slow_down(0.15, version=1)
        async with asyncio.timeout(10):
            while not bench.shed():  # noqa: ASYNC110 - a counter tells nobody
                await asyncio.sleep(0.01)
        before = len(sent)
        await asyncio.sleep(0.3)
        reading.cancel()
    assert set(bench.shed()) == {"slow"}
    assert len(sent) - before <= 8  # what was on its way


async def read_on(batches: AsyncGenerator[Batch, None]) -> None:
    async for _ in batches:
        pass


async def test_a_server_out_of_threads_is_not_shadowed_any_more(bench: Bench) -> None:
    """More pairs at once than the server has threads: a user's call may be the next to be refused."""
    await bench.slow_down(0.2)
    found = [batch async for batch in bench.pairs(concurrency=12)]  # ends, though the source does not
    assert bench.shed() == {"exhausted": 1}
    assert bench.set_aside()["exhausted"] >= 1
    assert sum(map(len, found)) <= 12
