"""A Condition reaches a person through a real Alertmanager, once, and is resolved when it is over."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from tests.alertmanager import PAGES_QUICKLY, Pager, Process

from haldane.adapters.alertmanager import Alertmanager, open_alertmanager
from haldane.domain.fleet import Condition, ModelName
from haldane.engine.observe import Observer, Pace
from haldane.ports import Refused, Unavailable
from haldane.serving.client import open_client
from haldane.serving.exposition import load_counters
from haldane.telemetry import Telemetry
from haldane.testing.sandboxes import Sandbox

FAILED = Condition("failed_load", "credit", 5, ("r0", "r1"), "DATA_LOSS: cannot parse", since=time.time() - 30)


class Wall:
    """The wall clock."""

    def now(self) -> float:
        return time.time()


@pytest.fixture
def pager() -> Iterator[Pager]:
    pager = Pager()
    yield pager
    pager.close()


@pytest.fixture
def process(
    need_binary: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path, pager: Pager
) -> Iterator[Process]:
    process = Process(need_binary("alertmanager"), tmp_path, free_port(), PAGES_QUICKLY.format(port=pager.port))
    yield process
    process.stop()


@pytest_asyncio.fixture
async def sink(process: Process) -> AsyncIterator[Alertmanager]:
    async with open_alertmanager(process.url, now=time.time, labels={"team": "ml"}) as sink:
        yield sink


async def test_a_failed_load_is_paged_once_with_words_a_person_can_use_and_resolved(
    process: Process, pager: Pager, sink: Alertmanager
) -> None:
    process.start()
    await sink.tell([FAILED])
    page = await pager.next()
    assert page["status"] == "firing"
    [alert] = page["alerts"]
    assert alert["labels"] == {
        "alertname": "HaldaneLoadFailed",
        "severity": "page",
        "model": "credit",
        "version": "5",
        "team": "ml",
    }
    assert alert["annotations"]["summary"] == "credit version 5 failed to load"
    assert alert["annotations"]["description"] == "On r0, r1: DATA_LOSS: cannot parse"

    await sink.tell([FAILED])  # still so: no second page, the next one is its end
    await sink.tell([])
    page = await pager.next()
    assert page["status"] == "resolved"
    assert pager.pages.empty()


async def test_what_began_while_alertmanager_was_away_is_told_when_it_is_back(
    process: Process, pager: Pager, sink: Alertmanager
) -> None:
    with pytest.raises(Unavailable):
        await sink.tell([FAILED])
    process.start()
    await sink.tell([FAILED])
    assert (await pager.next())["status"] == "firing"


class Line(httpx.AsyncHTTPTransport):
    """The network to Alertmanager, that can be cut."""

    cut = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.cut:
            raise httpx.ConnectError("cut")
        return await super().handle_async_request(request)


async def test_what_ended_while_alertmanager_could_not_be_reached_is_resolved_later(
    process: Process, pager: Pager
) -> None:
    process.start()
    line = Line()
    async with httpx.AsyncClient(base_url=process.url, transport=line) as http:
        sink = Alertmanager(http, name="am", now=time.time, keep_seconds=180, labels={}, link=None)
        await sink.tell([FAILED])
        assert (await pager.next())["status"] == "firing"
        line.cut = True
        with pytest.raises(Unavailable):
            await sink.tell([])
        line.cut = False
        await sink.tell([])
    assert (await pager.next())["status"] == "resolved"


async def test_an_alert_ends_by_itself_when_the_agent_is_gone(process: Process, pager: Pager) -> None:
    process.start()
    async with open_alertmanager(process.url, now=time.time, keep_seconds=1.0) as sink:
        await sink.tell([FAILED])
    assert (await pager.next())["status"] == "firing"
    assert (await pager.next())["status"] == "resolved"


async def test_the_dead_mans_switch_comes_with_nothing_wrong_and_ends_with_the_agent(
    process: Process, pager: Pager
) -> None:
    process.start()
    async with open_alertmanager(process.url, now=time.time, keep_seconds=1.0) as sink:
        await sink.tell([])
    page = await pager.living()
    [alert] = page["alerts"]
    assert (page["status"], alert["labels"]) == ("firing", {"alertname": "HaldaneWatching", "severity": "info"})
    assert (await pager.living())["status"] == "resolved"
    assert pager.pages.empty()


async def test_an_address_that_is_no_alertmanager_refuses(pager: Pager) -> None:
    async with open_alertmanager(f"http://127.0.0.1:{pager.port}/", now=time.time) as sink:
        await sink.tell([FAILED])  # anything that answers 200 is believed
    process = httpx.MockTransport(lambda request: httpx.Response(404, text="no such path"))
    async with httpx.AsyncClient(base_url="http://am", transport=process) as http:
        other = Alertmanager(http, name="am", now=time.time, keep_seconds=60, labels={}, link=None)
        with pytest.raises(Refused, match="404"):
            await other.tell([FAILED])


async def test_trap_15_the_first_failed_attempt_of_a_load_reaches_the_pager_while_serving_still_retries(
    process: Process, pager: Pager, sink: Alertmanager, tmp_path: Path
) -> None:
    process.start()
    model = ModelName("credit")
    with Sandbox(tmp_path / "r0", flags=["--max_num_load_retries=5"]) as sandbox:  # a minute between attempts
        sandbox.add("credit", 1)
        config = sandbox.config(sandbox.entry("credit"))  # as many run it: the latest version, whatever it is
        sandbox.start(config, rest=True)
        async with open_client(sandbox.server) as client, asyncio.TaskGroup() as group:
            observer = Observer(
                {sandbox.server.name: client},
                base=config,
                read=load_counters,
                sinks={"pager": sink},
                telemetry=Telemetry.on(CollectorRegistry()),
                clock=Wall(),
                pace=Pace(scrape=0.2),
            )

            async def keep_looking() -> None:
                while True:
                    observer.on_view(sandbox.server, await client.look({model: ["stable"]}, {}))
                    await asyncio.sleep(0.2)

            tasks = [group.create_task(observer.run()), group.create_task(keep_looking())]
            sandbox.add("credit", 5, "corrupt_pb")
            page = await pager.next()
            status = (await client.look({model: []}, {})).models[model].status(5)
            for task in tasks:
                task.cancel()
    [alert] = page["alerts"]
    assert (alert["labels"]["model"], alert["labels"]["version"]) == ("credit", "5")
    assert alert["annotations"]["description"].startswith("On r0: 1 failed load attempts, being retried")
    assert status is not None
    assert (status.availability, status.error_code) == ("LOADING", "OK")  # Serving itself says nothing yet
