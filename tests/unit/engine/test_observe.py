"""The observer tells what is wrong, keeps our own metrics true, and survives pages and sinks that fail."""

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from haldane.domain.fleet import (
    Availability,
    Condition,
    ModelEntry,
    ModelName,
    ModelView,
    Policy,
    ReplicaView,
    Server,
    ServerConfig,
    ServerName,
    VersionStatus,
)
from haldane.engine.observe import Observer, Pace
from haldane.judge.loads import LoadCounters
from haldane.ports import Unavailable
from haldane.telemetry import Telemetry

M = ModelName("m")
R0, R1 = (Server(ServerName(name), f"{name}:1") for name in ("r0", "r1"))
BASE = ServerConfig((ModelEntry(name=M, base_path="/models/m"),))
LOADING, AVAILABLE, END = Availability.LOADING, Availability.AVAILABLE, Availability.END


class Sink:
    """Keeps what it was told; fails as often as asked first."""

    def __init__(self, failures: Sequence[Exception] = ()) -> None:
        self.told: list[list[str]] = []
        self._failures = list(failures)
        self._heard = asyncio.Condition()

    async def tell(self, firing: Sequence[Condition]) -> None:
        async with self._heard:
            if self._failures:
                raise self._failures.pop(0)
            self.told.append([one.name for one in firing])
            self._heard.notify_all()

    async def wait_told(self, names: list[str]) -> None:
        async with asyncio.timeout(5), self._heard:
            await self._heard.wait_for(lambda: bool(self.told) and self.told[-1] == names)


class Page:
    """A ModelServer that is only scraped: gives each page once, then the last for ever."""

    def __init__(self, *pages: str | Exception | None) -> None:
        self._pages = list(pages) or [None]

    async def scrape(self) -> str | None:
        page = self._pages.pop(0) if len(self._pages) > 1 else self._pages[0]
        if isinstance(page, Exception):
            raise page
        return page


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at


def read(page: str) -> LoadCounters:
    """A page of the form "success fail corrupt" for version 3."""
    success, fail, corrupt = map(float, page.split())
    return LoadCounters({("/models/m", 3): {"success": success, "fail": fail}}, int(corrupt))


def an_observer(*pages: str | Exception | None, sinks=None, wanted=None, pace=None, base=BASE, on_shelf=None):
    registry = CollectorRegistry()
    observer = Observer(
        {R0.name: Page(*pages), R1.name: Page()},  # type: ignore[dict-item]
        base=base,
        read=read,
        sinks=sinks or {},
        telemetry=Telemetry.on(registry),
        clock=Clock(),
        wanted=wanted or (lambda server: None),
        pace=pace or Pace(scrape=0.001, tell=0.01, retry=0.001),
        on_shelf=on_shelf or (lambda path, shelf, at: None),
    )

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    return observer, value


def a_view(*versions: VersionStatus, **labels: int | None) -> ReplicaView:
    return ReplicaView(R0.name, 5.0, {M: ModelView(versions, labels)})


ONE = VersionStatus(1, AVAILABLE)
LOADING_3 = VersionStatus(3, LOADING)
FAILED_3 = VersionStatus(3, END, "DATA_LOSS", "cut")


def test_a_view_is_shown_as_gauges_and_what_is_gone_is_not_left_on_the_board():
    observer, value = an_observer()
    observer.on_view(R0, a_view(ONE, LOADING_3, VersionStatus(2, END), stable=1, canary=None))
    assert value("haldane_server_up", server="r0") == 1
    assert value("haldane_label_version", model="m", server="r0", label="stable") == 1
    assert value("haldane_label_version", model="m", server="r0", label="canary") == -1
    assert value("haldane_version_state", model="m", version="1", server="r0") == 30
    assert value("haldane_version_state", model="m", version="3", server="r0") == 20
    assert value("haldane_version_state", model="m", version="2", server="r0") is None
    observer.on_view(R0, None)
    assert value("haldane_server_up", server="r0") == 0
    assert value("haldane_label_version", model="m", server="r0", label="stable") is None
    assert value("haldane_last_look_timestamp_seconds", server="r0") == 5


