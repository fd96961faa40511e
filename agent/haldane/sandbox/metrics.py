"""The metrics page, as TF Serving's own exporter writes it.

`prometheus_client` cannot: names start with a colon, labels are not sorted,
numbers have six significant digits, and families without values still show
their TYPE line. This module owns the registry, the page and every count the
sandbox makes; who calls when is decided by the APIs.

Source: util/prometheus_exporter.cc, servables/tensorflow/util.cc.
"""

import re
import threading
from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from haldane.sandbox import metric_families


def exponential_bounds(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """`count` upper bounds scale * growth**k, multiplied up as TensorFlow does it."""
    bounds = [scale]
    for _ in range(count - 1):
        bounds.append(bounds[-1] * growth)
    return tuple(bounds)


LATENCY_BOUNDS = exponential_bounds(10, 1.8, 33)
QUEUING_BOUNDS = exponential_bounds(100, 1.2, 52)
BATCH_SIZE_BOUNDS = exponential_bounds(1, 2, 14)
RUN_TIME_BOUNDS = exponential_bounds(1000, 2, 20)


def _escape(value: str) -> str:
    # A newline is not escaped: the real exporter's pages break there, and so do ours.
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _number(value: float) -> str:
    """Six significant digits, as absl::StrCat writes a double; integers in full."""
    return str(value) if isinstance(value, int) else f"{value:g}"


class Family(Protocol):
    """One metric with its series."""

    kind: str

    def lines(self, name: str) -> list[str]:
        """The samples below the TYPE line."""


class Counter:
    """A counter, or a gauge, by label values."""

    def __init__(self, labels: Sequence[str] = (), kind: str = "counter") -> None:
        self.kind = kind
        self._labels = tuple(labels)
        self._cells: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def add(self, *values: str, amount: int = 1) -> None:
        with self._lock:
            self._cells[values] = self._cells.get(values, 0) + amount

    def value(self, *values: str) -> int:
        """The count of that series; 0 when it does not exist."""
        return self._cells.get(values, 0)

    def first(self) -> int:
        """The value of the first series in page order, which is what a reload's `metric_names` reports."""
        with self._lock:
            return min(self._cells.items())[1] if self._cells else 0

    def lines(self, name: str) -> list[str]:
        with self._lock:
            cells = sorted(self._cells.items())
        return [f"{name}{{{_label_text(self._labels, values)}}} {count}" for values, count in cells]


def _label_text(labels: Sequence[str], values: Sequence[str]) -> str:
    return ",".join(f'{label}="{_escape(value)}"' for label, value in zip(labels, values, strict=True))


class _Cell:
    __slots__ = ("buckets", "total")

    def __init__(self, size: int) -> None:
        self.buckets = [0] * size
        self.total = 0.0


class Histogram:
    """A histogram by label values; a value on a bound belongs to the bucket above it."""

    kind = "histogram"

    def __init__(self, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        self._labels = tuple(labels)
        self._bounds = bounds
        self._les = [*(_number(float(bound)) for bound in bounds), "+Inf"]
        self._cells: dict[tuple[str, ...], _Cell] = {}
        self._lock = threading.Lock()

    def observe(self, *values: str, value: float) -> None:
        with self._lock:
            cell = self._cells.get(values)
            if cell is None:
                cell = self._cells[values] = _Cell(len(self._bounds) + 1)
            cell.buckets[bisect_right(self._bounds, value)] += 1
            cell.total += value

    def lines(self, name: str) -> list[str]:
        with self._lock:
            cells = sorted((values, list(cell.buckets), cell.total) for values, cell in self._cells.items())
        result: list[str] = []
        for values, buckets, total in cells:
            text = _label_text(self._labels, values)
            prefix = text + "," if text else ""
            count = 0
            for le, bucket in zip(self._les, buckets, strict=True):
                count += bucket
                result.append(f'{name}_bucket{{{prefix}le="{le}"}} {count}')
            result.append(f"{name}_sum{{{text}}} {total:g}")
            result.append(f"{name}_count{{{text}}} {count}")
        return result


class _Bare:
    """A family that is registered and never gets a value."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def lines(self, name: str) -> list[str]:
        return []


def page_name(raw_name: str) -> str:
    """The page's spelling of a registry name: ":tensorflow:serving:request_count"."""
    return re.sub(r"[^a-zA-Z0-9_]", ":", raw_name)


class Metrics:
    """Everything one server counts; safe from any thread. Latencies are in microseconds."""

    def __init__(self) -> None:
        families: dict[str, Family] = {}
        for kind, names in (
            ("counter", metric_families.COUNTERS),
            ("gauge", metric_families.GAUGES),
            ("histogram", metric_families.HISTOGRAMS),
        ):
            families.update({name: _Bare(kind) for name in names})
        self._families = families
        self._lock = threading.Lock()
        serving, core, load = "/tensorflow/serving/", "/tensorflow/core/", "/tensorflow/cc/saved_model/"
        self.request_count = self._counter(serving + "request_count", "model_name", "status")
        self._request_latency = self._histogram(
            serving + "request_latency", LATENCY_BOUNDS, "model_name", "API", "entrypoint"
        )
        self._runtime_latency = self._histogram(
            serving + "runtime_latency", LATENCY_BOUNDS, "model_name", "API", "runtime"
        )
        self._example_count = self._counter(serving + "request_example_count_total", "model")
        self._example_counts = self._histogram(
            serving + "request_example_counts", exponential_bounds(1, 2, 15), "model"
        )
        self._warmup_latency = self._histogram(serving + "model_warmup_latency", LATENCY_BOUNDS, "model_path", "status")
        self._warmup_records = self._counter(serving + "model_warmup_records_read", "model_path", "status")
        self._load_attempts = self._counter(load + "load_attempt_count", "model_path", "status")
        self._load_latency = self._counter(load + "load_latency", "model_path")
        self._queuing = self._histogram(
            serving + "batching_session/queuing_latency", QUEUING_BOUNDS, "thread_pool_name"
        )
        self._wrapped_runs = self._counter(serving + "batching_session/wrapped_run_count")
        self._session_runs = self._counter(core + "direct_session_runs")
        self._graph_runs = self._counter(core + "graph_runs")
        self._graph_run_time = self._counter(core + "graph_run_time_usecs")
        self._graph_run_times = self._histogram(core + "graph_run_time_usecs_histogram", RUN_TIME_BOUNDS)
        self._read_count = self._counter(core + "saved_model/read/count", "write_version")
        self._read_api = self._counter(core + "saved_model/read/api", "api_label")

    def _counter(self, raw_name: str, *labels: str) -> Counter:
        family = Counter(labels)
        self._families[raw_name] = family
        return family

    def _histogram(self, raw_name: str, bounds: Sequence[float], *labels: str) -> Histogram:
        family = Histogram(bounds, labels)
        self._families[raw_name] = family
        return family

    def _late_histogram(self, raw_name: str, *labels: str) -> Histogram:
        """A family that the page lacks until its first value."""
        with self._lock:
            family = self._families.get(raw_name)
            if not isinstance(family, Histogram):
                family = self._histogram(raw_name, BATCH_SIZE_BOUNDS, *labels)
        return family

    # -- requests
    def count_request(self, model: str, status: str) -> None:
        """One Predict, Classify, Regress or REST call; `status` is the code's name ("OK", "NOT_FOUND")."""
        self.request_count.add(model, status)

    def observe_request_latency(self, model: str, api: str, entrypoint: str, micros: float) -> None:
        """A call that succeeded; `api` "Predict" with entrypoint "GRPC", "predict" or "" with "REST"."""
        self._request_latency.observe(model, api, entrypoint, value=int(micros))

    def observe_runtime_latency(self, model: str, api: str, micros: float) -> None:
        """Time in the session; `api` is capitalised for both entrypoints."""
        self._runtime_latency.observe(model, api, "TF1", value=int(micros))

    def count_examples(self, model: str, examples: int) -> None:
        """Examples of one MultiInference."""
        self._example_count.add(model, amount=examples)
        self._example_counts.observe(model, value=examples)

    # -- loading
    def count_load_attempt(self, model_path: str, status: str, micros: float = 0) -> None:
        """One attempt to load; `status` "success" or "fail"; not for a directory without saved_model.pb."""
        self._load_attempts.add(model_path, status)
        self._load_latency.add(model_path, amount=int(micros))
        if status == "success":
            self._read_count.add("2")
            self._read_api.add("cc_load")

    def observe_warmup(self, model_path: str, status: str, records: int, micros: float) -> None:
        """One replay of a warm-up file; `status` "OK" or the full status text."""
        self._warmup_latency.observe(model_path, status, value=int(micros))
        self._warmup_records.add(model_path, status, amount=records)

    # -- sessions
    def count_session_run(self, micros: float) -> None:
        """One run of a graph."""
        self._session_runs.add()
        self._graph_runs.add()
        self._graph_run_time.add(amount=int(micros))
        self._graph_run_times.observe(value=int(micros))

    # -- batching
    def observe_queuing(self, micros: float) -> None:
        """How long one task waited for its batch."""
        self._queuing.observe("", value=int(micros))

    def observe_batch(self, size: int, padded_size: int) -> None:
        """One batch that ran, and the size it was padded to."""
        self._wrapped_runs.add()
        prefix = "/tensorflow/serving/batching_session/"
        padding = self._late_histogram(prefix + "padding_size", "execution_batch_size")
        padding.observe(str(padded_size), value=padded_size - size)
        self._late_histogram(prefix + "processed_batch_size").observe(value=padded_size)

    def observe_input_size(self, size: int) -> None:
        """One task handed to the batching session."""
        self._late_histogram("/tensorflow/serving/batching_session/input_batch_size").observe(value=size)

    # -- reading
    def first_value(self, raw_name: str) -> int:
        """What a reload's `metric_names` asks for: the first series of a counter; 0 for anything else."""
        family = self._families.get(raw_name)
        return family.first() if isinstance(family, Counter) else 0

    def page(self) -> str:
        """The whole page, in text exposition format; ends with a newline."""
        with self._lock:
            families = sorted(self._families.items())
        lines: list[str] = []
        for raw_name, family in families:
            name = page_name(raw_name)
            lines.append(f"# TYPE {name} {family.kind}")
            lines += family.lines(name)
        return "\n".join(lines) + "\n"
