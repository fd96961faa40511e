"""What hangs holds one thread, however often it is asked for, and nobody else's."""

import asyncio
import subprocess
import sys
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


def test_a_process_that_ends_waits_for_none_of_them():
    """As an agent that is told to stop beside a mount that is gone."""
    hangs = """
import asyncio, threading
from haldane.engine.apart import Apart
async def main():
    try:
        await Apart().ask("share", threading.Event().wait, 0.01)
    except TimeoutError:
        print("gave up")
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", hangs], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "gave up\n"


async def test_no_more_threads_than_said_and_the_rest_wait_their_turn(gone):
    apart, there = Apart(2), []

    def hangs():
        there.append(threading.get_ident())
        return gone.wait(60)

    asked = [asyncio.create_task(apart.ask(key, hangs)) for key in range(5)]
    async with asyncio.timeout(30):
        while len(there) < 2:  # noqa: ASYNC110 - it happens in threads
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert len(there) == 2
    gone.set()
    assert await asyncio.gather(*asked) == [True] * 5
    assert len(set(there)) == 2
