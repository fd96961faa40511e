"""A version that leaks is told from one that does not, by what its process says of itself."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from haldane.adapters.process import open_process_page
from haldane.domain.evidence import Finding, Verdict
from haldane.domain.fleet import ServerName
from haldane.engine.readings import Gauging, Meters
from haldane.judge.analysis import Analysis
from haldane.judge.gauges import Gauge, GaugeRule
from haldane.serving.client import open_client
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout
from haldane.testing.pairs import metric, rules
from haldane.testing.sandboxes import Sandbox, affine_request

LEAK = 200_000  # bytes an answer; at ten answers a second 7 GB an hour
RULE = GaugeRule(
    name="leak",
    kind=Gauge.GROWTH,
    limit=2e9,
    weight=10.0,
    every_seconds=0.25,
    block_seconds=1.0,
    warmup_seconds=1.0,
)


@pytest.fixture
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Version 1 keeps nothing, version 2 something of every answer."""
    with Sandbox(tmp_path_factory.mktemp("box")) as made:
        made.flags = (*made.flags, f"--admin_port={made.admin_port}")
        made.add("m", 1)
        made.add("m", 2, leak_bytes=LEAK)
        yield made.start(made.config(made.entry("m", 1, 2)))


async def judged(sandbox: Sandbox, version: int) -> tuple[Verdict, Finding]:
    """What is found while only that version is asked."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    analysis = Analysis(rules(metric("errors", "1pp"), gauges=(RULE,)))

    async def note(gauge: str, why: str) -> None:
        """Nobody is told."""

    async def no_fact(*_: object) -> float | None:
        return None

    async def ask() -> None:
        async with open_client(sandbox.server) as client:
            while True:
                await client.predict("m", affine_request(1.0), version=version, deadline=loop.time() + 5)  # type: ignore[arg-type]
                await asyncio.sleep(0.1)

    async with open_process_page("r0", f"http://127.0.0.1:{sandbox.admin_port}/metrics") as page:
        name = ServerName("r0")
        telemetry = Telemetry.on(CollectorRegistry())
        meters = Meters(source=None, processes={name: page}, fact=no_fact, loading=lambda _: False, telemetry=telemetry)
        rollout = replace(a_rollout(), servers=(name,), dedicated=())
        gauging = Gauging(rollout, (RULE,), meters, lambda: loop.time() - began, note)
        asking = asyncio.create_task(ask())
        async with asyncio.timeout(200), aclosing(gauging.entries()) as entries:
            async for entry in entries:
                analysis.fold(entry)
                found = analysis.hearing.findings()[-1]
                if analysis.hearing.failed or found.log10_harmless > 1.3:
                    break
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    ruling = analysis.ruling(analysis.hearing.seconds)
    return ruling.verdict, ruling.findings[-1]


async def test_a_version_that_leaks_is_found(sandbox: Sandbox) -> None:
    verdict, found = await judged(sandbox, 2)
    assert verdict is Verdict.FAIL
    assert found.estimate is not None and found.estimate > RULE.limit  # type: ignore[operator]


async def test_a_version_that_keeps_nothing_is_not(sandbox: Sandbox) -> None:
    verdict, found = await judged(sandbox, 1)
    assert (verdict, found.state) == (Verdict.CONTINUE, "harmless")
