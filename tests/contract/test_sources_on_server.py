"""Each kind of source on a running server with two versions: every request is a pair, or is set aside by reason."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from haldane import wire
from haldane.app.sources import open_source
from haldane.config import ModelSection
from haldane.domain.fleet import ModelName, ServerName
from haldane.domain.rollout import Phase
from haldane.domain.traffic import Status
from haldane.engine.addressing import Addressing
from haldane.engine.pairing import ShadowLimits, pairs
from haldane.judge.outputs import OutputKind, OutputRule
from haldane.serving.client import ServingClient, open_client
from haldane.serving.records import frame
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry
from haldane.tensors import encode
from haldane.testing.builders import a_rollout
from haldane.testing.sandboxes import Sandbox

MODEL = ModelName("credit")
ROWS = 30


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[ServingClient]:
    with Sandbox(tmp_path) as sandbox:
        for version in (1, 2):
            sandbox.add(MODEL, version)
        sandbox.start(sandbox.config(sandbox.entry(MODEL, 1, 2)))
        async with open_client(sandbox.server) as client:
            async with asyncio.timeout(20):
                while (await client.look({MODEL: ()}, {})).models[MODEL].loaded != (1, 2):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            yield client


def log_of(*names: str) -> bytes:
    """PredictionLogs with one value each for the input of that name."""
    data = b""
    for number, name in enumerate(names):
        log = wire.PredictionLog()
        log.predict_log.request.inputs[name].CopyFrom(encode(np.array([number], np.float32), 1))
        data += frame(log.SerializeToString())
    return data


def logs(folder: Path) -> dict[str, Any]:
    (folder / "logs").mkdir()
    for part in range(3):
        (folder / "logs" / f"{part}.tfrecord").write_bytes(log_of(*["x"] * (ROWS // 3)))
    return {"prediction_log": str(folder / "logs" / "*.tfrecord")}


def json_lines(folder: Path) -> dict[str, Any]:
    (folder / "rows.jsonl").write_text("".join(json.dumps({"instances": [row]}) + "\n" for row in range(ROWS)))
    return {"rest_jsonl": str(folder / "rows.jsonl")}


def arrays(folder: Path) -> dict[str, Any]:
    np.savez(folder / "set.npz", x=np.arange(ROWS, dtype=np.float32), y=np.zeros(ROWS))
    return {"labelled": str(folder / "set.npz"), "label": "y"}


def warm_up(folder: Path) -> dict[str, Any]:
    place = folder / "models" / "1" / "assets.extra"
    place.mkdir(parents=True)
    (place / "tf_serving_warmup_requests").write_bytes(log_of(*["x"] * ROWS))
    return {"warmup": True}


def made_up(folder: Path) -> dict[str, Any]:
    return {"synthetic": True}


async def run(client: ServingClient, folder: Path, given: dict[str, Any], count: int) -> tuple[Any, dict[str, float]]:
    """The first `count` pairs and more, and what was set aside until then."""
    section = ModelSection.model_validate({"clients": "label", "traffic": given})
    source = await open_source(MODEL, section, 1, [client], base_path=str(folder / "models"))
    assert source is not None
    telemetry, taken = Telemetry.on(CollectorRegistry()), []
    batches = pairs(
        rollout=a_rollout(Phase.SHADOWING),
        servers={ServerName("r0"): client},
        source=source,
        limits=ShadowLimits(pairs_per_second=400.0, batch_seconds=0.1, aa_share=0.0),
        score=Scorer(OutputRule(kind=OutputKind.REGRESSION)),
        address=lambda: Addressing(1, 2),
        masked=lambda _: False,
        next_seq=0,
        judged_rows=set(),
        elapsed=lambda: 0.0,
        telemetry=telemetry,
    )
    async with asyncio.timeout(60), aclosing(batches):
        async for batch in batches:
            taken.append(batch)
            if sum(map(len, taken)) >= count:
                break
    (family,) = telemetry.shadow.set_aside.collect()
    aside = {one.labels["reason"]: one.value for one in family.samples if one.name.endswith("_total")}
    return np.concatenate(taken), aside


@pytest.mark.parametrize("write", [logs, json_lines, arrays, warm_up, made_up])
async def test_every_request_of_a_source_is_answered_by_both_versions(
    client: ServingClient, tmp_path: Path, write: Callable[[Path], dict[str, Any]]
) -> None:
    found, aside = await run(client, tmp_path, write(tmp_path), ROWS)
    assert aside == {}
    assert (found["stable_status"] == Status.OK).all()
    assert (found["canary_status"] == Status.OK).all()
    assert set(range(ROWS)) <= set(found["row"].tolist())


async def test_requests_that_the_server_refuses_are_set_aside_by_reason_and_the_rest_is_judged(
    client: ServingClient, tmp_path: Path
) -> None:
    (tmp_path / "log").write_bytes(log_of(*["x", "nosuch"] * 10))
    found, aside = await run(client, tmp_path, {"prediction_log": str(tmp_path / "log")}, 10)
    assert set(aside) == {"invalid"}
    assert 9 <= aside["invalid"] <= len(found) + 5
    assert set(found["row"].tolist()) == set(range(0, 20, 2))
