"""--enable_batching: requests wait for each other and run as one.

A BatchingServable stands before a loaded version; per signature it keeps a
queue of batches. A batch runs when it is full or has waited long enough. One
of the real server's faults is kept: an empty request (batch size 0) does not
make a batch worth running, so it waits until another request joins it.

Source: batching/batching_session.cc, batching/batching_util.cc;
tensorflow/core/kernels/batching_util/basic_batch_scheduler.h,
shared_batch_scheduler.h; servables/tensorflow/bundle_factory_util.cc.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from haldane.sandbox import textconfig
from haldane.sandbox.metrics import Metrics
from haldane.sandbox.servable import Servable, StatusError
from haldane.sandbox.tensors import Array

_INVALID = grpc.StatusCode.INVALID_ARGUMENT


def _status(code: grpc.StatusCode, text: str) -> StatusError:
    return StatusError(code, text)


@dataclass(frozen=True, slots=True)
class Settings:
    """BatchingParameters with the defaults of basic_batch_scheduler.h and session_bundle_config.proto."""

    max_batch_size: int = 1000
    batch_timeout_seconds: float = 0.0
    max_enqueued_batches: int = 10
    batch_threads: int = 4
    allowed_sizes: tuple[int, ...] = ()
    pad_variable_length: bool = False
    split_large: bool = False
    max_execution_batch_size: int = 0  # 0: max_batch_size

    @property
    def execution_limit(self) -> int:
        """The largest batch that runs at once."""
        return (self.max_execution_batch_size or self.max_batch_size) if self.split_large else self.max_batch_size


def settings_from(parameters: Any, *, cpus: int) -> Settings:
    """Settings from a BatchingParameters message; StatusError INVALID_ARGUMENT when they contradict each other."""

    def value(name: str, default: int) -> int:
        return int(getattr(parameters, name).value) if parameters.HasField(name) else default

    settings = Settings(
        max_batch_size=value("max_batch_size", 1000),
        batch_timeout_seconds=value("batch_timeout_micros", 0) / 1e6,
        max_enqueued_batches=value("max_enqueued_batches", 10),
        batch_threads=value("num_batch_threads", cpus),
        allowed_sizes=tuple(parameters.allowed_batch_sizes),
        pad_variable_length=parameters.pad_variable_length_inputs,
        split_large=parameters.enable_large_batch_splitting.value,
        max_execution_batch_size=value("max_execution_batch_size", 0),
    )
    allowed = settings.allowed_sizes
    if allowed and allowed[-1] != settings.execution_limit:
        what = "be equal to max_execution_batch_size" if settings.split_large else "match max_batch_size"
        raise _status(
            _INVALID,
            f"Last entry in allowed_batch_sizes must {what}; last entry was {allowed[-1]}; expected "
            f"{settings.execution_limit}",
        )
    return settings


@dataclass(slots=True, eq=False)
class _Task:
    """One request, or one piece of a request that was split."""

    feeds: Mapping[str, Array]
    size: int
    timeout_seconds: float | None
    enqueued: float
    done: threading.Event = field(default_factory=threading.Event)
    outputs: dict[str, Array] | None = None
    failure: StatusError | None = None

    def finish(self, outputs: dict[str, Array] | None, failure: StatusError | None) -> None:
        self.outputs, self.failure = outputs, failure
        self.done.set()


@dataclass(slots=True)
class _Batch:
    started: float
    tasks: list[_Task] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(task.size for task in self.tasks)


class BatchThreads:
    """The threads that all queues of one server share; they start with the first batch."""

    def __init__(self, threads: int) -> None:
        self.condition = threading.Condition()
        self._queues: list[_Queue] = []
        self._threads, self._started = max(1, threads), False

    def add(self, queue: "_Queue") -> None:
        with self.condition:
            self._queues.append(queue)
            if not self._started:
                self._started = True
                for number in range(self._threads):
                    threading.Thread(target=self._work, name=f"batch_{number}", daemon=True).start()

    def remove(self, queue: "_Queue") -> None:
        with self.condition:
            if queue in self._queues:
                self._queues.remove(queue)

    def _work(self) -> None:
        while True:
            with self.condition:
                queue, batch = self._wait_for_batch()
            queue.process(batch)

    def _wait_for_batch(self) -> "tuple[_Queue, _Batch]":
        while True:
            now, soonest = time.monotonic(), None
            for queue in self._queues:
                batch = queue.take(now)
                if batch is not None:
                    self._queues.remove(queue)  # turn by turn
                    self._queues.append(queue)
                    return queue, batch
                ripe = queue.ripe_at()
                if ripe is not None:
                    soonest = ripe if soonest is None else min(soonest, ripe)
            self.condition.wait(None if soonest is None else max(0.0, soonest - now))


class _Queue:
    """Batches of one signature: closed ones first, the last one open. Guarded by the threads' condition."""

    def __init__(
        self, inner: Servable, fetches: tuple[str, ...], settings: Settings, threads: BatchThreads, metrics: Metrics
    ) -> None:
        self._inner, self._fetches, self._settings = inner, fetches, settings
        self._condition, self._metrics = threads.condition, metrics
        self._batches: deque[_Batch] = deque()

    def put(self, tasks: Sequence[_Task]) -> None:
        """Enqueue a request; StatusError when it is too large or the queue is full."""
        settings, size = self._settings, sum(task.size for task in tasks)
        with self._condition:
            if size > settings.max_batch_size:
                raise _status(
                    _INVALID, f"Task size {size} is larger than maximum input batch size {settings.max_batch_size}"
                )
            self._check_capacity(size)
            for task in tasks:
                self._place(task)
            self._condition.notify_all()

    def _check_capacity(self, size: int) -> None:
        settings = self._settings
        enqueued, most = max(1, len(self._batches)), settings.max_enqueued_batches  # one is always open
        open_size = self._batches[-1].size if self._batches else 0
        full = "The batch scheduling queue to which this task was submitted is full; "
        if settings.split_large:
            limit = settings.execution_limit
            capacity = (most - enqueued) * limit + limit - open_size
            if size > capacity:
                raise _status(
                    grpc.StatusCode.UNAVAILABLE,
                    f"{full}task size is {size} but scheduling capacity is only {capacity} (num_enqueued_batches="
                    f"{enqueued}, max_enqueued_batches={most}, open_batch_size={open_size}, "
                    f"max_execution_batch_size={limit})",
                )
        elif open_size + size > settings.max_batch_size and enqueued >= most:
            raise _status(
                grpc.StatusCode.UNAVAILABLE,
                f"{full}currently {enqueued} batches enqueued and max_enqueued_batches is {most}",
            )

    def _place(self, task: _Task) -> None:
        if not self._batches or self._batches[-1].size + task.size > self._settings.execution_limit:
            self._batches.append(_Batch(time.monotonic()))
        batch = self._batches[-1]
        if not batch.size:
            batch.started = time.monotonic()
        batch.tasks.append(task)

    def open_room(self) -> int:
        """How much the open batch still takes."""
        with self._condition:
            return self._settings.execution_limit - (self._batches[-1].size if self._batches else 0)

    def take(self, now: float) -> _Batch | None:
        """The next batch that should run, if any; the condition is held."""
        if not self._batches:
            return None
        ripe = self.ripe_at()
        return self._batches.popleft() if ripe is not None and ripe <= now else None

    def ripe_at(self) -> float | None:
        """When the next batch should run; None while nothing in it counts."""
        if not self._batches or (len(self._batches) == 1 and self._batches[0].size == 0):
            return None
        first = self._batches[0]
        if len(self._batches) > 1 or first.size >= self._settings.execution_limit:
            return 0.0
        return first.started + self._settings.batch_timeout_seconds

    def process(self, batch: _Batch) -> None:
        """Run one batch and answer its tasks."""
        outputs: list[dict[str, Array]] | None = None
        failure: StatusError | None = None
        try:
            outputs = self._run(batch)
        except StatusError as error:
            failure = error
        for index, task in enumerate(batch.tasks):
            task.finish(outputs[index] if outputs is not None else None, failure)

    def _run(self, batch: _Batch) -> list[dict[str, Array]]:
        now = time.monotonic()
        deadlines = [
            task.enqueued + task.timeout_seconds if task.timeout_seconds else float("inf") for task in batch.tasks
        ]
        for task in batch.tasks:
            self._metrics.observe_queuing((now - task.enqueued) * 1e6)
        if max(deadlines) <= now:
            raise _status(grpc.StatusCode.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
        timeout = max(deadlines) - now
        size = batch.size
        padded = next((allowed for allowed in self._settings.allowed_sizes if allowed >= size), size)
        self._metrics.observe_batch(size, padded)
        merged = merge([task.feeds for task in batch.tasks], padded - size, pad=self._settings.pad_variable_length)
        combined = self._inner.run(merged, self._fetches, timeout_seconds=None if timeout == float("inf") else timeout)
        return split(combined, [task.size for task in batch.tasks], padded)


def merge(feeds: Sequence[Mapping[str, Array]], padding: int, *, pad: bool) -> dict[str, Array]:
    """The tasks' inputs, one after the other; `padding` rows more, copies of the last task's first row."""
    merged = {}
    for name in feeds[0]:
        parts = [task[name] for task in feeds]
        if pad:
            parts = _padded(parts)
        elif any(part.shape[1:] != parts[0].shape[1:] for part in parts):
            raise _status(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off. "
                "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal "
                "dimensions starting with the first dim.",
            )
        if padding:
            parts = [*parts, *[parts[-1][:1]] * padding]
        if any(part.dtype != parts[0].dtype for part in parts):
            raise _status(
                grpc.StatusCode.INTERNAL,
                "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors that have different "
                "data types.",
            )
        merged[name] = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return merged


def _padded(parts: list[Array]) -> list[Array]:
    if any(part.ndim != parts[0].ndim for part in parts):
        raise _status(_INVALID, "Tensors to be padded must have the same rank")
    widest = [max(part.shape[axis] for part in parts) for axis in range(1, parts[0].ndim)]
    result = []
    for part in parts:
        widths = [(0, 0), *((0, wide - have) for wide, have in zip(widest, part.shape[1:], strict=True))]
        fill: Any = b"" if part.dtype == object else 0
        result.append(np.pad(part, widths, constant_values=fill) if any(after for _, after in widths) else part)
    return result


def split(combined: Mapping[str, Array], sizes: Sequence[int], padded: int) -> list[dict[str, Array]]:
    """Each task's share of the outputs; StatusError FAILED_PRECONDITION when an output is no batch."""
    shares: list[dict[str, Array]] = [{} for _ in sizes]
    for name, array in combined.items():
        if array.ndim == 0:
            raise _status(grpc.StatusCode.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(array) != padded:
            raise _status(
                grpc.StatusCode.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                "input tensors",
            )
        at = 0
        for share, size in zip(shares, sizes, strict=True):
            share[name] = array[at : at + size]
            at += size
    return shares


class BatchingServable:
    """A servable whose runs with a whole signature's inputs and outputs are batched; others run at once."""

    def __init__(self, inner: Servable, settings: Settings, threads: BatchThreads, metrics: Metrics) -> None:
        self.signatures = inner.signatures
        self._inner, self._settings, self._threads, self._metrics = inner, settings, threads, metrics
        self._queues: dict[tuple[frozenset[str], frozenset[str]], _Queue] = {}
        for signature in inner.signatures.values():
            inputs = frozenset(info.name for info in signature.inputs.values())
            fetches = sorted({info.name for info in signature.outputs.values()})
            key = (inputs, frozenset(fetches))
            if key not in self._queues:
                queue = _Queue(inner, tuple(fetches), settings, threads, metrics)
                self._queues[key] = queue
                threads.add(queue)

    def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout_seconds: float | None
    ) -> dict[str, Array]:
        """One request's outputs, computed in a batch; waits as long as that takes, whatever the timeout."""
        queue = self._queues.get((frozenset(feeds), frozenset(fetches)))
        if queue is None:
            return self._inner.run(feeds, fetches, timeout_seconds=timeout_seconds)
        size = batch_size(feeds)
        for _ in feeds:
            self._metrics.observe_input_size(size)
        tasks = self._tasks(queue, feeds, size, timeout_seconds)
        queue.put(tasks)
        for task in tasks:
            task.done.wait()
        return _joined(tasks, fetches)

    def _tasks(
        self, queue: _Queue, feeds: Mapping[str, Array], size: int, timeout_seconds: float | None
    ) -> list[_Task]:
        limit, now = self._settings.execution_limit, time.monotonic()
        room = queue.open_room()
        if not self._settings.split_large or size <= room or size > self._settings.max_batch_size:
            return [_Task(feeds, size, timeout_seconds, now)]
        edges = [0, *range(room or limit, size, limit), size]
        return [
            _Task({name: array[low:high] for name, array in feeds.items()}, high - low, timeout_seconds, now)
            for low, high in itertools.pairwise(edges)
        ]

    def unload(self) -> None:
        """Frees the version; nothing of it is queued any more."""
        for queue in self._queues.values():
            self._threads.remove(queue)
        self._inner.unload()


def _joined(tasks: Sequence[_Task], fetches: Sequence[str]) -> dict[str, Array]:
    for task in tasks:
        if task.failure is not None:
            raise task.failure
    shares = [task.outputs or {} for task in tasks]
    if len(shares) == 1:
        return {name: shares[0][name] for name in fetches}
    return {name: np.concatenate([share[name] for share in shares]) for name in fetches}


def batch_size(feeds: Mapping[str, Array]) -> int:
    """The common first dimension of all inputs; StatusError INVALID_ARGUMENT when there is none."""
    if not feeds:
        raise _status(_INVALID, "Batching Run() must have at least one input tensor")
    sizes: list[int] = []
    for array in feeds.values():
        if array.ndim == 0:
            raise _status(_INVALID, "Batching Run() input tensors must have at least one dimension")
        sizes.append(array.shape[0])
    if len(set(sizes)) > 1:
        raise _status(_INVALID, "Batching Run() input tensors must have equal 0th-dimension size")
    return sizes[0]


PER_MODEL_FILE = "batching_params.pbtxt"


def from_files(
    parameters_file: str, metrics: Metrics, *, cpus: int, per_model: bool
) -> Callable[[Servable, str], Servable]:
    """What stands before each loaded version: batching as the common or the version's own file says.

    StatusError when the common file cannot be read; a version's own bad file
    fails that version's load.
    """
    parameters = textconfig.message("BatchingParameters")
    if parameters_file:
        textconfig.read(parameters_file, parameters)
    common = settings_from(parameters, cpus=cpus)
    threads = BatchThreads(common.batch_threads)

    def prepare(servable: Servable, path: str) -> Servable:
        if not per_model:
            return BatchingServable(servable, common, threads, metrics)
        own = Path(path) / PER_MODEL_FILE
        if not own.exists():
            return servable
        read = textconfig.read(str(own), textconfig.message("BatchingParameters"))
        return BatchingServable(servable, settings_from(read, cpus=cpus), threads, metrics)

    return prepare