def test_a_condition_is_a_series_by_version_for_as_long_as_it_holds():
    observer, value = an_observer()
    failed = {"condition": "failed_load", "model": "m", "version": "3"}
    observer.on_view(R0, a_view(ONE, FAILED_3))
    assert value("haldane_condition", **failed) == 1
    observer.on_view(R0, a_view(ONE, VersionStatus(3, AVAILABLE)))
    assert value("haldane_condition", **failed) is None
    observer.on_view(R0, a_view(ONE, VersionStatus(3, AVAILABLE), VersionStatus(4, END, "DATA_LOSS", "cut")))
    assert value("haldane_condition", **{**failed, "version": "4"}) == 1


def test_each_listing_is_told_with_since_when_a_version_has_been_listed_just_so():
    told = []
    observer, _ = an_observer(on_shelf=lambda path, shelf, at: told.append((path, at, shelf[3].since)))
    observer.on_listing("/models/m", {3: {"saved_model.pb": 9}})
    observer._clock.at = 1030.0
    observer.on_listing("/models/m", {3: {"saved_model.pb": 9}})
    assert told == [("/models/m", 1000.0, 1000.0), ("/models/m", 1030.0, 1000.0)]


def test_loads_are_counted_from_status_where_a_server_has_no_metrics_page():
    observer, value = an_observer()
    for view in (a_view(ONE), a_view(ONE, LOADING_3), a_view(ONE, FAILED_3), a_view(ONE, FAILED_3)):
        observer.on_view(R0, view)
    assert value("tensorflow_serving_load_requests_total", model="m", version="3") == 1
    assert value("tensorflow_serving_load_failures_total", model="m", version="3") == 1
    assert value("tensorflow_serving_load_requests_total", model="m", version="1") == 1


def test_retries_within_a_load_are_counted_from_the_page_and_nothing_is_counted_twice():
    observer, value = an_observer()
    observer.on_view(R0, a_view(ONE, LOADING_3))
    for page in ("0 2 0", "0 6 0"):
        observer.on_counters(R0.name, read(page))
    observer.on_view(R0, a_view(ONE, FAILED_3))
    assert value("tensorflow_serving_load_requests_total", model="m", version="3") == 6
    assert value("tensorflow_serving_load_failures_total", model="m", version="3") == 6
    observer.on_counters(R0.name, read("1 0 0"))  # restarted
    assert value("tensorflow_serving_load_requests_total", model="m", version="3") == 7


def test_failed_attempts_are_seen_where_only_the_models_name_is_known():
    observer, value = an_observer(base=ServerConfig((ModelEntry(name=M, base_path=""),)))
    observer.on_view(R0, a_view(LOADING_3))
    observer.on_counters(R0.name, read("0 2 0"))
    assert value("tensorflow_serving_load_failures_total", model="m", version="3") == 2
    assert [one.name for one in observer.conditions()] == ["failed_load"]


def test_what_should_be_loaded_is_asked_for_at_each_look_when_somebody_decides_it():
    entry = BASE.models[0].serving((1,), {"stable": 1})
    observer, _ = an_observer(wanted=lambda server: ServerConfig((entry,)))
    observer.on_view(R0, a_view(ONE, FAILED_3))
    assert observer.conditions() == ()
    assert entry.policy is Policy.SPECIFIC


def test_one_that_stands_by_takes_nothing_of_what_the_other_does_for_drift():
    entry, decides = BASE.models[0].serving((1,), {"stable": 1}), []
    observer, _ = an_observer(wanted=lambda server: ServerConfig((entry,)) if decides else None)
    clock = observer._clock
    trial = a_view(ONE, VersionStatus(2, AVAILABLE), stable=2)
    for _ in range(20):
        observer.on_view(R0, trial)
        clock.at += 60.0
    assert observer.conditions() == ()
    decides.append(True)
    for _ in range(20):
        observer.on_view(R0, trial)
        clock.at += 60.0
    assert {one.name for one in observer.conditions()} == {"unapproved_version", "label_drift"}


