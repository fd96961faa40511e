"""Successive views and load counters → Conditions: what a person should know.

Pure: a Memory per server is folded over looks and scrapes, and Conditions are
read from all memories together, so that a version that fails on sixty servers
is one Condition. Owns: when something is wrong, since when, and when it is
over. Leaves telling to `engine.observe` and the alert sinks.

Source of the states' meaning: TF Serving 2.20 core/servable_state.h and
recorded transcripts (broken_*, restart_*); a failed load is LOADING with code
OK while retries last, and only `load_attempt_count` shows it before END.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

from haldane.domain.fleet import Availability, Condition, ModelName, ModelView, ReplicaView, ServerName, VersionStatus
from haldane.judge.loads import Directory

K = TypeVar("K")
Key = tuple[ModelName, int]
Expected = Mapping[ModelName, frozenset[int]]


class Name(StrEnum):
    """The closed set of condition names; each is an alert and has a runbook."""

    FAILED_LOAD = "failed_load"
    LOAD_STUCK = "load_stuck"
    LABEL_DANGLING = "label_dangling"
    SERVER_UNSEEN = "server_unseen"
    UNAPPROVED_VERSION = "unapproved_version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long things may be odd before they are wrong, seconds."""

    load: float = 600.0  # LOADING; Serving's own retries take five minutes
    unseen: float = 120.0  # a rolling restart pages nobody
    dangling: float = 10.0
    unapproved: float = 60.0  # an unload waits for requests in flight
    linger: float = 300.0  # a failed load is told at least this long, though it was withdrawn at once


@dataclass(frozen=True, slots=True)
class Since:
    """Something that holds on one server: since when, and what is known of it."""

    at: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the looks and scrapes of one server left behind. Times are wall-clock seconds.

    `paths` are its models' base paths; `expected` the versions that should be
    loaded, None where nobody decides that; `fails` the failed attempts its
    process has counted, `fails_before` that count when the load under way began.
    """

    paths: Mapping[ModelName, str] = field(default_factory=dict)
    view: ReplicaView | None = None
    expected: Expected | None = None
    unseen: Since | None = None
    loading: Mapping[Key, Since] = field(default_factory=dict)
    failed: Mapping[Key, Since] = field(default_factory=dict)
    dangling: Mapping[tuple[ModelName, str], Since] = field(default_factory=dict)
    unapproved: Mapping[Key, Since] = field(default_factory=dict)
    fails: Mapping[Directory, float] = field(default_factory=dict)
    fails_at_look: Mapping[Directory, float] = field(default_factory=dict)
    fails_before: Mapping[Key, float] = field(default_factory=dict)

    def attempts_failed(self, key: Key) -> float:
        """Failed attempts of the load under way, as far as counters show them."""
        return self.fails_of(key, self.fails) - self.fails_before.get(key, 0.0)

    def fails_of(self, key: Key, fails: Mapping[Directory, float]) -> float:
        """The count of that version's directory among `fails`."""
        model, version = key
        return fails.get((self.paths.get(model, "").rstrip("/"), version), 0.0)

    def expects(self, key: Key) -> bool:
        """False only when it is known that this version should not be there."""
        model, version = key
        return self.expected is None or model not in self.expected or version in self.expected[model]


def looked(memory: Memory, view: ReplicaView | None, *, at: float, expected: Expected | None, bounds: Bounds) -> Memory:
    """The memory after a look; `view` None: the server could not be seen, so what was known stays."""
    if view is None:
        return replace(memory, unseen=memory.unseen or Since(at), expected=expected)
    loading = {key: s for key, s in _statuses(view) if s.availability is Availability.LOADING}
    moving = {key for key, s in _statuses(view) if s.availability in (Availability.START, Availability.LOADING)}
    begun = moving - memory.fails_before.keys()
    before = {key: memory.fails_before.get(key, 0.0) for key in moving}
    # A load begun since the last look may have failed since then, so what was counted by then is what came
    # before it. At the first look, all fails counted so far belong to the load seen under way.
    if memory.view is not None:
        before |= {key: memory.fails_of(key, memory.fails_at_look) for key in begun}
    after = replace(
        memory,
        view=view,
        expected=expected,
        unseen=None,
        loading=_since(memory.loading, loading, at),
        dangling=_since(memory.dangling, {*_dangling(view), *_emptied(memory, view)}, at),
        unapproved=_since(memory.unapproved, _unapproved(view, expected), at),
        fails_before=before,
        fails_at_look=memory.fails,
    )
    return replace(after, failed=_failures(after, at, bounds))


def counted(memory: Memory, fails: Mapping[Directory, float], *, at: float, bounds: Bounds) -> Memory:
    """The memory after a scrape; a count that went back is that of a new process and starts from zero."""
    restarted = any(fails.get(directory, 0.0) < count for directory, count in memory.fails.items())
    after = replace(memory, fails=dict(fails))
    if restarted:
        after = replace(after, fails_before={}, fails_at_look={})
    return replace(after, failed=_failures(after, at, bounds))


def learned(paths: Mapping[ModelName, str], directories: Iterable[Directory]) -> Mapping[ModelName, str]:
    """The models' base paths, those not known filled in where one loaded path ends in the model's name."""
    if all(paths.values()):
        return paths
    loaded = {base for base, _ in directories}

    def guess(model: ModelName) -> str:
        alike = [base for base in loaded if base.rpartition("/")[2] == model]
        return alike[0] if len(alike) == 1 else ""

    return {model: path or guess(model) for model, path in paths.items()}


