"""The agent's pages are served without touching the log handlers of the process."""

import asyncio
import contextlib
import logging

from prometheus_client import CollectorRegistry

from haldane.testing.gallery import MemoryAgent
from haldane.web.listener import listen, serve
from haldane.web.server import make_app


class Watched(logging.Handler):
    closed = False

    def close(self) -> None:
        self.closed = True
        super().close()


async def test_no_log_handler_is_closed_when_the_pages_start():
    handler = Watched()
    logging.getLogger("somebody.else").addHandler(handler)
    with listen("127.0.0.1:0") as sock:
        task = asyncio.create_task(serve(make_app(MemoryAgent(), registry=CollectorRegistry(), token="t"), sock))
        _, writer = await asyncio.open_connection(*sock.getsockname()[:2])
        writer.close()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    closed = handler.closed
    logging.getLogger("somebody.else").removeHandler(handler)
    assert not closed
