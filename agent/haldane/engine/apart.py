"""Calls that may never return, or must never wait, in threads of their own.

A mount that is gone holds whoever reads it for good, and no timeout frees the thread. In the pool that the store
shares, which may be six threads, a few of those would keep every rollback of every model from being stored.
"""

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Apart:
    """At most so many threads. Used by one event loop.

    They are daemons, which those of concurrent.futures are not: a process told to stop would wait for what hangs.
    """

    def __init__(self, most: int = 8) -> None:
        self._most, self._threads = most, 0
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._out: dict[Hashable, Future[Any]] = {}

    async def ask(self, key: Hashable, deed: Callable[[], T], seconds: float | None = None) -> T:
        """What it returns or raises; TimeoutError when it takes longer.

        A call of the same key that is still out is joined, not made again: whoever asks every few seconds of a
        storage that hangs holds one thread.
        """
        if (out := self._out.get(key)) is None or out.done():
            out = self._out[key] = self._begun(deed)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(asyncio.wrap_future(out))
        finally:
            if out.done() and self._out.get(key) is out:
                del self._out[key]

    def _begun(self, deed: Callable[[], T]) -> Future[T]:
        busy = sum(not out.done() for out in self._out.values())
        call: Future[T] = Future()
        self._calls.put((call, deed))
        if busy >= self._threads < self._most:
            self._threads += 1
            Thread(target=self._work, name="apart", daemon=True).start()
        return call

    def _work(self) -> None:
        while True:
            call, deed = self._calls.get()
            if not call.set_running_or_notify_cancel():
                continue
            try:
                call.set_result(deed())
            except BaseException as error:  # to be raised where it is waited for
                call.set_exception(error)