def conditions(
    memories: Mapping[ServerName, Memory],
    *,
    at: float,
    bounds: Bounds = Bounds(),
) -> tuple[Condition, ...]:
    """Everything wrong now, one Condition per model version, oldest first."""
    found: dict[tuple[str, str, int | None], Condition] = {}
    for server, memory in sorted(memories.items()):
        for one in _of_server(server, memory, at, bounds):
            key = (one.name, one.model, one.version)
            found[key] = _joined(found[key], one) if key in found else one
    return tuple(sorted(found.values(), key=lambda one: (one.since, one.name, one.model)))


def _joined(first: Condition, other: Condition) -> Condition:
    servers = tuple(sorted({*first.servers, *other.servers}))
    more = "" if other.detail in first.detail or len(first.detail) > 500 else f"; {other.servers[0]}: {other.detail}"
    return replace(first, servers=servers, since=min(first.since, other.since), detail=first.detail + more)


def _of_server(server: ServerName, memory: Memory, at: float, bounds: Bounds) -> Iterable[Condition]:
    def say(name: Name, model: str, version: int | None, detail: str, since: float) -> Condition:
        return Condition(name, model, version, (server,), detail, since)

    if memory.unseen and at - memory.unseen.at >= bounds.unseen:
        yield say(Name.SERVER_UNSEEN, "", None, "does not answer status calls", memory.unseen.at)
    for (model, version), since in memory.failed.items():
        yield say(Name.FAILED_LOAD, _first_name(memory, model, memory.failed, version), version, since.detail, since.at)
    for (model, version), since in memory.loading.items():
        if at - since.at >= bounds.load and (model, version) not in memory.failed:
            name = _first_name(memory, model, memory.loading, version)
            yield say(Name.LOAD_STUCK, name, version, "LOADING without an end; retries show no error", since.at)
    for (model, label), since in memory.dangling.items():
        if at - since.at >= bounds.dangling:
            detail = f"label {label} names a version that is not loaded; requests with it get NOT_FOUND"
            yield say(Name.LABEL_DANGLING, model, None, detail, since.at)
    for (model, version), since in memory.unapproved.items():
        if at - since.at >= bounds.unapproved:
            yield say(Name.UNAPPROVED_VERSION, model, version, "is loaded, but nothing here asked for it", since.at)


def _first_name(memory: Memory, model: ModelName, among: Iterable[Key], version: int) -> str:
    """One name for a directory that several models share, so that its failure is told once."""
    path = memory.paths.get(model, "").rstrip("/")
    if not path:
        return model
    return min(
        (name for name, other in among if other == version and memory.paths.get(name, "").rstrip("/") == path),
        default=model,
    )


# --- what holds on one server -----------------------------------------------------------------------------------------


def _statuses(view: ReplicaView) -> Iterable[tuple[Key, VersionStatus]]:
    return (((model, status.version), status) for model, seen in view.models.items() for status in seen.versions)


def _failures(memory: Memory, at: float, bounds: Bounds) -> Mapping[Key, Since]:
    """Which loads have failed and are not over: made good, superseded by a higher version, or no longer wanted."""
    if memory.view is None:
        return memory.failed
    now = dict(_statuses(memory.view))
    kept = {}
    for key in {*now, *memory.failed}:
        status, known = now.get(key), memory.failed.get(key)
        if status and _made_good(status, memory.view.models[key[0]]):
            continue
        why = _failure(memory, key, status) if status and memory.expects(key) else ""
        if why:
            kept[key] = Since(known.at if known else at, why)
        elif known and at - known.at < bounds.linger:
            kept[key] = known
    return dict(sorted(kept.items()))


def _made_good(status: VersionStatus, seen: ModelView) -> bool:
    return status.availability is Availability.AVAILABLE or any(v > status.version for v in seen.loaded)


def _failure(memory: Memory, key: Key, status: VersionStatus) -> str:
    """Why this version counts as failed, or ""."""
    if status.failed:
        return f"{status.error_code}: {status.error_message.strip() or 'no message'}"
    if status.availability in (Availability.START, Availability.LOADING) and memory.attempts_failed(key) > 0:
        return f"{memory.attempts_failed(key):.0f} failed load attempts, being retried"
    return ""


def _emptied(memory: Memory, view: ReplicaView) -> set[tuple[ModelName, str]]:
    """Labels that were taken away because nothing is left to name: the model serves no version any more."""
    had = (
        {(name, label) for name, model in memory.view.models.items() for label in model.labels}
        if memory.view
        else set()
    )
    bare = {name for name, model in view.models.items() if not model.loaded and not model.labels}
    return {(name, label) for name, label in had | memory.dangling.keys() if name in bare}


def _dangling(view: ReplicaView) -> Iterable[tuple[ModelName, str]]:
    return (
        (model, label)
        for model, seen in view.models.items()
        for label, version in seen.labels.items()
        if version is None
    )


def _unapproved(view: ReplicaView, expected: Expected | None) -> Iterable[Key]:
    for model, seen in view.models.items():
        if expected is not None and model in expected:
            yield from ((model, version) for version in seen.loaded if version not in expected[model])


def _since(before: Mapping[K, Since], now: Iterable[K], at: float) -> Mapping[K, Since]:
    return {key: before.get(key, Since(at)) for key in now}
