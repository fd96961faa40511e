"""What hangs holds one thread, however often it is asked for, and nobody else's."""

import asyncio
import threading

import pytest

from haldane.engine.apart import Apart


@pytest.fixture
def gone():
    made = threading.Event()
    yield made
    made.set()


async def test_what_hangs_is_waited_for_no_longer_than_said_and_asked_once(gone):
    apart, asked = Apart(), []

    def hangs():
        asked.append(1)
        return gone.wait(60)

    for _ in range(20):
        with pytest.raises(TimeoutError):
            await apart.ask("share", hangs, 0.01)
    assert await apart.ask("another", lambda: "there", 30) == "there"
    assert asked == [1]
    later = asyncio.create_task(apart.ask("share", hangs))
    await asyncio.sleep(0)
    gone.set()
    assert await later is True
    assert asked == [1]


async def test_an_answer_is_not_kept(gone):
    apart, answers = Apart(), iter((1, 2))
    assert [await apart.ask("share", lambda: next(answers)) for _ in range(2)] == [1, 2]


async def test_what_it_raises_is_raised(gone):
    with pytest.raises(ZeroDivisionError):
        await Apart().ask("share", lambda: 1 / 0)
