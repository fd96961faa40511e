"""Requests on their way from one reader to many senders: bounded, and filled in bulk.

An asyncio.Queue that is kept full wakes its writer once for every item that is
taken; here it is woken when half of the room is free.
"""

import asyncio
from collections import deque

from haldane.domain.traffic import Request


class Feed:
    """At most `room` requests, first in, first out."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._waiting: deque[Request] = deque()
        self._some, self._space = asyncio.Event(), asyncio.Event()
        self._ended = False

    async def put(self, request: Request) -> None:
        """Waits while there is no room."""
        if len(self._waiting) >= self._room:
            self._space.clear()
            await self._space.wait()
        self._waiting.append(request)
        self._some.set()

    def end(self) -> None:
        """Nothing more comes: `take` gives what is left, then None."""
        self._ended = True
        self._some.set()

    @property
    def over(self) -> bool:
        """Nothing is left, and nothing more comes."""
        return self._ended and not self._waiting

    def waiting(self) -> Request | None:
        """The next one, None when there is none just now."""
        if not self._waiting:
            return None
        request = self._waiting.popleft()
        if len(self._waiting) <= self._room // 2:
            self._space.set()
        return request

    async def take(self) -> Request | None:
        """The next one, waited for; None at the end."""
        while (request := self.waiting()) is None and not self._ended:
            self._some.clear()
            await self._some.wait()
        return request

    def give_back(self, request: Request) -> None:
        """Taken, but not used: it is the next again."""
        self._waiting.appendleft(request)
        self._some.set()
