"""Queues of batches and the threads that run them.

Belongs here: when a batch is due, what fits into it, how tasks are merged and
their answers split. Who is batched with whom is decided in `batching`.

Source: tensorflow/core/kernels/batching_util/shared_batch_scheduler.h;
batching/batching_session.cc (ProcessBatch, MergeInputTensors, SplitOutputTensors).
"""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from haldane.sandbox.metrics import Metrics
from haldane.sandbox.servable import Servable, StatusError
from haldane.sandbox.tensors import Array

_INVALID = grpc.StatusCode.INVALID_ARGUMENT


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


@dataclass(slots=True, eq=False)
class Task:
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
class Batch:
    """Tasks that will run together, and since when they gather."""

    started: float
    tasks: list[Task] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(task.size for task in self.tasks)


class BatchThreads:
    """The threads that all queues of one server share; they start with the first batch."""

    def __init__(self, threads: int) -> None:
        self.condition = threading.Condition()
        self._queues: list[Queue] = []
        self._threads, self._started = max(1, threads), False

    def add(self, queue: "Queue") -> None:
        with self.condition:
            self._queues.append(queue)
            if not self._started:
                self._started = True
                for number in range(self._threads):
                    threading.Thread(target=self._work, name=f"batch_{number}", daemon=True).start()

    def remove(self, queue: "Queue") -> None:
        with self.condition:
            if queue in self._queues:
                self._queues.remove(queue)

    def _work(self) -> None:
        while True:
            with self.condition:
                queue, batch = self._wait_for_batch()
            queue.process(batch)

    def _wait_for_batch(self) -> "tuple[Queue, Batch]":
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


class Queue:
    """Batches of one signature: closed ones first, the last one open. Guarded by the threads' condition."""

    def __init__(
        self, inner: Servable, fetches: tuple[str, ...], settings: Settings, threads: BatchThreads, metrics: Metrics
    ) -> None:
        self._inner, self._fetches, self._settings = inner, fetches, settings
        self._condition, self._metrics = threads.condition, metrics
        self._batches: deque[Batch] = deque()

    def put(self, tasks: Sequence[Task]) -> None:
        """Enqueue a request; StatusError when it is too large or the queue is full."""
        settings, size = self._settings, sum(task.size for task in tasks)
        with self._condition:
            if size > settings.max_batch_size:
                raise StatusError(
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
                raise StatusError(
                    grpc.StatusCode.UNAVAILABLE,
                    f"{full}task size is {size} but scheduling capacity is only {capacity} (num_enqueued_batches="
                    f"{enqueued}, max_enqueued_batches={most}, open_batch_size={open_size}, "
                    f"max_execution_batch_size={limit})",
                )
        elif open_size + size > settings.max_batch_size and enqueued >= most:
            raise StatusError(
                grpc.StatusCode.UNAVAILABLE,
                f"{full}currently {enqueued} batches enqueued and max_enqueued_batches is {most}",
            )

    def _place(self, task: Task) -> None:
        if not self._batches or self._batches[-1].size + task.size > self._settings.execution_limit:
            self._batches.append(Batch(time.monotonic()))
        batch = self._batches[-1]
        if not batch.size:
            batch.started = time.monotonic()
        batch.tasks.append(task)

    def open_room(self) -> int:
        """How much the open batch still takes."""
        with self._condition:
            return self._settings.execution_limit - (self._batches[-1].size if self._batches else 0)

    def take(self, now: float) -> Batch | None:
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

    def process(self, batch: Batch) -> None:
        """Run one batch and answer its tasks."""
        outputs: list[dict[str, Array]] | None = None
        failure: StatusError | None = None
        try:
            outputs = self._run(batch)
        except StatusError as error:
            failure = error
        for index, task in enumerate(batch.tasks):
            task.finish(outputs[index] if outputs is not None else None, failure)

    def _run(self, batch: Batch) -> list[dict[str, Array]]:
        now = time.monotonic()
        deadlines = [
            task.enqueued + task.timeout_seconds if task.timeout_seconds else float("inf") for task in batch.tasks
        ]
        for task in batch.tasks:
            self._metrics.observe_queuing((now - task.enqueued) * 1e6)
        if max(deadlines) <= now:
            raise StatusError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue"
            )
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
            raise StatusError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off. "
                "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal "
                "dimensions starting with the first dim.",
            )
        if padding:
            parts = [*parts, *[parts[-1][:1]] * padding]
        if any(part.dtype != parts[0].dtype for part in parts):
            raise StatusError(
                grpc.StatusCode.INTERNAL,
                "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors that have different "
                "data types.",
            )
        merged[name] = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return merged


def _padded(parts: list[Array]) -> list[Array]:
    if any(part.ndim != parts[0].ndim for part in parts):
        raise StatusError(_INVALID, "Tensors to be padded must have the same rank")
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
            raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(array) != padded:
            raise StatusError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                "input tensors",
            )
        at = 0
        for share, size in zip(shares, sizes, strict=True):
            share[name] = array[at : at + size]
            at += size
    return shares
