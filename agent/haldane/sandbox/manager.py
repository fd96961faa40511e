"""Brings the versions that are loaded in line with the versions that are wanted.

One thread ticks every 100 ms: it forgets versions that are finished and no
longer wanted, takes in new wishes, and performs one action, over all models.
Loads and unloads run in pools, or, with no threads (the default), inside the
tick itself, which then stands still for all models, retries and sleeps included.

Source: core/aspired_versions_manager.cc, core/availability_preserving_policy.cc,
core/basic_manager.cc.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from haldane.sandbox import log
from haldane.sandbox.handles import HeldHandle, ServingMap
from haldane.sandbox.harness import Harness, Retries, Stage
from haldane.sandbox.servable import Executor, StatusError
from haldane.sandbox.states import Event, EventBus, ServableId, State

TICK_SECONDS = 0.1  # core/aspired_versions_manager.h, manage_state_interval_micros
_FINISHED = (Stage.NEW, Stage.DISABLED, Stage.ERROR)


@dataclass(frozen=True, slots=True)
class Action:
    """What to do next to one version."""

    load: bool  # else: unload
    harness: Harness


def next_action(harnesses: Iterable[Harness]) -> Action | None:
    """What the availability-preserving policy does next with one model's versions.

    An un-wanted version goes first, lowest number first, as long as that leaves
    something to serve; otherwise the highest new version is loaded.
    """
    harnesses = sorted(harnesses, key=lambda harness: harness.id.version)
    wanted = [harness for harness in harnesses if harness.aspired]
    spare = [harness for harness in harnesses if not harness.aspired and harness.stage is Stage.READY]
    safe = not wanted or any(harness.stage is Stage.READY for harness in wanted)
    if spare and (safe or len(spare) > 1):
        return Action(load=False, harness=spare[0])
    new = [harness for harness in wanted if harness.stage is Stage.NEW]
    return Action(load=True, harness=new[-1]) if new else None


class _Pool:
    """A thread pool, or the caller's own thread when there are no threads."""

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name) if threads > 0 else None

    def schedule(self, job: Callable[[], None]) -> None:
        if self._executor is None:
            job()
        else:
            self._executor.submit(job)

    def finish(self) -> None:
        """Wait until all scheduled jobs have ended."""
        if self._executor is not None:
            self._executor.shutdown(wait=True)


