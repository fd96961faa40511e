"""What looks and scrapes of one server left behind: a Memory, folded over both.

Pure. Owns: since when something holds on one server, and when it is forgotten.
Leaves to `judge.conditions` how long it must hold to be told, and to
`engine.observe` the looking.

Source of the states' meaning: TF Serving 2.20 core/servable_state.h and
recorded transcripts (broken_*, restart_*); a failed load is LOADING with code
OK while retries last. `load_attempt_count` shows a failed attempt before END;
an attempt that fails in warm-up it counts as a success, each time anew.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from haldane.domain.fleet import Availability, ModelName, ModelView, ReplicaView, VersionStatus
from haldane.judge.loads import Directory, LoadCounters, Loads, another_process, from_counters
from haldane.judge.unwanted import (
    Expected,
    Key,
    LabelKey,
    Spell,
    came_unasked,
    expects,
    labels_off,
    missing,
    spells,
    statuses,
    unapproved,
    wanted_labels,
    wanted_versions,
)

K = TypeVar("K")
Attempts = Mapping[Directory, Mapping[str, float]]  # by directory and "success" or "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long things may be odd before they are wrong, seconds."""

    load: float = 600.0  # LOADING; Serving's own retries take five minutes
    slow: float = 120.0  # LOADING without an attempt that ended, where other versions loaded much faster
    unseen: float = 120.0  # a rolling restart pages nobody
    dangling: float = 10.0
    unapproved: float = 60.0  # one that was wanted before: an unload waits for requests in flight
    upload: float = 60.0  # files that lack something and have not changed; a listing every 30 s shows it
    unserved: float = 120.0  # complete in storage, and a `latest` server does not even try; it polls every second
    drift: float = 60.0  # not as wanted, at once or again and again; converging takes a few looks
    rollback: float = 60.0  # a rollback under way
    failing: float = 60.0  # stable fails more than a baseline may
    linger: float = 300.0  # a failed load is told at least this long, though it was withdrawn at once


@dataclass(frozen=True, slots=True)
class Since:
    """Something that holds on one server: since when, and what is known of it."""

    at: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the looks and scrapes of one server left behind. Times are wall-clock seconds.

    `paths` are its models' base paths; `expected` the entries it should have,
    None where nobody decides that; `counters` what its process has counted,
    `before` what of that when the load under way began.
    """

    paths: Mapping[ModelName, str] = field(default_factory=dict)
    view: ReplicaView | None = None
    expected: Expected | None = None
    unseen: Since | None = None
    loading: Mapping[Key, Since] = field(default_factory=dict)
    failed: Mapping[Key, Since] = field(default_factory=dict)
    dangling: Mapping[tuple[ModelName, str], Since] = field(default_factory=dict)
    unapproved: Mapping[Key, Since] = field(default_factory=dict)
    intruding: Mapping[Key, Spell] = field(default_factory=dict)  # came without being wanted
    labels_off: Mapping[LabelKey, Spell] = field(default_factory=dict)
    missing: Mapping[Key, Spell] = field(default_factory=dict)
    incomplete: Mapping[Key, Since] = field(default_factory=dict)
    unserved: Mapping[Key, Since] = field(default_factory=dict)
    restarted: Since | None = None
    counters: LoadCounters = field(default_factory=lambda: LoadCounters({}))
    attempts_at_look: Attempts = field(default_factory=dict)
    before: Mapping[Key, Loads] = field(default_factory=dict)

    def attempts_failed(self, key: Key) -> float:
        """Failed attempts of the load under way, as far as counters show them."""
        return self.counted(key, self.counters.attempts).failures - self.before.get(key, Loads()).failures

    def attempts_repeated(self, key: Key) -> float:
        """Attempts of the load under way that read the model, and were followed by another all the same.

        Each name that shares the directory reads it once without anything being wrong.
        """
        now, then = self.counted(key, self.counters.attempts), self.before.get(key, Loads())
        path = self.paths.get(key[0], "").rstrip("/")
        names = sum(other.rstrip("/") == path for other in self.paths.values())
        return (now.requests - now.failures) - (then.requests - then.failures) - max(1, names)

    def usual_seconds(self, key: Key) -> float | None:
        """The longest that another version of this model took to load, if the load under way may be held against it.

        None where no other version was counted, and once an attempt has ended: what follows is warm-up, of any length.
        """
        if self.counted(key, self.counters.attempts).requests > self.before.get(key, Loads()).requests:
            return None
        path = self.paths.get(key[0], "").rstrip("/")
        took = (seconds for (base, other), seconds in self.counters.seconds.items() if base == path and other != key[1])
        return max(took, default=None)

    def counted(self, key: Key, attempts: Attempts) -> Loads:
        """What `attempts` says of that version's directory."""
        model, version = key
        return from_counters(attempts.get((self.paths.get(model, "").rstrip("/"), version), {}))


