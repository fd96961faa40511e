"""Shadow pairs over the wire, against two versions on a running server: nothing here is faked."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest_asyncio
from prometheus_client import CollectorRegistry, Counter

from haldane.adapters.replay import Replay
from haldane.domain.fleet import ModelName, ServerName
from haldane.domain.rollout import Phase
from haldane.domain.traffic import Batch, Outcome, Status
from haldane.engine.addressing import Addressing
from haldane.engine.pairing import ShadowLimits, pairs
from haldane.judge.outputs import OutputKind, OutputRule
from haldane.serving.client import ServingClient, open_client
from haldane.serving.restform import read_lines
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout
from haldane.testing.sandboxes import Sandbox, free_port

MODEL = ModelName("credit")
ROWS = 40


@dataclass
class Bench:
    """A server with versions 1 (y = 10 x) and 2 (y = 20 x), `stable` at 1 and `canary` at 2; row r asks for x = r."""

    sandbox: Sandbox
    client: ServingClient
    path: Path
    telemetry: Telemetry
    address: Addressing
    admin: int

    async def label(self, stable: int) -> None:
        await self.client.look({MODEL: ("stable", "canary")}, {})
        labels = {"stable": stable, "canary": 2}
        await self.client.reload(self.sandbox.config(self.sandbox.entry(MODEL, 1, 2, labels=labels)))

    async def slow_down(self, seconds: float, **where: Any) -> None:
        fault = {"kind": "delay", "model": MODEL, "seconds": seconds, **where}
        async with httpx.AsyncClient() as http:
            (await http.post(f"http://127.0.0.1:{self.admin}/faults", json=fault)).raise_for_status()

    async def pairs(self, **limits: float) -> AsyncGenerator[Batch, None]:
        signatures = await self.client.signatures(MODEL, 1)
        batches = pairs(
            rollout=a_rollout(Phase.SHADOWING),
            servers={ServerName("r0"): self.client},
            source=Replay("rows", lambda: read_lines(self.path, signatures)),
            limits=ShadowLimits(**{"pairs_per_second": 400.0, "batch_seconds": 0.2, **limits}),  # type: ignore[arg-type]
            score=Scorer(OutputRule(kind=OutputKind.REGRESSION, reach=1e6)),
            address=lambda: self.address,
            masked=lambda server: False,
            next_seq=0,
            judged_rows=set(),
            elapsed=time.monotonic,
            telemetry=self.telemetry,
        )
        async with asyncio.timeout(30), aclosing(batches):
            async for batch in batches:
                yield batch

    async def take(self, count: int, **limits: float) -> Batch:
        taken: list[Batch] = []
        async with aclosing(self.pairs(**limits)) as batches:
            async for batch in batches:
                taken.append(batch)
                if sum(map(len, taken)) >= count:
                    break
        return np.concatenate(taken)

    def set_aside(self) -> dict[str, float]:
        return by_reason(self.telemetry.set_aside)

    def shed(self) -> dict[str, float]:
        return by_reason(self.telemetry.shed)


def by_reason(counter: Counter) -> dict[str, float]:
    (family,) = counter.collect()
    return {s.labels["reason"]: s.value for s in family.samples if s.name.endswith("_total")}


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"instances": [float(row)], "truth": 10.0 * row}) for row in range(ROWS)]
    path.write_text("\n".join(lines))
    admin = free_port()
    with Sandbox(tmp_path, flags=["--grpc_max_threads=10", f"--admin_port={admin}"]) as sandbox:
        for version in (1, 2):
            sandbox.add(MODEL, version)
        sandbox.start(sandbox.config(sandbox.entry(MODEL, 1, 2)))
        async with open_client(sandbox.server) as client:
            bench = Bench(
                sandbox, client, path, Telemetry.on(CollectorRegistry()), Addressing("stable", "canary"), admin
            )
            async with asyncio.timeout(20):
                while (await client.look({MODEL: ()}, {})).models[MODEL].loaded != (1, 2):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await bench.label(stable=1)
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
