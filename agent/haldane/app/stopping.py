"""A process that runs until it is told to stop."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog

log = structlog.get_logger()


async def until_stopped(work: Callable[[AsyncExitStack], Awaitable[None]]) -> None:
    """Do the work until it ends or SIGTERM or SIGINT comes; either way what it put on the stack is closed."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        async with AsyncExitStack() as stack:
            await work(stack)
    except asyncio.CancelledError:
        log.info("stopped")
