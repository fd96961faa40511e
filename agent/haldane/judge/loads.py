"""How often a version was loaded and how often that failed, from status and load counters.

Serving has no such counter per version: its `load_attempt_count` misses loads
that end before TensorFlow is asked (no saved_model.pb), and status misses the
retries within one load. Each tells a lower bound, so the larger one counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from haldane.domain.fleet import Availability, VersionStatus

Directory = tuple[str, int]  # base path without a last slash, version


class LoadCounters(NamedTuple):
    """One scrape: load attempts that ended, by directory and "success" or "fail"; lines that could not be read.

    `seconds`: how long an attempt took on average, without warm-up. `queued`: of the calls there,
    those that waited at most so many seconds for a batch; empty where nothing is batched.
    """

    attempts: Mapping[Directory, Mapping[str, float]]
    corrupt: int = 0
    seconds: Mapping[Directory, float] = {}
    queued: Mapping[float, float] = {}


_BEGUN = frozenset(Availability) - {Availability.START}


@dataclass(frozen=True, slots=True)
class Loads:
    """Load attempts, and those that failed. Adds up; never negative."""

    requests: float = 0.0
    failures: float = 0.0

    def __add__(self, other: "Loads") -> "Loads":
        return Loads(self.requests + other.requests, self.failures + other.failures)

    def __sub__(self, other: "Loads") -> "Loads":
        return Loads(self.requests - other.requests, self.failures - other.failures)


@dataclass(frozen=True, slots=True)
class Tally:
    """One version on one server: what status showed, and what counters showed."""

    by_status: Loads = field(default_factory=Loads)
    by_counter: Loads = field(default_factory=Loads)

    @property
    def total(self) -> Loads:
        return Loads(
            max(self.by_status.requests, self.by_counter.requests),
            max(self.by_status.failures, self.by_counter.failures),
        )


def between(before: VersionStatus | None, after: VersionStatus | None) -> Loads:
    """The loads that must have happened between two looks at a version.

    A state other than START that was not reached from a load under way is a
    load of its own; END seen twice is the same end.
    """
    if after is None or after.availability not in _BEGUN or after == before:
        return Loads()
    under_way = before is not None and before.availability in (Availability.LOADING, Availability.AVAILABLE)
    ending = before is not None and before.availability is Availability.UNLOADING
    same_load = (under_way and not _starts_again(before, after)) or (ending and after.availability is Availability.END)
    both_ended = before is not None and before.availability is after.availability is Availability.END
    return Loads(0.0 if same_load or both_ended else 1.0, 1.0 if after.failed and not both_ended else 0.0)


def _starts_again(before: VersionStatus | None, after: VersionStatus) -> bool:
    return (
        before is not None
        and before.availability is Availability.AVAILABLE
        and after.availability is Availability.LOADING
    )


def grown(before: LoadCounters, after: LoadCounters) -> dict[Directory, Loads]:
    """The loads between two scrapes; a new process began from zero."""
    old = {} if another_process(before, after) else before.attempts
    return {directory: _grown(old.get(directory, {}), now) for directory, now in after.attempts.items()}


def _grown(before: Mapping[str, float], now: Mapping[str, float]) -> Loads:
    return from_counters({status: count - before.get(status, 0.0) for status, count in now.items()})


def another_process(before: LoadCounters, after: LoadCounters) -> bool:
    """Whether a new process counts: a count fell, or as many attempts as before took another time."""
    return any(
        any(now.get(status, 0.0) < count for status, count in counts.items())
        or (now == counts and before.seconds.get(directory) != after.seconds.get(directory))
        for directory, counts in before.attempts.items()
        for now in (after.attempts.get(directory, {}),)
    )


def from_counters(increases: Mapping[str, float]) -> Loads:
    """Loads from what `load_attempt_count` grew by, per status ("success", "fail")."""
    failed = increases.get("fail", 0.0)
    return Loads(increases.get("success", 0.0) + failed, failed)
