"""Workers of a Dask cluster, which run functions of ours (extra `dask`).

Functions are run beside Dask's tasks, on the worker's own event loop: they are
told to one worker by name, start at once, and keep what they need in the worker's
process. Everything goes by the scheduler, so the agent need reach nothing else.
distributed is imported when a cluster is opened; how it is secured (TLS) is its
own configuration (distributed.comm).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import structlog

import haldane
from haldane.ports import PortError, Refused, Unavailable

log = structlog.get_logger()
T = TypeVar("T")

_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 10.0


class DaskWorkers:
    """The `ports.Workers` of one cluster. Made by `open_workers`."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address
        self._unfit: dict[str, str] = {}  # worker -> what is wrong with it, "" for nothing

    async def names(self) -> Sequence[str]:
        """Addresses of the workers that have this version of ours, in order."""
        there = sorted(await self._asked(self._client.nthreads, "the scheduler"))
        if set(there) != set(self._unfit):
            self._unfit = {name: why for name, why in (await self._versions()).items() if name in there}
        fit = [name for name in there if self._unfit.get(name) == ""]
        if not there:
            raise Unavailable("dask", f"the scheduler at {self._address} has no worker; start dask worker")
        if not fit:
            raise Refused("dask", next(iter(self._unfit.values()), "no worker says which version it has"))
        return fit

    async def _versions(self) -> dict[str, str]:
        """Of each worker what keeps it from being used; told in the log once."""
        told = await self._asked(partial(self._client.get_versions, packages=["haldane"]), "the scheduler")
        found = {}
        for name, said in told["workers"].items():
            theirs = said["packages"].get("haldane")
            found[name] = (
                ""
                if theirs == haldane.__version__
                else (
                    f"worker {name} has {f'haldane {theirs}' if theirs else 'no haldane'}, and the agent"
                    f" {haldane.__version__}: install haldane[dask] of the agent's version there"
                )
            )
            if found[name] and name not in self._unfit:
                log.warning("dask_worker_unfit", worker=name, detail=found[name])
        return found

    async def ask(
        self, worker: str, deed: Callable[..., Awaitable[T]], *given: object, seconds: float = _ANSWER_SECONDS
    ) -> T:
        """What it returns there; Unavailable for whatever went wrong on the way or there."""
        running = partial(self._client.run, run_quietly, deed, given, workers=[worker], on_error="return")
        answer = (await self._asked(running, worker, seconds))[worker]
        if isinstance(answer, PortError):
            raise answer
        if isinstance(answer, BaseException):
            raise Unavailable(worker, f"{type(answer).__name__}: {answer}") from answer
        return answer  # type: ignore[no-any-return]  # of another process

    async def _asked(self, question: Callable[[], Awaitable[Any]], whom: str, seconds: float = _ANSWER_SECONDS) -> Any:
        """distributed's own failures are of many types, none of which tells more than that there is no answer."""
        if self._client.status != "running":  # it connects anew, and a question would wait for that
            raise Unavailable("dask", f"the scheduler at {self._address} is gone")
        try:
            async with asyncio.timeout(seconds):
                return await question()
        except Exception as error:
            detail = f"no answer from {whom} by way of {self._address}: {type(error).__name__}: {error}"
            raise Unavailable("dask", detail.rstrip(": ")) from error


@asynccontextmanager
async def open_workers(address: str) -> AsyncIterator[DaskWorkers]:
    """The workers of the scheduler at that address.

    Refused where distributed is not installed, or has no certificates for tls://; Unavailable when the scheduler cannot
    be reached.
    """
    try:
        import distributed
    except ImportError as error:
        raise Refused("dask", 'shadow.dask needs a package: pip install "haldane[dask]"') from error
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it has to say is told by us, in a line
    connect: Any = distributed.Client
    client = connect(address, asynchronous=True, timeout=_CONNECT_SECONDS, set_as_default=False, name="haldane")
    try:
        try:
            await client
        except (OSError, TimeoutError, ValueError) as error:
            raise Unavailable("dask", f"cannot reach the scheduler at {address}: {error}") from error
        except TypeError as error:  # what Dask raises where its settings have no certificates
            words = f"{address} needs Dask's own TLS settings here and on the workers (distributed.comm.tls): {error}"
            raise Refused("dask", words) from error
        yield DaskWorkers(client, address)
    finally:
        await client.close(timeout=_CONNECT_SECONDS)


async def run_quietly(deed: Callable[..., Awaitable[T]], given: Sequence[object]) -> T:
    """Runs on a worker, which would otherwise log a line for each of many calls a second."""
    logger = logging.getLogger("distributed.worker")
    if _is_news not in logger.filters:
        logger.addFilter(_is_news)
    return await deed(*given)


def _is_news(record: logging.LogRecord) -> bool:
    return not (record.msg.startswith("Run out-of-band function") and record.args == (run_quietly.__name__,))
