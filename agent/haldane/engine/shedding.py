"""How much one server may be shadowed right now: a pace, and a loop closed on stable's own health.

Pure but for the time that is passed in (loop time, seconds). A shadow call is
worth nothing when it slows a user's: the moment stable is slow or failing, or
the server is too busy (`batchwaits`), this goes to zero, and it returns slowly.
"""

from collections import deque
from dataclasses import dataclass, field
from statistics import median

# Stable's recent speed is the median of what came back in the last half second, but of at least
# eight calls: a single collection pause is no slowdown.
_RECENT_SECONDS = 0.5
_LEAST_READINGS = 8
_STALE_SECONDS = 10.0
_LOOK_EVERY_SECONDS = 0.05
_ERROR_SHARE = 0.2
_LEAST_ERRORS = 3
# The best median ever seen grows by this share a second, so that a slower evening becomes normal in an hour.
_FORGET_PER_SECOND = 0.0005
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 30.0
_RETURN_LEVEL, _RETURN_GROWTH_PER_SECOND = 0.05, 1.5


class Pace:
    """Turns at an even rate, with at most a twentieth of a second's worth saved up."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1.0 / per_second
        self._burst = max(0.05, self._interval)
        self._next = float("-inf")

    def wait_seconds(self, now: float) -> float:
        """Take the next turn: how long to wait for it."""
        due, earliest = self._next + self._interval, now - self._burst
        self._next = due if due > earliest else earliest  # for each turn, where max() costs four times as much
        return self._next - now if self._next > now else 0.0


@dataclass(slots=True)
class Throttle:
    """The share of turns used, from stable's latency and errors on one server."""

    slowdown: float  # shed when the recent median exceeds the best one times this
    slack_seconds: float  # and by more than this
    level: float = 1.0
    shed_for: str = ""  # why it is below full: "slow", "errors", "batching" or ""
    _readings: deque[tuple[float, float, bool]] = field(default_factory=lambda: deque(maxlen=256))
    _best: float = float("inf")
    _looked: float = float("-inf")
    _closed_until: float = float("-inf")
    _pause: float = _FIRST_PAUSE_SECONDS
    _credit: float = 1.0

    def note(self, now: float, *, seconds: float, failed: bool) -> None:
        """Stable answered, or failed by its own fault or the server's, after so long."""
        if now < self._closed_until:
            return  # sent before the shedding: it would be shed for twice
        self._readings.append((now, seconds, failed))
        if now - self._looked >= _LOOK_EVERY_SECONDS:
            self._look(now)

    def turn(self, now: float, *, crowded: bool = False) -> str | None:
        """Use this turn (None), or leave it out because of this. `crowded`: calls wait too long for a batch there."""
        if crowded:
            self.shed_for, self.level, self._credit = "batching", _RETURN_LEVEL, 1.0
            return self.shed_for
        if now < self._closed_until:
            return self.shed_for
        self._credit += self.level
        if self._credit < 1.0:
            return self.shed_for
        self._credit -= 1.0
        return None

    def _look(self, now: float) -> None:
        elapsed = now - self._looked
        self._looked = now
        recent = self._recent(now)
        enough = len(recent) >= _LEAST_READINGS
        errors = sum(failed for _, _, failed in recent)
        speed = median(seconds for _, seconds, _ in recent)
        if enough and errors >= _LEAST_ERRORS and errors >= _ERROR_SHARE * len(recent):
            self._shed(now, "errors")
        elif enough and speed > self._best * self.slowdown and speed > self._best + self.slack_seconds:
            self._shed(now, "slow")
        elif enough or not errors:  # a few good answers are enough to return on: at a low rate more never come
            if elapsed < _STALE_SECONDS:
                self._best *= 1.0 + _FORGET_PER_SECOND * elapsed
                self._return(elapsed)
            if enough:
                self._best = min(self._best, speed)

    def _recent(self, now: float) -> list[tuple[float, float, bool]]:
        fresh = [reading for reading in self._readings if now - reading[0] <= _RECENT_SECONDS]
        if len(fresh) >= _LEAST_READINGS:
            return fresh
        return [reading for reading in list(self._readings)[-_LEAST_READINGS:] if now - reading[0] <= _STALE_SECONDS]

    def _shed(self, now: float, reason: str) -> None:
        """To zero at once; each time in a row for longer."""
        self.shed_for, self.level, self._credit = reason, _RETURN_LEVEL, 1.0
        self._closed_until = now + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        self._readings.clear()

    def _return(self, elapsed: float) -> None:
        self.level = min(1.0, self.level * _RETURN_GROWTH_PER_SECOND**elapsed)
        if self.level >= 1.0:
            self.shed_for, self._pause = "", _FIRST_PAUSE_SECONDS
