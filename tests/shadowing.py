"""One running server with two versions, and pairs sent to it: for tests of shadowing over the wire."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from prometheus_client import CollectorRegistry, Counter

from haldane import wire
from haldane.adapters.replay import Replay
from haldane.domain.fleet import ModelName, ServerName
from haldane.domain.rollout import Phase
from haldane.domain.traffic import Batch
from haldane.engine.addressing import Addressing
from haldane.engine.pairing import ShadowLimits, pairs
from haldane.judge.outputs import OutputKind, OutputRule
from haldane.serving.client import ServingClient, open_client
from haldane.serving.records import frame, read_prediction_logs
from haldane.serving.restform import read_lines
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout
from haldane.testing.sandboxes import Sandbox, affine_request, free_port

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

    def as_log(self) -> None:
        """The same rows from a log of calls, which knows no right answers."""
        self.path = self.path.with_name("calls.tfrecord")
        log, records = wire.PredictionLog(), []
        for row in range(ROWS):
            log.predict_log.request.ParseFromString(affine_request(float(row)).body)
            log.predict_log.request.model_spec.name = MODEL
            records.append(frame(log.SerializeToString()))
        self.path.write_bytes(b"".join(records))

    @property
    def traffic(self) -> dict[str, str]:
        """As the config says it."""
        return {"prediction_log" if self.path.suffix == ".tfrecord" else "rest_jsonl": str(self.path)}

    async def label(self, stable: int) -> None:
        await self.client.look({MODEL: ("stable", "canary")}, {})
        labels = {"stable": stable, "canary": 2}
        await self.client.reload(self.sandbox.config(self.sandbox.entry(MODEL, 1, 2, labels=labels)))

    async def slow_down(self, seconds: float, **where: Any) -> None:
        await self.break_down("delay", seconds=seconds, **where)

    async def break_down(self, kind: str, **fields: Any) -> None:
        fault = {"kind": kind, "model": MODEL, **fields}
        async with httpx.AsyncClient() as http:
            (await http.post(f"http://127.0.0.1:{self.admin}/faults", json=fault)).raise_for_status()

    async def heal(self) -> None:
        async with httpx.AsyncClient() as http:
            (await http.delete(f"http://127.0.0.1:{self.admin}/faults")).raise_for_status()

    async def pairs(self, **limits: float) -> AsyncGenerator[Batch, None]:
        signatures = await self.client.signatures(MODEL, 1)
        logged = "prediction_log" in self.traffic
        batches = pairs(
            rollout=a_rollout(Phase.SHADOWING),
            servers={ServerName("r0"): self.client},
            source=Replay(
                "rows",
                lambda: read_prediction_logs(self.path, model=MODEL) if logged else read_lines(self.path, signatures),
            ),
            limits=ShadowLimits(**{"pairs_per_second": 400.0, "batch_seconds": 0.2, **limits}),  # type: ignore[arg-type]
            score=Scorer(OutputRule(kind=OutputKind.REGRESSION, reach=1e6)),
            address=lambda: self.address,
            masked=lambda server: False,
            next_seq=0,
            judged_rows=set(),
            elapsed=time.monotonic,
            telemetry=self.telemetry,
        )
        async with asyncio.timeout(200), aclosing(batches):
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
        return by_reason(self.telemetry.shadow.set_aside)

    def shed(self) -> dict[str, float]:
        return by_reason(self.telemetry.shadow.shed)


def by_reason(counter: Counter) -> dict[str, float]:
    (family,) = counter.collect()
    return {s.labels["reason"]: s.value for s in family.samples if s.name.endswith("_total")}


@asynccontextmanager
async def bench_in(tmp_path: Path) -> AsyncIterator[Bench]:
    """It is up, both versions loaded and labelled, while the block lasts."""
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
