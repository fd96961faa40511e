"""Versions are loaded and unloaded in Serving's order. Time stands still: the tests tick."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from haldane.sandbox import harness as harness_module
from haldane.sandbox.harness import Retries
from haldane.sandbox.manager import AspiredVersionsManager
from haldane.sandbox.servable import Servable, StatusError
from haldane.sandbox.states import EventBus, StateMonitor

LOST = StatusError(grpc.StatusCode.DATA_LOSS, "bad")


class Loaded:
    """A servable that knows whether it was unloaded."""

    signatures: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.unloaded = False

    def run(self, feeds: Mapping[str, Any], fetches: Sequence[str], *, timeout_seconds: float | None) -> dict[str, Any]:
        return {}

    def unload(self) -> None:
        self.unloaded = True


class Shelf:
    """An executor whose loads do what the test says: `on_load` runs first, and may raise."""

    def __init__(self) -> None:
        self.on_load: Callable[[int], None] = lambda version: None
        self.loaded: dict[int, Loaded] = {}
        self.attempts: list[int] = []

    def load(self, model: str, path: str) -> Servable:
        version = int(Path(path).name)
        self.attempts.append(version)
        self.on_load(version)
        return self.loaded.setdefault(version, Loaded())


class Bench:
    """A manager with its surroundings; `states` reads like GetModelStatus."""

    def __init__(self, base: Path, *, retries: int = 0, load_threads: int = 0, unload_threads: int = 0) -> None:
        self.shelf = Shelf()
        bus = EventBus()
        self.monitor = StateMonitor(bus)
        self.manager = AspiredVersionsManager(
            self.shelf,
            bus,
            retries=Retries(retries, 0.0),
            load_threads=load_threads,
            unload_threads=unload_threads,
        )
        self._base = base

    def aspire(self, *versions: int) -> None:
        for version in versions:
            (self._base / str(version)).mkdir(exist_ok=True)
        self.manager.aspire("m", [(version, str(self._base / str(version))) for version in versions])

    def ticks(self, count: int) -> list[dict[int, str]]:
        seen = []
        for _ in range(count):
            self.manager.tick()
            seen.append(self.states)
        return seen

    @property
    def states(self) -> dict[int, str]:
        return {version: event.state.name for version, event in self.monitor.versions("m").items()}


@pytest.fixture(autouse=True)
def quick_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness_module, "LEAST_LOAD_SECONDS", 0.0)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_one_version_a_tick_is_loaded_the_highest_first(bench: Bench) -> None:
    bench.aspire(1, 2)
    assert bench.ticks(2) == [{2: "AVAILABLE", 1: "START"}, {2: "AVAILABLE", 1: "AVAILABLE"}]


def test_the_new_version_is_loaded_before_the_old_one_goes(bench: Bench) -> None:
    bench.aspire(1)
    bench.ticks(1)
    bench.aspire(2)
    assert bench.ticks(2) == [{2: "AVAILABLE", 1: "AVAILABLE"}, {2: "AVAILABLE", 1: "END"}]


def test_of_two_old_versions_the_lowest_goes_first_and_one_stays_until_the_new_one_is_ready(bench: Bench) -> None:
    bench.aspire(1, 2)
    bench.ticks(2)
    bench.aspire(3)
    assert bench.ticks(3) == [
        {3: "START", 2: "AVAILABLE", 1: "END"},
        {3: "AVAILABLE", 2: "AVAILABLE", 1: "END"},
        {3: "AVAILABLE", 2: "END", 1: "END"},
    ]


def test_the_last_old_version_stays_when_its_replacement_fails(bench: Bench) -> None:
    bench.aspire(1)
    bench.ticks(1)
    bench.shelf.on_load = fail
    bench.aspire(2)
    assert bench.ticks(4)[-1] == {2: "END", 1: "AVAILABLE"}
    assert bench.monitor.versions("m")[2].error == LOST


def fail(_: int) -> None:
    raise LOST


def test_a_failed_version_is_not_tried_again_while_it_stays_wanted(bench: Bench) -> None:
    bench.shelf.on_load = fail
    bench.aspire(1)
    bench.ticks(3)
    bench.aspire(1)
    bench.ticks(3)
    assert bench.shelf.attempts == [1]


def test_a_failed_version_is_tried_anew_after_it_was_away_for_a_tick(bench: Bench) -> None:
    bench.shelf.on_load = fail
    bench.aspire(1)
    bench.ticks(1)
    bench.aspire()
    bench.ticks(1)
    bench.aspire(1)
    bench.ticks(1)
    assert bench.shelf.attempts == [1, 1]


def test_under_latest_a_failed_version_wedges_the_model(bench: Bench) -> None:
    bench.aspire(1)
    bench.ticks(1)
    bench.shelf.on_load = fail
    bench.aspire(2)
    bench.ticks(2)
    bench.aspire(1)  # 2 is gone: 1 is wanted again, but it is still on its way out, so the wish waits
    bench.ticks(3)
    bench.shelf.on_load = lambda version: None
    bench.aspire(2)  # back, repaired: nobody notices
    bench.ticks(3)
    assert (bench.states, bench.shelf.attempts) == ({2: "END", 1: "AVAILABLE"}, [1, 2])


def test_nothing_wanted_unloads_everything(bench: Bench) -> None:
    bench.aspire(1, 2)
    bench.ticks(2)
    bench.aspire()
    assert bench.ticks(2)[-1] == {2: "END", 1: "END"}
    assert all(servable.unloaded for servable in bench.shelf.loaded.values())


def test_a_version_unwanted_before_its_load_keeps_its_stale_start(bench: Bench) -> None:
    bench.aspire(1, 2)
    bench.ticks(1)
    bench.aspire(2)
    assert bench.ticks(3)[-1] == {2: "AVAILABLE", 1: "START"}


def test_every_load_is_tried_once_more_than_the_retries(tmp_path: Path) -> None:
    bench = Bench(tmp_path, retries=2)
    bench.shelf.on_load = fail
    bench.aspire(1)
    bench.ticks(1)
    assert bench.shelf.attempts == [1, 1, 1]


def test_minus_one_retries_wraps_round_to_a_single_attempt(tmp_path: Path) -> None:
    bench = Bench(tmp_path, retries=-1)
    bench.shelf.on_load = fail
    bench.aspire(1)
    bench.ticks(1)
    assert bench.shelf.attempts == [1]


def test_a_surprise_in_the_executor_ends_as_an_internal_error(bench: Bench) -> None:
    def surprise(_: int) -> None:
        raise RuntimeError("oops")

    bench.shelf.on_load = surprise
    bench.aspire(1)
    bench.ticks(1)
    error = bench.monitor.versions("m")[1].error
    assert error is not None
    assert (error.code, error.message) == (grpc.StatusCode.INTERNAL, "RuntimeError: oops")


def test_a_plain_file_fails_before_it_is_loaded(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "6").write_text("")
    bench.manager.aspire("m", [(6, str(tmp_path / "6"))])
    bench.ticks(1)
    error = bench.monitor.versions("m")[6].error
    assert error is not None
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert error.message == (
        f"Error while attempting to reserve resources to load servable {{name: m version: 6}}: {tmp_path}/6; "
        "Not a directory"
    )


def test_requests_without_a_version_go_to_the_highest_ready_one(bench: Bench) -> None:
    bench.aspire(1, 2)
    bench.ticks(2)
    with bench.manager.acquire("m", None) as handle:
        assert handle.version == 2


@pytest.mark.parametrize(("version", "text"), [(None, "Latest(m)"), (9, "Specific(m, 9)")])
def test_what_is_not_ready_is_not_found(bench: Bench, version: int | None, text: str) -> None:
    with pytest.raises(StatusError, match="NOT_FOUND") as refused:
        bench.manager.acquire("m", version)
    assert refused.value.message == f"Servable not found for request: {text}"


@pytest.fixture
def in_background() -> Iterator[Callable[[Callable[[], object]], threading.Thread]]:
    threads = []

    def start(job: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=job, daemon=True)
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_an_unload_waits_for_requests_in_flight_while_new_ones_go_elsewhere(bench: Bench, in_background: Any) -> None:
    bench.aspire(1, 2)
    bench.ticks(2)
    held = bench.manager.acquire("m", 1)
    bench.aspire(2)
    unloading = in_background(bench.manager.tick)
    until(lambda: bench.states[1] == "UNLOADING")
    until(lambda: refuses(bench, 1))
    assert not bench.shelf.loaded[1].unloaded
    with held:
        pass
    unloading.join(10)
    assert bench.states == {2: "AVAILABLE", 1: "END"}


def refuses(bench: Bench, version: int) -> bool:
    try:
        with bench.manager.acquire("m", version):
            return False
    except StatusError:
        return True


def test_a_new_version_takes_traffic_before_it_is_called_available(bench: Bench, in_background: Any) -> None:
    bench.aspire(1)
    bench.ticks(1)
    held = bench.manager.acquire("m", 1)
    bench.aspire(1, 2)
    loading = in_background(bench.manager.tick)
    until(lambda: not refuses(bench, 2))
    assert bench.states[2] == "LOADING"
    with held:
        pass
    loading.join(10)
    assert bench.states[2] == "AVAILABLE"


def test_a_load_cancelled_on_the_way_is_undone_without_ever_serving(tmp_path: Path) -> None:
    bench = Bench(tmp_path, load_threads=1)
    started, go_on = threading.Event(), threading.Event()

    def slow(_: int) -> None:
        started.set()
        assert go_on.wait(10)

    bench.shelf.on_load = slow
    bench.aspire(1)
    bench.ticks(1)
    assert started.wait(10)
    bench.aspire()
    bench.ticks(1)
    go_on.set()
    until(lambda: bench.states[1] == "END")
    error = bench.monitor.versions("m")[1].error
    assert error is not None
    assert (error.code, error.message) == (grpc.StatusCode.CANCELLED, "Loading of servable cancelled")
    assert bench.shelf.loaded[1].unloaded


def test_without_load_threads_one_slow_load_stands_in_everybodys_way(bench: Bench, in_background: Any) -> None:
    go_on = threading.Event()
    bench.shelf.on_load = lambda version: None if version == 1 else bool(go_on.wait(10)) and None
    bench.aspire(1)
    bench.ticks(1)
    bench.aspire(2)
    ticking = in_background(lambda: bench.ticks(2))
    until(lambda: bench.states.get(2) == "LOADING")
    bench.aspire()  # not even taken in
    assert bench.states == {2: "LOADING", 1: "AVAILABLE"}
    go_on.set()
    ticking.join(10)
    assert bench.ticks(2)[-1] == {2: "END", 1: "END"}


def test_changing_the_load_threads_waits_for_loads_under_way(tmp_path: Path, in_background: Any) -> None:
    bench = Bench(tmp_path, load_threads=2)
    go_on = threading.Event()
    bench.shelf.on_load = lambda _: bool(go_on.wait(10)) and None
    bench.aspire(1)
    bench.ticks(1)
    changing = in_background(lambda: bench.manager.set_load_threads(0))
    assert changing.is_alive()
    go_on.set()
    changing.join(10)
    assert bench.states == {1: "AVAILABLE"}


def until(claim: Callable[[], bool]) -> None:
    """Wait for what another thread is about to make true."""
    waiting = threading.Event()
    for _ in range(2000):
        if claim():
            return
        waiting.wait(0.005)
    raise AssertionError("it never came true")
