"""The shadow spread over a real Dask cluster, beside the same from one process: the same rows, the same counts."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import pytest_asyncio
from prometheus_client import Counter, Gauge
from tests.cluster import Cluster, cluster_in
from tests.pki import write_pki
from tests.shadowing import ROWS, Bench, bench_in, by_reason

from haldane.adapters.dask import DaskWorkers, open_workers
from haldane.app.sender import UNASKED_SECONDS, Order
from haldane.app.shadowing import RemoteSenders, split
from haldane.config import ModelSection
from haldane.domain.fleet import ServerName
from haldane.domain.rollout import Phase, Rollout
from haldane.domain.traffic import Batch
from haldane.engine.merging import KeptAnswers, Told
from haldane.engine.pairing import ShadowLimits
from haldane.engine.spread import Beginning, Spread
from haldane.judge.outputs import OutputKind, OutputRule
from haldane.ports import Refused, Unavailable
from haldane.serving.shadow import Scorer, read_answer
from haldane.testing.builders import a_rollout
from haldane.testing.pairs import metric, rules

pytestmark = pytest.mark.timeout(900)  # much is started, and waited for without haste


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_in(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_in(tmp_path) as bench:
        yield bench


@dataclass
class Elsewhere:
    """The pairs of `Bench`, sent by workers."""

    bench: Bench
    workers: DaskWorkers
    rollout: Rollout
    limits: ShadowLimits
    stopped: set[ServerName]

    def spread(self, **given: Any) -> Spread:
        began = time.monotonic()
        values: dict[str, Any] = {
            "senders": RemoteSenders(self.workers, self.order, self.rollout),
            "rollout": self.rollout,
            "most": self.limits.concurrency,
            "address": lambda: self.bench.address,
            "masked": lambda server: False,
            "crowded": lambda server: False,
            "next_seq": 0,
            "judged_rows": set(),
            "elapsed": lambda: time.monotonic() - began,
            "telemetry": self.bench.telemetry,
            "stopped": self.stopped,
            "keep": lambda seq, kept: None,
            "flawed": lambda totals: None,
        }
        return Spread(**{**values, **given})

    def order(self, index: int, beginning: Beginning) -> Order:
        return Order(
            rollout=self.rollout,
            section=ModelSection.model_validate({"clients": "label", "traffic": self.bench.traffic}),
            base_path="",
            fields=frozenset(),
            servers=(self.bench.sandbox.server,),
            tls=None,
            limits=split(self.limits, index, beginning.of),
            scorer=Scorer(OutputRule(kind=OutputKind.REGRESSION, reach=1e6)),
            made_up=False,
            address=self.bench.address,
            stopped=frozenset(self.stopped),
            index=index,
            beginning=beginning,
        )

    async def take(self, count: int, **given: Any) -> Batch:
        taken: list[Batch] = []
        async with asyncio.timeout(200), aclosing(self.spread(**given).batches()) as batches:
            async for batch in batches:
                taken.append(batch)
                if sum(map(len, taken)) >= count:
                    break
        return np.concatenate(taken)

    async def until_there(self, count: int) -> None:
        async with asyncio.timeout(200):
            while len(await self.workers.names()) != count:  # noqa: ASYNC110 - a scheduler tells nobody
                await asyncio.sleep(0.1)

    def shown_senders(self) -> float:
        ((_, value),) = samples(self.bench.telemetry.shadow.senders)
        return value

    def dropped(self) -> dict[str, float]:
        return by_reason(self.bench.telemetry.shadow.dropped)


@pytest_asyncio.fixture
async def elsewhere(bench: Bench, cluster: Cluster) -> AsyncIterator[Elsewhere]:
    limits = ShadowLimits(pairs_per_second=400.0, aa_share=0.2)
    rollout = a_rollout(Phase.SHADOWING, servers=("r0",), analysis=rules(metric("errors", "1pp")).to_json())
    async with open_workers(cluster.address) as workers:
        made = Elsewhere(bench, workers, rollout, limits, set())
        await made.until_there(2)
        yield made


def samples(counter: Counter | Gauge) -> list[tuple[str, float]]:
    (family,) = counter.collect()
    return [(one.name, one.value) for one in family.samples if not one.name.endswith("_created")]


def total(counter: Counter) -> float:
    return sum(value for _, value in samples(counter))


OUTCOME = ["row", "aa", "disagrees", "distance", "stable_output", "canary_output", "stable_loss", "canary_loss"]


@pytest.mark.parametrize("kind", ["rest_jsonl", "prediction_log"])
async def test_the_same_rows_are_judged_as_by_one_process(elsewhere: Elsewhere, kind: str) -> None:
    """Each pair's kind is drawn by its place in the source, so even the A/A pairs are the same."""
    if kind == "prediction_log":
        elsewhere.bench.as_log()
    here = await elsewhere.bench.take(4 * ROWS, aa_share=0.2)
    there = await elsewhere.take(5 * ROWS)
    assert elsewhere.shown_senders() == 0  # over
    for found in (here, there):
        assert found["seq"].tolist() == list(range(len(found)))
    one, two = (first_passes(found, 3) for found in (here, there))
    for name in OUTCOME:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
    fresh = [int((found["fresh"] & ~found["aa"]).sum()) for found in (here, there)]
    assert fresh == [ROWS, ROWS]


