"""How long ago something on record was, by a clock that nobody sets.

Records carry wall-clock times, and a wall clock is set, or stands while a machine sleeps. A deadline that went by it
would pass by itself: a good version taken back, a bake left out. So the wall clock is asked once, for what was before
this process; from then on time is measured.
"""

import time
from collections.abc import Collection


class Stopwatch:
    """Times are wall-clock seconds, by which events are known. `at` is the time now."""

    def __init__(self) -> None:
        self._begun: dict[float, tuple[float, float]] = {}  # event -> (its age, measured time) when told first

    def follow(self, events: Collection[float], at: float, *, fresh: bool = False) -> None:
        """Go on measuring these, and no others. `fresh`: those not known yet are of this very moment."""
        now = time.monotonic()
        self._begun = {event: self._begun.get(event, (0.0 if fresh else max(0.0, at - event), now)) for event in events}

    def since(self, event: float) -> tuple[float, float]:
        """Seconds since one that is followed, and how many of them were measured here."""
        before, began = self._begun[event]
        measured = time.monotonic() - began
        return before + measured, measured
