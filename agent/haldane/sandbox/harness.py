"""One version under management: its way from new to ready to gone.

Source: core/loader_harness.cc, util/retrier.cc.
"""

import threading
import time
import traceback
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path

import grpc

from haldane.sandbox import log
from haldane.sandbox.servable import Executor, Servable, StatusError
from haldane.sandbox.states import ServableId

# The real server takes 0.2 to 0.4 s to load even the smallest SavedModel (recorded); here it can be 1 to 20 ms. Whoever
# samples states would never see LOADING, and a load below one tick lets the old version live a tick longer.
LEAST_LOAD_SECONDS = 0.25


class Stage(Enum):
    """Where a harness stands; the manager's policy knows only NEW, READY and the final two."""

    NEW = auto()
    LOAD_REQUESTED = auto()
    LOADING = auto()
    READY = auto()
    UNLOAD_REQUESTED = auto()
    QUIESCING = auto()
    UNLOADING = auto()
    DISABLED = auto()
    ERROR = auto()


class Retries:
    """How often and how far apart a load is tried again."""

    def __init__(self, count: int, interval_seconds: float) -> None:
        # The real server counts unsigned, in 32 bits: -1 wraps round to no retries, what is below means for ever.
        self.attempts = (count + 1) % 2**32
        self.interval_seconds = max(0.0, interval_seconds)

    def run(self, what: str, attempt: Callable[[], object], cancelled: Callable[[], bool]) -> StatusError | None:
        """Try until it works, the tries are used up or it is cancelled; the last failure."""
        tries = 0
        while True:
            failure = _attempt(attempt)
            tries += 1
            if failure:
                log.error(f"{what} failed: {failure}")
            if cancelled() or not failure or tries >= self.attempts:
                break
            time.sleep(self.interval_seconds)
            log.info(f"Retrying of {what} retry: {tries}")
        if cancelled():
            log.info(f"Retrying of {what} was cancelled.")
        return failure


def _attempt(attempt: Callable[[], object]) -> StatusError | None:
    try:
        attempt()
    except StatusError as failure:
        return failure
    except Exception as failure:  # an executor's surprise must end as a state, not as a dead thread
        log.error(traceback.format_exc())
        return StatusError(grpc.StatusCode.INTERNAL, f"{type(failure).__name__}: {failure}")
    return None


class Harness:
    """A version that the manager looks after.

    `stage` and `aspired` are the manager's to change under its lock; `cancelled`
    is set when the version is un-aspired, which ends its retries.
    """

    def __init__(self, servable_id: ServableId, path: str, executor: Executor, retries: Retries) -> None:
        self.id = servable_id
        self.stage = Stage.NEW
        self.aspired = True
        self.error: StatusError | None = None
        self.servable: Servable | None = None
        self._path = path
        self._executor = executor
        self._retries = retries
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        self._cancelled.set()

    def reserve(self) -> StatusError | None:
        """Look at the size of the files, as Serving does before a load; what went wrong, if anything."""
        failure = self._retries.run(
            f"Reserving resources for servable: {self.id}", lambda: estimate(self._path), self._cancelled.is_set
        )
        if failure is None:
            return None
        prefix = f"Error while attempting to reserve resources to load servable {self.id}: "
        return StatusError(failure.code, prefix + failure.message)

    def load(self) -> StatusError | None:
        """Load, with retries. A load that ends well after it was cancelled is undone at once."""

        def attempt() -> None:
            started = time.monotonic()
            self.servable = self._executor.load(self.id.model, self._path)
            time.sleep(max(0.0, LEAST_LOAD_SECONDS - (time.monotonic() - started)))

        failure = self._retries.run(f"Loading servable: {self.id}", attempt, self._cancelled.is_set)
        if failure is None and self._cancelled.is_set():
            self.unload()
            failure = StatusError(grpc.StatusCode.CANCELLED, "Loading of servable cancelled")
        return failure

    def unload(self) -> None:
        servable, self.servable = self.servable, None
        if servable is not None:
            servable.unload()


def estimate(path: str) -> int:
    """Bytes below a version directory; StatusError when it is gone or a plain file."""
    directory = Path(path)
    if not directory.exists():
        raise StatusError(grpc.StatusCode.NOT_FOUND, f"{path} not found")
    if not directory.is_dir():
        raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, f"{path}; Not a directory")
    try:
        return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    except OSError as failure:
        code = grpc.StatusCode.NOT_FOUND if isinstance(failure, FileNotFoundError) else grpc.StatusCode.UNKNOWN
        raise StatusError(code, f"{failure.filename}; {failure.strerror}") from failure
