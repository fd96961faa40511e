"""Callers nobody knows: the first on record at once, a flood in a few lines, none forgotten."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from haldane.engine.strangers import MOST_LETTERS, MOST_LINES, Strangers
from haldane.ports import Unavailable
from haldane.telemetry import Telemetry

HOUR = 3600.0


class Records:
    """A store that is away so many times first."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.told = failures, list[dict[str, Any]]()

    def record(self, kind: str, data: dict[str, Any], **_: str) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("store", "away")
        assert kind == "caller_refused"
        self.told.append(data)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def strangers(store: Records, registry: CollectorRegistry, pace: float = HOUR) -> Strangers:
    return Strangers(store, Telemetry.on(registry), pace)  # type: ignore[arg-type]


async def until(met: Any) -> None:
    async with asyncio.timeout(30):
        while not met():  # noqa: ASYNC110 - a thread stores, and sets no event
            await asyncio.sleep(0.001)


async def test_the_first_is_recorded_at_once_and_a_flood_together_with_its_size(registry: CollectorRegistry) -> None:
    store = Records()
    one = strangers(store, registry)
    task = asyncio.create_task(one.run())
    one.note("10.0.0.9", "POST /v1/rollouts", "unknown token")
    await until(lambda: store.told)
    caller = {"address": "10.0.0.9", "path": "POST /v1/rollouts", "reason": "unknown token", "attempts": 1}
    why = "10.0.0.9: POST /v1/rollouts, unknown token"
    assert store.told == [{"attempts": 1, "callers": [caller], "others": 0, "why": why}]
    for _ in range(100_000):
        one.note("10.0.0.9", "POST /v1/rollouts", "unknown token")
    one.note("10.0.0.8", "POST /v1/holds", "no token")
    await asyncio.sleep(0)
    assert len(store.told) == 1, "the minute is not over"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    _, second = store.told
    assert [line["attempts"] for line in second["callers"]] == [100_000, 1]
    assert second["why"] == "10.0.0.9: POST /v1/rollouts, unknown token (100,000 of 100,001 calls)"
    assert registry.get_sample_value("haldane_callers_refused_total", {"reason": "unknown token"}) == 100_001


async def test_callers_from_everywhere_fill_no_record(registry: CollectorRegistry) -> None:
    store = Records()
    one = strangers(store, registry)
    for number in range(50_000):
        one.note(f"10.{number >> 8}.{number & 255}.1", "POST /" + "x" * 5000, "no token")
    task = asyncio.create_task(one.run())
    await until(lambda: store.told)
    task.cancel()
    (told,) = store.told
    assert (told["attempts"], len(told["callers"]), told["others"]) == (50_000, MOST_LINES, 50_000 - MOST_LINES)
    assert {len(line["path"]) for line in told["callers"]} == {MOST_LETTERS}
    assert len(str(told)) < 5000


async def test_what_could_not_be_stored_is_stored_later_with_what_came_meanwhile(registry: CollectorRegistry) -> None:
    store = Records(failures=3)
    one = strangers(store, registry, pace=0.0)
    task = asyncio.create_task(one.run())
    for _ in range(2):
        one.note("10.0.0.9", "POST /v1/rollouts", "no token")
    await until(lambda: store.told)
    task.cancel()
    assert [told["attempts"] for told in store.told] == [2]


async def test_nothing_is_recorded_where_nobody_called(registry: CollectorRegistry) -> None:
    store = Records()
    task = asyncio.create_task(strangers(store, registry).run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.told == []
