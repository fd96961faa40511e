"""What a load took: read before and after, and only where nothing else can have been meant."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from haldane.domain.fleet import Availability, ModelName, ModelView, ReplicaView, Server, ServerName, VersionStatus
from haldane.engine.footprint import Footprints
from haldane.ports import Unavailable

R0 = Server(ServerName("r0"), "h:1")
MODEL = ModelName("m")
START, LOADING, AVAILABLE, END = (
    Availability.START,
    Availability.LOADING,
    Availability.AVAILABLE,
    Availability.END,
)


class Bench:
    """Footprints of one server, on a clock and a memory that the test moves."""

    def __init__(self) -> None:
        self.at, self.resident, self.up, self.read = 0.0, 1e9, True, 0
        self.prints = Footprints({R0.name: self}, now=lambda: self.at, every_seconds=0.01)

    async def cpu_seconds(self) -> float:
        return 0.0

    async def resident_bytes(self) -> float:
        self.read += 1
        if not self.up:
            raise Unavailable("r0", "down")
        return self.resident

    def look(self, at: float, **versions: Availability) -> None:
        """`v1=AVAILABLE`: what a look at that second shows of model m."""
        self.at = at
        statuses = tuple(VersionStatus(int(name[1:]), state) for name, state in versions.items())
        self.prints.on_view(R0, ReplicaView(R0.name, at, {MODEL: ModelView(statuses)}))

    async def sampled(self) -> None:
        """A reading that began after now has been taken in."""
        before = self.read
        async with asyncio.timeout(10):
            while self.read < before + 2:  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.005)

    def took(self, version: int) -> tuple[float | None, float | None]:
        return self.prints.bytes_of(R0.name, MODEL, version), self.prints.seconds_of(R0.name, MODEL, version)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    task = asyncio.create_task(made.prints.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_load_that_was_watched_has_its_memory_and_seconds(bench: Bench) -> None:
    await bench.sampled()
    bench.look(1.0, v1=AVAILABLE)
    await bench.sampled()
    bench.look(2.0, v1=AVAILABLE)
    bench.look(3.0, v1=AVAILABLE, v2=LOADING)
    bench.resident = 1.4e9
    bench.look(7.0, v1=AVAILABLE, v2=AVAILABLE)
    await bench.sampled()
    assert bench.took(2) == (pytest.approx(4e8), 4.0)
    assert bench.took(1) == (None, None)  # it was there when watching began
    (told,) = bench.prints.loads()
    assert (told.server, told.model, told.version, told.seconds) == (R0.name, MODEL, 2, 4.0)


async def test_a_load_between_two_looks_took_at_most_that_long(bench: Bench) -> None:
    await bench.sampled()
    bench.look(1.0, v1=AVAILABLE)
    bench.resident = 1.1e9
    bench.look(2.0, v1=AVAILABLE, v2=AVAILABLE)
    await bench.sampled()
    assert bench.took(2) == (pytest.approx(1e8), 1.0)


async def test_two_loads_at_once_cannot_be_told_apart(bench: Bench) -> None:
    await bench.sampled()
    bench.look(1.0, v1=AVAILABLE)
    bench.look(2.0, v1=AVAILABLE, v2=LOADING, v3=LOADING)
    bench.resident = 2e9
    bench.look(3.0, v1=AVAILABLE, v2=AVAILABLE, v3=LOADING)
    bench.look(4.0, v1=AVAILABLE, v2=AVAILABLE, v3=AVAILABLE)
    await bench.sampled()
    assert (bench.took(2)[0], bench.took(3)[0]) == (None, None)
    assert bench.took(2)[1] == 1.0


async def test_after_a_server_was_not_seen_it_may_be_another_process(bench: Bench) -> None:
    await bench.sampled()
    bench.look(1.0, v1=AVAILABLE)
    bench.prints.on_view(R0, None)
    bench.look(3.0, v1=AVAILABLE, v2=AVAILABLE)
    await bench.sampled()
    assert bench.took(2) == (None, None)


async def test_without_a_reading_from_just_before_there_is_no_figure(bench: Bench) -> None:
    await bench.sampled()
    bench.look(1.0, v1=AVAILABLE)
    bench.up = False
    bench.look(100.0, v1=AVAILABLE)
    bench.look(101.0, v1=AVAILABLE, v2=LOADING)
    bench.up = True
    bench.look(102.0, v1=AVAILABLE, v2=AVAILABLE)
    await bench.sampled()
    assert bench.took(2) == (None, 1.0)


async def test_a_load_that_fails_took_nothing(bench: Bench) -> None:
    await bench.sampled()
    bench.look(1.0, v1=AVAILABLE)
    bench.look(2.0, v1=AVAILABLE, v2=LOADING)
    bench.look(3.0, v1=AVAILABLE, v2=END)
    bench.look(4.0, v1=AVAILABLE, v2=END)
    await bench.sampled()
    assert bench.took(2) == (None, None)