async def test_workers_are_reached_by_tls_and_by_nobody_without_a_certificate(
    bench: Bench, tmp_path: Path, need_binary: Callable[[str], str]
) -> None:
    """Dask's own settings, as docs/howto/dask.md gives them; the server's certificate is everybody's here."""
    write_pki(tmp_path, need_binary("openssl"))
    own = {"cert": str(tmp_path / "server.crt"), "key": str(tmp_path / "server.key")}
    tls = {"ca-file": str(tmp_path / "ca.crt"), "client": own, "scheduler": own, "worker": own}
    limits = ShadowLimits(pairs_per_second=400.0, aa_share=0.2)
    rollout = a_rollout(Phase.SHADOWING, servers=("r0",), analysis=rules(metric("errors", "1pp")).to_json())
    with cluster_in(tmp_path, workers=1, tls=tls) as cluster:
        assert cluster.address.startswith("tls://")
        with pytest.raises(Refused, match=r"needs Dask's own TLS settings .*distributed\.comm\.tls"):
            async with open_workers(cluster.address):
                pass
        with dask.config.set({f"distributed.comm.tls.{key}": value for key, value in tls.items()}):
            async with open_workers(cluster.address) as workers:
                made = Elsewhere(bench, workers, rollout, limits, set())
                await made.until_there(1)
                found = await made.take(ROWS)
    assert found["seq"].tolist() == list(range(len(found)))


def first_passes(found: Batch, count: int) -> Batch:
    """Of each row its first so many pairs, row by row."""
    parts = [found[found["row"] == row][:count] for row in range(ROWS)]
    assert {len(part) for part in parts} == {count}
    return np.concatenate(parts)


async def test_a_worker_that_is_killed_loses_what_it_had_out_and_another_is_used(
    elsewhere: Elsewhere, cluster: Cluster
) -> None:
    cluster.add_worker()
    await elsewhere.until_there(3)
    taken: list[Batch] = []
    most = 0.0
    async with asyncio.timeout(200), aclosing(elsewhere.spread().batches()) as batches:
        async for batch in batches:
            taken.append(batch)
            if most == 0 and elsewhere.shown_senders() == 3:
                most = 3
                cluster.kill(2)
            if most == 3 and "sender_lost" in elsewhere.dropped() and elsewhere.shown_senders() == 2:
                most = 2
                before = sum(map(len, taken))
            if most == 2 and sum(map(len, taken)) > before + 3 * ROWS:
                break
    found = np.concatenate(taken)
    assert found["seq"].tolist() == list(range(len(found)))
    counts = elsewhere.bench.telemetry.shadow
    dropped, aside = elsewhere.dropped(), by_reason(counts.set_aside)
    assert total(counts.sent) == len(found) + sum(dropped.values()) + sum(aside.values())
    assert aside == {}


async def test_workers_of_another_version_are_not_used(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haldane.__version__", "9.9")
    with pytest.raises(Refused, match=r"has haldane 0\.1\.0, and the agent 9\.9: install haldane\[dask\]"):
        await DaskWorkers(elsewhere.workers._client, "tcp://x").names()


async def test_a_source_that_a_worker_cannot_read_is_told_with_the_worker(elsewhere: Elsewhere) -> None:
    (name, *_) = await elsewhere.workers.names()
    elsewhere.bench.path.unlink()
    with pytest.raises(Unavailable, match=rf"rows\.jsonl.*said by {re.escape(name[:12])}"):
        await elsewhere.take(1)


async def test_a_worker_that_nobody_asks_any_more_stops_by_itself(elsewhere: Elsewhere) -> None:
    """The agent may be gone: what is sent then is judged by nobody."""
    senders = RemoteSenders(elsewhere.workers, elsewhere.order, elsewhere.rollout)
    (name, *_) = await elsewhere.workers.names()
    await senders.start(name, 0, Beginning(1, 0, frozenset(), 0.0))
    told = Told(elsewhere.bench.address, frozenset(), frozenset(), False)
    async with asyncio.timeout(200):
        with pytest.raises(Unavailable, match="nothing is sent for credit-2-test here"):
            while True:
                await asyncio.sleep(UNASKED_SECONDS + 1.0)
                await senders.take(name, told)


async def test_answers_whose_truth_comes_later_are_kept_under_the_number_of_their_pair(elsewhere: Elsewhere) -> None:
    elsewhere.rollout = a_rollout(
        Phase.SHADOWING, servers=("r0",), analysis=rules(metric("errors", "1pp"), late_labels=True).to_json()
    )
    lines = [json.dumps({"instances": [float(row)]}) for row in range(ROWS)]
    elsewhere.bench.path.write_text("\n".join(lines))
    kept: dict[int, KeptAnswers] = {}
    found = await elsewhere.take(2 * ROWS, keep=kept.__setitem__)
    assert sorted(kept) == sorted(found["seq"][~found["aa"]].tolist())
    for pair in found[~found["aa"]][:ROWS]:
        answer = kept[int(pair["seq"])]
        assert answer.canary is not None
        (value,) = read_answer(answer.api, answer.canary).values()
        assert value == pytest.approx(20.0 * pair["row"])
