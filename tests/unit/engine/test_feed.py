import asyncio

import pytest

from haldane.domain.traffic import Api, Request
from haldane.engine.feed import Feed


def a_request(number):
    return Request(f"q{number}", Api.PREDICT, b"")


@pytest.mark.parametrize(("room", "takers"), [(1, 1), (2, 5), (64, 3)])
async def test_every_request_is_taken_once_and_in_order(room, takers):
    feed, taken = Feed(room), []

    async def take():
        while (request := await feed.take()) is not None:
            taken.append(request.id)
            await asyncio.sleep(0)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for _ in range(takers):
            group.create_task(take())
        for number in range(200):
            await feed.put(a_request(number))
        feed.end()
    assert taken == [f"q{number}" for number in range(200)]


async def test_no_more_than_its_room_is_read_ahead():
    feed, put = Feed(4), []

    async def fill():
        for number in range(100):
            await feed.put(a_request(number))
            put.append(number)

    filling = asyncio.create_task(fill())
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(put) == 4
    await feed.take()
    await feed.take()  # half of the room is free
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(put) == 6
    filling.cancel()


async def test_what_is_given_back_is_the_next():
    feed = Feed(4)
    await feed.put(a_request(0))
    await feed.put(a_request(1))
    feed.give_back(await feed.take())
    assert [(await feed.take()).id for _ in range(2)] == ["q0", "q1"]
