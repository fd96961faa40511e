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
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from haldane.sandbox import textconfig
from haldane.sandbox.batch_queue import BatchThreads, Queue, Settings, Task
from haldane.sandbox.metrics import Metrics
from haldane.sandbox.servable import Servable, StatusError
from haldane.sandbox.tensors import Array

PER_MODEL_FILE = "batching_params.pbtxt"
_INVALID = grpc.StatusCode.INVALID_ARGUMENT


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
        raise StatusError(
            _INVALID,
            f"Last entry in allowed_batch_sizes must {what}; last entry was {allowed[-1]}; expected "
            f"{settings.execution_limit}",
        )
    return settings


class BatchingServable:
    """A servable whose runs with a whole signature's inputs and outputs are batched; others run at once."""

    def __init__(self, inner: Servable, settings: Settings, threads: BatchThreads, metrics: Metrics) -> None:
        self.signatures = inner.signatures
        self._inner, self._settings, self._threads, self._metrics = inner, settings, threads, metrics
        self._queues: dict[tuple[frozenset[str], frozenset[str]], Queue] = {}
        for signature in inner.signatures.values():
            inputs = frozenset(info.name for info in signature.inputs.values())
            fetches = sorted({info.name for info in signature.outputs.values()})
            key = (inputs, frozenset(fetches))
            if key not in self._queues:
                queue = Queue(inner, tuple(fetches), settings, threads, metrics)
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

    def _tasks(self, queue: Queue, feeds: Mapping[str, Array], size: int, timeout_seconds: float | None) -> list[Task]:
        limit, now = self._settings.execution_limit, time.monotonic()
        room = queue.open_room()
        if not self._settings.split_large or size <= room or size > self._settings.max_batch_size:
            return [Task(feeds, size, timeout_seconds, now)]
        edges = [0, *range(room or limit, size, limit), size]
        return [
            Task({name: array[low:high] for name, array in feeds.items()}, high - low, timeout_seconds, now)
            for low, high in itertools.pairwise(edges)
        ]

    def unload(self) -> None:
        """Frees the version; nothing of it is queued any more."""
        for queue in self._queues.values():
            self._threads.remove(queue)
        self._inner.unload()


def _joined(tasks: Sequence[Task], fetches: Sequence[str]) -> dict[str, Array]:
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
        raise StatusError(_INVALID, "Batching Run() must have at least one input tensor")
    sizes: list[int] = []
    for array in feeds.values():
        if array.ndim == 0:
            raise StatusError(_INVALID, "Batching Run() input tensors must have at least one dimension")
        sizes.append(array.shape[0])
    if len(set(sizes)) > 1:
        raise StatusError(_INVALID, "Batching Run() input tensors must have equal 0th-dimension size")
    return sizes[0]


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
