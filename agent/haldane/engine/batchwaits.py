"""How long calls wait for a batch on each server, as its own metrics page says, and when that is too long.

A server with `--enable_batching` keeps calls in a queue until a batch is full or
due. When that wait grows, users' calls wait with ours, before any of them is
slow enough to be seen. Read from what a histogram's buckets grew by between two
scrapes: its sum is printed with six digits only, and soon stands still.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from haldane.domain.fleet import ServerName

log = structlog.get_logger()

Queued = Mapping[float, float]  # calls that waited at most so many seconds for a batch, in all (cumulative)

_LEAST_CALLS = 8  # fewer between two scrapes say nothing
_SLOWDOWN, _SLACK_SECONDS = 3.0, 0.010  # as for stable's own latency
# The shortest wait ever seen grows by this share a second, so that a busier evening becomes normal in an hour.
_FORGET_PER_SECOND = 0.0005
# A server whose page cannot be read any more is shadowed again after so long: its latency and errors are still watched.
_BELIEVED_SECONDS = 60.0


def median_wait(before: Queued, now: Queued) -> float | None:
    """Seconds that half of the calls between two scrapes waited at most, to one bucket; None: too few calls.

    A count that fell is another process, which began from zero.
    """
    if any(now.get(bound, 0.0) < count for bound, count in before.items()):
        before = {}
    grown = [(bound, now[bound] - before.get(bound, 0.0)) for bound in sorted(now)]
    calls = grown[-1][1] if grown else 0.0
    if calls < _LEAST_CALLS:
        return None
    finite = [bound for bound, _ in grown if bound < math.inf]
    return next((bound for bound, count in grown if count >= calls / 2 and bound < math.inf), max(finite, default=0.0))


@dataclass(slots=True)
class _Server:
    queued: Queued | None = None  # None: nothing to compare with yet
    at: float = -math.inf
    best: float = math.inf
    crowded: bool = False


@dataclass
class BatchWaits:
    """Fed with each scrape; says which servers are too busy batching to be shadowed.

    `longest` is the median wait, in seconds, above which one is; None: three times
    its shortest one so far, and at least 10 ms more. `now` is monotonic, in seconds.
    """

    longest: float | None = None
    now: Callable[[], float] = time.monotonic
    _servers: dict[ServerName, _Server] = field(default_factory=dict)

    def on_scrape(self, server: ServerName, queued: Queued) -> None:
        """Of a server that does not batch `queued` is empty."""
        known, now = self._servers.setdefault(server, _Server()), self.now()
        wait = None if known.queued is None else median_wait(known.queued, queued)
        crowded = wait is not None and wait > self._bound(known)
        if crowded != known.crowded:
            log.info("batching_wait", server=server, median_seconds=wait, shadowed=not crowded)
        if wait is not None:
            forgotten = 1.0 + _FORGET_PER_SECOND * max(0.0, now - known.at) if known.best < math.inf else 1.0
            known.best = min(known.best * forgotten, wait)
        known.queued, known.at, known.crowded = queued, now, crowded

    def _bound(self, known: _Server) -> float:
        return max(known.best * _SLOWDOWN, known.best + _SLACK_SECONDS) if self.longest is None else self.longest

    def crowded(self, server: ServerName) -> bool:
        """Not to be shadowed now. Asked once for each pair."""
        known = self._servers.get(server)
        return known is not None and known.crowded and self.now() - known.at < _BELIEVED_SECONDS

    def drop(self, server: ServerName) -> None:
        """It has left the fleet."""
        self._servers.pop(server, None)
