"""The agent's API on a real socket."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry

from haldane.web.api import Agent
from haldane.web.listener import listen, serve
from haldane.web.people import Certified
from haldane.web.server import make_app


@contextmanager
def served(agent: Agent, token: str = "t0ken", *, port: int = 0, certified: Certified | None = None) -> Iterator[str]:
    """The URL of that agent's API, in a loop of its own."""
    app = make_app(agent, registry=CollectorRegistry(), token=token, certified=certified)
    sock = listen(f"127.0.0.1:{port}")
    loop = asyncio.new_event_loop()
    task = loop.create_task(serve(app, sock))
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.gather(task, return_exceptions=True)))
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
        sock.close()
        loop.close()