class AspiredVersionsManager:
    """Owns all harnesses and the map of versions that answer requests."""

    def __init__(
        self,
        executor: Executor,
        bus: EventBus,
        *,
        retries: Retries,
        load_threads: int = 0,
        unload_threads: int = 0,
    ) -> None:
        self._executor = executor
        self._bus = bus
        self._retries = retries
        self._serving = ServingMap()
        self._pending: dict[str, Sequence[tuple[int, str]]] = {}
        self._pending_lock = threading.Lock()
        self._harnesses: dict[ServableId, Harness] = {}
        self._lock = threading.Lock()  # held while waiting for old handles, so that nothing else is decided meanwhile
        self._decision_lock = threading.Lock()
        self._pool_lock = threading.Lock()
        self._load_pool = _Pool(load_threads, "load")
        self._unload_pool = _Pool(unload_threads, "unload")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="manage_state", daemon=True)

    # -- asked by sources and requests
    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No tick after the current one; what is loaded stays loaded."""
        self._stopped.set()
        self._thread.join()

    def aspire(self, model: str, versions: Sequence[tuple[int, str]]) -> None:
        """Note which (version, directory) of a model are wanted; the next tick takes it in. The latest wish counts."""
        with self._pending_lock:
            self._pending[model] = versions

    def acquire(self, model: str, version: int | None) -> HeldHandle:
        """A handle on that version, or on the highest ready one; StatusError NOT_FOUND."""
        return self._serving.acquire(model, version)

    def set_load_threads(self, threads: int) -> None:
        """Change the pool; returns only when the loads already scheduled have ended."""
        with self._pool_lock:
            self._load_pool.finish()
            self._load_pool = _Pool(threads, "load")

    # -- the tick
    def _run(self) -> None:
        while not self._stopped.is_set():
            started = time.monotonic()
            self.tick()
            self._stopped.wait(max(0.0, TICK_SECONDS - (time.monotonic() - started)))

    def tick(self) -> None:
        """One round: forget, take in, act once."""
        self._forget_finished()
        self._take_in_pending()
        action = self._choose()
        if action is None:
            return
        if action.load:
            self._request_load(action.harness)
        else:
            self._request_unload(action.harness)

    def _forget_finished(self) -> None:
        with self._lock:
            for harness in list(self._harnesses.values()):
                if not harness.aspired and harness.stage in _FINISHED:
                    del self._harnesses[harness.id]

    def _take_in_pending(self) -> None:
        with self._pending_lock:
            for model in list(self._pending):
                with self._lock:
                    if self._take_in(model, self._pending[model]):
                        del self._pending[model]

    def _take_in(self, model: str, versions: Sequence[tuple[int, str]]) -> bool:
        """Apply one wish; False while it names a version that is still on its way out."""
        own = [harness for harness in self._harnesses.values() if harness.id.model == model]
        numbers = {version for version, _ in versions}
        if any(harness.id.version in numbers and not harness.aspired for harness in own):
            return False
        for harness in own:
            if harness.aspired and harness.id.version not in numbers:
                harness.aspired = False
                if harness.stage is not Stage.ERROR:
                    harness.cancel()
        for version, path in versions:
            servable_id = ServableId(model, version)
            if servable_id not in self._harnesses:
                self._harnesses[servable_id] = Harness(servable_id, path, self._executor, self._retries)
                self._bus.publish(Event(servable_id, State.START))
        return True

    def _choose(self) -> Action | None:
        with self._lock:
            by_model: dict[str, list[Harness]] = {}
            for harness in self._harnesses.values():
                by_model.setdefault(harness.id.model, []).append(harness)
            actions = [action for model in by_model.values() if (action := next_action(model))]
        actions.sort(key=lambda action: action.load)  # unloads first
        return actions[0] if actions else None

    # -- loading
    def _request_load(self, harness: Harness) -> None:
        with self._lock:
            harness.stage = Stage.LOAD_REQUESTED
        with self._pool_lock:
            self._load_pool.schedule(lambda: self._load(harness))

    def _load(self, harness: Harness) -> None:
        with self._decision_lock, self._lock:
            failure = harness.reserve()  # retries included, under the lock, as in Serving
            if failure is None:
                harness.stage = Stage.LOADING
        if failure is None:
            self._bus.publish(Event(harness.id, State.LOADING))
            log.info(f"Loading servable version {harness.id}")
            failure = harness.load()
        if failure is not None:
            self._fail(harness, failure)
            return
        with self._lock:
            harness.stage = Stage.READY
            self._publish_serving()
        self._bus.publish(Event(harness.id, State.AVAILABLE))
        log.info(f"Successfully loaded servable version {harness.id}")

    def _fail(self, harness: Harness, failure: StatusError) -> None:
        harness.error = failure
        harness.stage = Stage.ERROR
        self._bus.publish(Event(harness.id, State.END, failure))
        log.error(f"Servable {harness.id} cannot be loaded: {failure}")

    # -- unloading
    def _request_unload(self, harness: Harness) -> None:
        with self._lock:
            harness.stage = Stage.UNLOAD_REQUESTED
        self._unload_pool.schedule(lambda: self._unload(harness))

    def _unload(self, harness: Harness) -> None:
        with self._decision_lock, self._lock:
            harness.stage = Stage.QUIESCING
        with self._lock:
            self._bus.publish(Event(harness.id, State.UNLOADING))
            self._publish_serving()
            harness.stage = Stage.UNLOADING
        harness.unload()
        harness.stage = Stage.DISABLED
        self._bus.publish(Event(harness.id, State.END))
        log.info(f"Done unloading servable version {harness.id}")

    def _publish_serving(self) -> None:
        ready = [
            (harness.id, harness.servable)
            for harness in self._harnesses.values()
            if harness.stage is Stage.READY and harness.servable is not None
        ]
        self._serving.publish(ready)
