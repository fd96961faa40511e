"""Pairs of several senders in one order: what each reported, and how far all of them have come.

Every pair carries the time of its sending as its number, so the merged order is
that of sending, as it is with one sender: a pair is handed on only when no
earlier one can still come, or slow answers would be judged later than quick ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from haldane.domain.fleet import ServerName
from haldane.domain.traffic import Api, Batch, Status, empty_batch
from haldane.engine.addressing import Addressing

# Clocks of senders begin when their order reaches them, so they may be late by so much.
_SLACK_SECONDS = 0.5
_WINDOWS_KEPT = 100


class KeptAnswers(NamedTuple):
    """Of a pair whose truth is not known yet, by its sender's number."""

    number: int
    api: Api
    stable: bytes | None
    canary: bytes | None


class Told(NamedTuple):
    """What a sender is told whenever it is asked."""

    address: Addressing
    stopped: frozenset[ServerName]  # servers that may not be shadowed any more
    crowded: frozenset[ServerName]  # servers that have too much to do just now
    ended: bool  # send nothing more; report what is out when it is back


class Report(NamedTuple):
    """What a sender has since its last report. Counts are totals of its whole run."""

    rows: Batch
    kept: Sequence[KeptAnswers]
    done: int  # every pair below that number was reported, or never will be
    sent: int
    counts: Mapping[str, Mapping[str, int]]  # set_aside, dropped or shed -> reason -> pairs (shed: turns)
    stopped: frozenset[ServerName]
    flaws: Mapping[str, int]  # records of the source that are no request, by reason
    over: bool
    failure: tuple[str, str, str] | None = None  # of the PortError that ended it: reason, target, detail


class Windows:
    """Spans of time, in seconds of judging, in which something was not as usual."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    def add(self, since: float, until: float) -> None:
        if self._spans and self._spans[-1][1] >= since:
            self._spans[-1] = (self._spans[-1][0], max(until, self._spans[-1][1]))
        else:
            self._spans = [*self._spans[-_WINDOWS_KEPT:], (since, until)]

    def touched(self, rows: Batch) -> NDArray[np.bool_]:
        """(n,): pairs that were out during one of them, as far as clocks can tell."""
        found = np.zeros(len(rows), bool)
        took = np.maximum(rows["stable_seconds"], rows["canary_seconds"])
        for since, until in self._spans:
            found |= (rows["at"] + _SLACK_SECONDS >= since) & (rows["at"] - took - _SLACK_SECONDS <= until)
        return found


class Link:
    """One sender, as far as its reports tell. `began`: when it was started, seconds of judging."""

    def __init__(self, name: str, index: int, address: Addressing, began: float) -> None:
        self.name, self.index = name, index
        self.over = self.unreachable = False
        self.failure: tuple[str, str, str] | None = None
        self.rows: list[Batch] = []  # reported, but an earlier pair may come from another sender
        self.kept: dict[int, KeptAnswers] = {}
        self.done = 0
        self.sent = self.received = 0
        self.counts: Mapping[str, Mapping[str, int]] = {}
        self._knew, self._asked = address, began
        self._moves = Windows()

    def heard(self, told: Told, now: Addressing, asked: float, answered: float) -> None:
        """It was told that when it was asked: until it knew, it may have used an address that was right no more."""
        if not self._knew == told.address == now:
            self._moves.add(self._asked, answered)
        self._knew, self._asked = told.address, asked

    def straddles(self, rows: Batch) -> NDArray[np.bool_]:
        """(n,): a side failed, which names no version, and its address may have moved meanwhile."""
        failed: NDArray[np.bool_] = (rows["stable_status"] != Status.OK) | (rows["canary_status"] != Status.OK)
        return failed & self._moves.touched(rows) if failed.any() else failed

    @property
    def unheard(self) -> int:
        """Pairs that it had sent at its last report, and that nothing is known of."""
        ended = sum(sum(self.counts.get(what, {}).values()) for what in ("set_aside", "dropped"))
        repeats = self.counts.get("set_aside", {}).get("duplicate", 0)  # never sent
        return self.sent - self.received - ended + repeats


def ready(links: Sequence[Link], next_seq: int, keep: Callable[[int, KeptAnswers], None]) -> Batch:
    """(n,) The pairs that no earlier one can come before any more, numbered on from `next_seq`.

    `keep` is handed the answers kept of them, with their new number.
    """
    border = min((link.done for link in links if not link.over), default=None)
    parts, senders = [empty_batch()], [np.empty(0, int)]
    for place, link in enumerate(links):
        rows = np.concatenate([empty_batch(), *link.rows])
        at = len(rows) if border is None else int(np.searchsorted(rows["seq"], border))
        link.rows = [rows[at:]] if at < len(rows) else []
        parts.append(rows[:at])
        senders.append(np.full(at, place))
    rows, sender = np.concatenate(parts), np.concatenate(senders)
    order = np.lexsort((sender, rows["seq"]))
    rows, sender = rows[order], sender[order]
    numbers, rows["seq"] = rows["seq"].tolist(), np.arange(next_seq, next_seq + len(rows))
    if any(link.kept for link in links):
        for place, (old, at) in enumerate(zip(numbers, sender.tolist(), strict=True)):
            if (kept := links[at].kept.pop(old, None)) is not None:
                keep(next_seq + place, kept)
    return rows
