"""Serving's metrics page as numbers, whatever state the page is in.

Any client can put a newline into a model name and so break lines of the page;
such lines are counted and left out, the rest counts. Values of labels escape
quotes, so a broken line cannot forge a series with labels. Owns: the text and
the counters we use. Leaves what they mean to `judge.conditions`.

Source: TF Serving 2.20 util/prometheus_exporter.cc; recorded pages
(metrics_*.prom); TensorFlow cc/saved_model/loader.cc (load_attempt_count).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from haldane.judge.loads import Directory, LoadCounters

LOAD_ATTEMPTS = "tensorflow:cc:saved_model:load_attempt_count"
LOAD_LATENCY = "tensorflow:cc:saved_model:load_latency"
REQUESTS = "tensorflow:serving:request_count"
QUEUED = "tensorflow:serving:batching_session:queuing_latency_bucket"  # with --enable_batching, over all models
_KEPT = {
    LOAD_ATTEMPTS: ("model_path", "status"),
    LOAD_LATENCY: ("model_path",),
    REQUESTS: ("model_name", "status"),
    QUEUED: ("le",),
}

_NAME = re.compile(r":?[a-zA-Z_][a-zA-Z0-9_:]*")
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\.)*"'
_SERIES = re.compile(rf":?([a-zA-Z_][a-zA-Z0-9_:]*)\{{((?:{_LABEL},?)*)\}}")
_ONE_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
_BOUND = re.compile(r"\+Inf|[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")
_VERSION = re.compile(r"\s*[+-]?[0-9]+\s*")  # what Serving takes for a version directory's name

_REMEMBERED_CHARS = 1000  # a name as long as a request may be is not worth remembering

Counts = Mapping[tuple[str, ...], float]
Place = tuple[str, tuple[str, ...]]
_COMMENT: Place = ("", ("comment",))
_UNUSED: Place = ("", ("unused",))
_BROKEN: Place = ("", ("broken",))


class LoadPath(NamedTuple):
    """A version directory as load counters name it: the base path without a last slash, and the version."""

    base_path: str
    version: int


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """The counters we use of one page.

    `load_attempts` by (model path, "success" or "fail"); `requests` by (model
    name as clients wrote it, status); `load_micros` by model path; `queued` by the longest wait for a batch
    in microseconds, as text; `corrupt` lines could not be read.
    """

    load_attempts: Counts = field(default_factory=dict)
    requests: Counts = field(default_factory=dict)
    load_micros: Counts = field(default_factory=dict)
    queued: Counts = field(default_factory=dict)
    corrupt: int = 0


def parse(page: str) -> MetricsPage:
    """Read a page; never raises. Series we do not use are checked for their shape only.

    A line is cut at its last blank: what stands before is the same at every
    scrape, so it is taken apart once and looked up from then on.
    """
    kept: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in _KEPT}
    corrupt = 0
    for raw in page.split("\n"):  # not splitlines: that also splits at characters a label may hold
        series, _, number = raw.rpartition(" ")
        place = _place(series) if len(series) < _REMEMBERED_CHARS else _find_place(series)
        if place is _BROKEN:  # or empty, or only written with more blanks than usual
            line = raw.strip()
            series, _, number = line.rpartition(" ")
            place = _COMMENT if not line or line.startswith("#") else _find_place(series.rstrip())
        if place is _COMMENT:
            continue
        try:
            value = float(number)
        except ValueError:
            corrupt += 1
            continue
        if place is _UNUSED:
            continue
        name, key = place
        if name and value >= 0:  # NaN is no count
            kept[name][key] = kept[name].get(key, 0.0) + value
        else:
            corrupt += 1
    return MetricsPage(kept[LOAD_ATTEMPTS], kept[REQUESTS], kept[LOAD_LATENCY], kept[QUEUED], corrupt)


def _find_place(series: str) -> Place:
    """Where a line's value goes, by the text before it: a counter's name here and its key, or one of the others."""
    if series.startswith("#"):
        return _COMMENT
    name = series.partition("{")[0]
    plain = name.removeprefix(":")
    labels = _KEPT.get(plain)
    if labels is None:
        well_formed = _NAME.fullmatch(name) and (len(name) == len(series) or series.endswith("}"))
        return _UNUSED if well_formed else _BROKEN
    match = _SERIES.fullmatch(series)
    if not match:
        return _BROKEN
    found = {key: _ESCAPE.sub(r"\1", text) for key, text in _ONE_LABEL.findall(match[2])}
    if any(label not in found for label in labels) or (plain == QUEUED and not _BOUND.fullmatch(found["le"])):
        return _BROKEN
    return plain, tuple(found[label] for label in labels)


# A server shows the same series at every scrape and its replicas show them too, so from the second page on a line
# costs one look-up. Bounded, since clients can make up names: about 40 MB when full.
_place = lru_cache(maxsize=200_000)(_find_place)


def load_path(model_path: str) -> LoadPath | None:
    """ "/models/m/003" as ("/models/m", 3); None when the last part is no version."""
    base, _, name = model_path.rstrip("/").rpartition("/")
    return LoadPath(base.rstrip("/"), int(name)) if _VERSION.fullmatch(name) else None


def loads(page: MetricsPage, status: str) -> dict[LoadPath, float]:
    """Load attempts that ended so ("success", "fail"), by version; "2" and "002" are one version."""
    found: dict[LoadPath, float] = {}
    for (model_path, how), count in page.load_attempts.items():
        if how == status and (path := load_path(model_path)):
            found[path] = found.get(path, 0.0) + count
    return found


def load_seconds(page: MetricsPage) -> dict[LoadPath, float]:
    """Mean seconds of an attempt to load, by version; only TensorFlow's part of it, without warm-up."""
    attempts: dict[LoadPath, float] = {}
    micros: dict[LoadPath, float] = {}
    for counts, sums in ((page.load_attempts, attempts), (page.load_micros, micros)):
        for (model_path, *_), count in counts.items():
            if path := load_path(model_path):
                sums[path] = sums.get(path, 0.0) + count
    return {path: micros[path] / 1e6 / count for path, count in attempts.items() if count and path in micros}


def models_seen(page: MetricsPage) -> frozenset[str]:
    """Names under which the process has answered a request well: models it serves, or has served.

    Names clients made up only ever fail, so they are not among them; a model
    nobody asked yet is not either (see `base_paths_seen`).
    """
    return frozenset(name for (name, status), count in page.requests.items() if status == "OK" and count and name)


def base_paths_seen(page: MetricsPage) -> frozenset[str]:
    """Base paths (without a last slash) from which the process has loaded some version."""
    return frozenset(path.base_path for path, count in loads(page, "success").items() if count)


def load_counters(page: str) -> LoadCounters:
    """What the watch over a server needs of its page: load attempts that ended, what they took, waits for a batch."""
    read = parse(page)
    attempts: dict[Directory, dict[str, float]] = {}
    for status in sorted({status for _, status in read.load_attempts}):
        for path, count in loads(read, status).items():
            attempts.setdefault(path, {})[status] = count
    took = {(path.base_path, path.version): seconds for path, seconds in load_seconds(read).items()}
    queued = {float(bound) / 1e6: count for (bound,), count in read.queued.items()}
    return LoadCounters(attempts, read.corrupt, took, queued)
