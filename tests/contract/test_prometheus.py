"""Gauges over a real Prometheus that scrapes real processes: what costs more is found, and what is gone is no data."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, aclosing, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from tests.prometheus import Prometheus

from haldane.adapters.process import PromqlMeter, open_process_page
from haldane.adapters.promql import open_prometheus
from haldane.domain.fleet import ServerName
from haldane.engine.readings import Gauging, Meters
from haldane.judge.analysis import Analysis
from haldane.judge.gauges import Gauge, GaugeRule
from haldane.ports import MetricSource, NoData, Refused, Unavailable
from haldane.serving.client import open_client
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout
from haldane.testing.pairs import metric, rules
from haldane.testing.sandboxes import Sandbox, affine_request

STABLE, CANARY = 1, 2
COSTS = {STABLE: 0.001, CANARY: 0.02}  # so far apart that a busy machine cannot hide it


@pytest.fixture(scope="module")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Sandbox]]:
    """A process for each version; the canary's needs far more CPU for an answer."""
    started = {}
    for version, cost in COSTS.items():
        sandbox = Sandbox(tmp_path_factory.mktemp(f"v{version}"), name=f"v{version}")
        sandbox.flags = (*sandbox.flags, f"--admin_port={sandbox.admin_port}")
        sandbox.add("m", version, cpu_seconds=cost)
        started[version] = sandbox.start(sandbox.config(sandbox.entry("m", version)))
    yield started
    for sandbox in started.values():
        sandbox.stop()


@pytest.fixture
def prometheus(
    sandboxes: dict[int, Sandbox],
    need_binary: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path: Path,
) -> Iterator[Prometheus]:
    targets = {f"v{version}": sandbox.admin_port for version, sandbox in sandboxes.items()}
    with closing(Prometheus(need_binary("prometheus"), tmp_path, free_port(), targets)) as made:
        made.start()
        made.wait(lambda: made.series("process_cpu_seconds_total") == 2)
        yield made


async def load(sandbox: Sandbox, version: int, stack: AsyncExitStack) -> None:
    """Ten requests a second, for as long as it is not cancelled."""
    client = await stack.enter_async_context(open_client(sandbox.server))
    loop = asyncio.get_running_loop()
    while True:
        await client.predict("m", affine_request(1.0), version=version, deadline=loop.time() + 5)  # type: ignore[arg-type]
        await asyncio.sleep(0.1)


async def test_numbers_and_mistakes_as_a_real_server_tells_them(prometheus: Prometheus) -> None:
    async with open_prometheus(prometheus.url) as source:
        assert await source.ask("scalar(vector(2)) + 1") == 3.0
        assert await source.ask('process_resident_memory_bytes{job="v1"}') > 1e6
        for query, error, says in (
            ("process_cpu_seconds_total", NoData, "2 series"),
            ("no_such_thing", NoData, "no series"),
            ("0 / 0", NoData, "nan"),
            ("process_cpu_seconds_total[1m]", NoData, "matrix"),
            ("sum(", Refused, "parse error"),
        ):
            with pytest.raises(error, match=says):
                await source.ask(query)


async def test_a_meter_by_query_and_a_meter_by_page_say_the_same(
    prometheus: Prometheus, sandboxes: dict[int, Sandbox]
) -> None:
    page = f"http://127.0.0.1:{sandboxes[STABLE].admin_port}/metrics"
    async with open_prometheus(prometheus.url) as source, open_process_page("v1", page) as by_page:
        cpu, memory = (f'process_{what}{{job="$server"}}' for what in ("cpu_seconds_total", "resident_memory_bytes"))
        by_query = PromqlMeter(source, server="v1", cpu=cpu, memory=memory)
        assert await by_query.resident_bytes() == pytest.approx(await by_page.resident_bytes(), rel=0.3)
        assert 0 < await by_query.cpu_seconds() <= await by_page.cpu_seconds()


async def no_fact(*_: object) -> float | None:
    return None


def gauging(source: MetricSource, rule: GaugeRule, notes: list[tuple[str, str]]) -> Gauging:
    loop = asyncio.get_running_loop()
    began = loop.time()
    rollout = replace(a_rollout(), old=STABLE, new=CANARY, servers=(ServerName("fleet"),))
    telemetry = Telemetry.on(CollectorRegistry())
    meters = Meters(source=source, processes={}, fact=no_fact, loading=lambda _: False, telemetry=telemetry)

    async def note(gauge: str, why: str) -> None:
        notes.append((gauge, why))

    return Gauging(rollout, (rule,), meters, lambda: loop.time() - began, note)


CPU = GaugeRule(
    name="pod cpu",
    kind=Gauge.QUERY,
    margin=0.1,
    weight=10.0,
    counter=True,
    query='process_cpu_seconds_total{job="v$version"}',
    every_seconds=1.0,
    block_seconds=3.0,
    warmup_seconds=1.0,
)


async def test_a_canary_that_costs_more_cpu_is_found_by_its_pods_counters(
    prometheus: Prometheus, sandboxes: dict[int, Sandbox]
) -> None:
    made = rules(metric("errors", "1pp"), gauges=(CPU,))
    analysis = Analysis(made)
    async with AsyncExitStack() as stack, asyncio.timeout(200):
        source = await stack.enter_async_context(open_prometheus(prometheus.url))
        calling = [asyncio.create_task(load(box, version, stack)) for version, box in sandboxes.items()]
        async with aclosing(gauging(source, CPU, []).entries()) as entries:
            async for entry in entries:
                analysis.fold(entry)
                if analysis.hearing.failed:
                    break
        for task in calling:
            task.cancel()
        await asyncio.gather(*calling, return_exceptions=True)
    ruling = analysis.ruling(analysis.hearing.seconds)
    found = next(finding for finding in ruling.findings if finding.metric == "pod cpu")
    assert ruling.named == ("pod cpu",)
    assert found.estimate is not None and found.estimate > 0.3


async def test_a_prometheus_that_goes_away_is_no_data_and_comes_back(prometheus: Prometheus) -> None:
    notes: list[tuple[str, str]] = []
    rule = replace(CPU, counter=False, query='process_resident_memory_bytes{job="v$version"}')
    async with (
        asyncio.timeout(60),
        open_prometheus(prometheus.url, timeout_seconds=1) as source,
        aclosing(gauging(source, rule, notes).entries()) as entries,
    ):
        assert np.isfinite((await anext(entries))["canary"]).all()
        prometheus.close()
        while np.isfinite((await anext(entries))["canary"]).all():
            pass
        with pytest.raises(Unavailable):
            await source.ask("up")
        prometheus.start()
        while not np.isfinite((await anext(entries))["canary"]).all():
            pass
    assert [bool(why) for _, why in notes] == [True, False]
    assert "prometheus" in notes[0][1]
