"""Calls that may never return, or must never wait, in threads of their own.

A mount that is gone holds whoever reads it for good, and no timeout frees the thread. In the pool that the store
shares, which may be six threads, a few of those would keep every rollback of every model from being stored.
"""

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Apart:
    """At most so many threads. Used by one event loop."""

    def __init__(self, most: int = 8) -> None:
        self._threads = ThreadPoolExecutor(most, "apart")
        self._out: dict[Hashable, Future[Any]] = {}

    async def ask(self, key: Hashable, deed: Callable[[], T], seconds: float | None = None) -> T:
        """What it returns or raises; TimeoutError when it takes longer.

        A call of the same key that is still out is joined, not made again: whoever asks every few seconds of a
        storage that hangs holds one thread.
        """
        if (out := self._out.get(key)) is None or out.done():
            out = self._out[key] = self._threads.submit(deed)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(asyncio.wrap_future(out))
        finally:
            if out.done() and self._out.get(key) is out:
                del self._out[key]