def looked(memory: Memory, view: ReplicaView | None, *, at: float, expected: Expected | None, bounds: Bounds) -> Memory:
    """The memory after a look; `view` None: the server could not be seen, so what was known stays.

    What is not as wanted is forgotten then: a server that restarts shows its own config for a while.
    """
    if view is None:
        return replace(memory, unseen=memory.unseen or Since(at), expected=expected, labels_off={}, missing={})
    loading = {key: s for key, s in statuses(view) if s.availability is Availability.LOADING}
    moving = {key for key, s in statuses(view) if s.availability in (Availability.START, Availability.LOADING)}
    after = replace(
        memory,
        view=view,
        expected=expected,
        unseen=None,
        loading=_since(memory.loading, loading, at),
        dangling=_since(memory.dangling, {*_dangling(view), *_emptied(memory, view)}, at),
        unapproved=_since(memory.unapproved, unapproved(view, expected), at),
        intruding=_intruding(memory, view, expected, at, bounds.linger),
        labels_off=spells(
            memory.labels_off, dict(labels_off(view, expected)), wanted_labels(expected), at, bounds.linger
        ),
        missing=spells(memory.missing, dict(missing(view, expected)), wanted_versions(expected), at, bounds.linger),
        before={key: _counted_before(memory, key) for key in moving},
        attempts_at_look=memory.counters.attempts,
    )
    return replace(after, failed=_failures(after, at, bounds))


def _counted_before(memory: Memory, key: Key) -> Loads:
    """What was counted when the load under way began.

    A load begun since the last look may have failed since then, so what was counted by then is what came
    before it. At the first look, all fails counted so far belong to the load seen under way; whether successes
    do cannot be told, so none does.
    """
    if key in memory.before:
        return memory.before[key]
    if memory.view is None:
        return Loads(math.inf, 0.0)
    return memory.counted(key, memory.attempts_at_look)


def counted(memory: Memory, counters: LoadCounters, *, at: float, bounds: Bounds) -> Memory:
    """The memory after a scrape; a new process counts from zero."""
    after = replace(memory, counters=counters)
    if another_process(memory.counters, counters):
        after = replace(after, before={}, attempts_at_look={}, restarted=Since(at), labels_off={}, missing={})
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


def _failures(memory: Memory, at: float, bounds: Bounds) -> Mapping[Key, Since]:
    """Which loads have failed and are not over: made good, superseded by a higher version, or no longer wanted."""
    if memory.view is None:
        return memory.failed
    now = dict(statuses(memory.view))
    kept = {}
    for key in {*now, *memory.failed}:
        status, known = now.get(key), memory.failed.get(key)
        if status and _made_good(status, memory.view.models[key[0]]):
            continue
        why = _failure(memory, key, status) if status and expects(memory.expected, key) else ""
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
    if status.availability is Availability.LOADING and memory.attempts_repeated(key) > 0:
        return "read more than once without becoming available: it fails after that, as in warm-up, and is retried"
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


def _intruding(
    memory: Memory, view: ReplicaView, expected: Expected | None, at: float, linger: float
) -> Mapping[Key, Spell]:
    kept = {
        key: spell for key, spell in memory.intruding.items() if at - spell.last < linger and not expects(expected, key)
    }
    if memory.view is None or memory.unseen:
        return kept
    return came_unasked(kept, memory.view, view, wanted=(memory.expected, expected), at=at)


def _since(before: Mapping[K, Since], now: Iterable[K], at: float) -> Mapping[K, Since]:
    return {key: before.get(key, Since(at)) for key in now}