@pytest.fixture
async def running():
    """Runs an observer beside the test and ends it with it."""
    tasks: list[asyncio.Task[None]] = []

    def run(observer: Observer) -> None:
        tasks.append(asyncio.create_task(observer.run()))

    yield run
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_first_failed_attempt_on_a_page_is_told_and_so_is_its_end(running):
    sink = Sink()
    observer, _ = an_observer("0 0 0", "0 1 0", sinks={"pager": sink}, pace=Pace(scrape=0.001, tell=60))
    observer.on_view(R0, a_view(ONE, LOADING_3))
    running(observer)
    await sink.wait_told(["failed_load"])
    observer.on_view(R0, a_view(ONE, VersionStatus(3, AVAILABLE)))
    await sink.wait_told([])


class LastPage(Page):
    """A server of which no page comes any more once its last has been read."""

    async def scrape(self) -> str | None:
        if len(self._pages) == 1:
            await asyncio.Event().wait()
        return await super().scrape()


async def test_the_page_that_first_shows_a_failed_attempt_is_enough_to_tell_it(running):
    """So a page comes within two scrapes: the agent's of the server and, by the rules, Prometheus' of the agent."""
    sink = Sink()
    observer, value = an_observer(sinks={"pager": sink}, pace=Pace(scrape=0.001, tell=60))
    observer._clients[R0.name] = LastPage("0 0 0", "0 1 0", "never read")  # type: ignore[assignment]
    observer.on_view(R0, a_view(ONE, LOADING_3))
    running(observer)
    await sink.wait_told(["failed_load"])
    assert value("haldane_condition", condition="failed_load", model="m", version="3") == 1


async def test_a_sink_that_is_away_or_broken_is_tried_again_and_others_are_told_meanwhile(running):
    lame = Sink([Unavailable("lame", "away"), RuntimeError("a bug of its own"), Unavailable("lame", "away")])
    well = Sink()
    observer, value = an_observer(sinks={"lame": lame, "well": well})
    observer.on_view(R0, a_view(FAILED_3))
    running(observer)
    await asyncio.gather(well.wait_told(["failed_load"]), lame.wait_told(["failed_load"]))
    assert value("haldane_notifications_total", notifier="lame", result="unavailable") == 2
    assert value("haldane_notifications_total", notifier="lame", result="unexpected") == 1


async def test_pages_that_cannot_be_read_are_counted_by_reason_and_scraping_goes_on(running):
    sink = Sink()
    observer, value = an_observer(
        Unavailable("r0", "refused"), None, "nonsense", "0 1 4", "0 1 0", sinks={"pager": sink}
    )
    observer.on_view(R0, a_view(LOADING_3))
    running(observer)
    await sink.wait_told(["failed_load"])
    assert value("haldane_scrape_errors_total", server="r0", reason="unavailable") == 1
    assert value("haldane_scrape_errors_total", server="r0", reason="unexpected") == 1
    assert value("haldane_scrape_errors_total", server="r0", reason="corrupt_line") == 4


async def test_a_server_that_left_leaves_no_series_and_nothing_wrong_behind():
    telemetry, clock = Telemetry.on(CollectorRegistry()), Clock()
    clients = {one.name: Page() for one in (R0, R1)}
    observer = Observer(clients, base=BASE, read=read, sinks={}, telemetry=telemetry, clock=clock)
    telemetry.fleet.reloads.labels("r1", "accepted").inc()
    for one in (R0, R1):
        failed = ModelView((VersionStatus(2, END, "DATA_LOSS", "broken"),), labels={"stable": 1})
        observer.on_view(one, ReplicaView(one.name, 1.0, {M: failed}))
    assert observer.conditions()[0].servers == ("r0", "r1")
    observer.drop(R1.name)
    assert observer.conditions()[0].servers == ("r0",)
    pages = [str(sample.labels) for family in telemetry.registry.collect() for sample in family.samples]
    assert any("r0" in labels for labels in pages) and not any("r1" in labels for labels in pages)
