"""Pairs back from the wire, made into Batches: scored many at once, in order of sending.

What a pair costs here is paid for every request that is shadowed, so nothing is
done pair by pair that can be done column by column.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np

from haldane.domain.traffic import PAIR_DTYPE, Batch, Request, Status, empty_batch
from haldane.judge.outputs import Scored, Scores
from haldane.judge.rules import Slice
from haldane.judge.slices import membership

Score = Callable[[Sequence[Request], Sequence[bytes | None], Sequence[bytes | None]], Scored]

# Keeps the answers of a pair whose truth is not known yet: its seq, its request, stable's and canary's.
Keep = Callable[[int, Request, bytes | None, bytes | None], None]

# Answers larger than this together are scored in a worker thread.
_BYTES_IN_LOOP = 1 << 20
# Answers waiting to be scored: beyond either, senders wait.
_MOST_WAITING_PAIRS, _MOST_WAITING_BYTES = 4096, 64 << 20


class Back(NamedTuple):
    """Both sides of one request, back from the wire; the columns of a Batch, but for what is scored."""

    seq: int
    at: float
    server: int
    aa: bool
    canary_first: bool
    masked: bool
    request: Request
    stable_status: Status
    stable_seconds: float
    stable_answer: bytes | None
    canary_status: Status
    canary_seconds: float
    canary_answer: bytes | None


class Batches:
    """Pairs from `add` on until they are handed on: what waits to be scored, and what waits for its turn."""

    def __init__(
        self,
        *,
        portion: int,
        score: Score,
        keep: Keep | None,
        slices: Sequence[Slice],
    ) -> None:
        """`portion`: pairs scored in one go."""
        self._portion = portion
        self._score, self._keep, self._slices = score, keep, slices
        self._back: list[Back] = []  # not scored
        self._bytes = 0
        self._scored: list[Batch] = []  # but an earlier pair may be out
        self.room = asyncio.Event()  # set whenever what waited has been scored

    def __len__(self) -> int:
        """Pairs that wait for anything."""
        return len(self._back) + sum(map(len, self._scored))

    @property
    def full(self) -> bool:
        """Senders must wait for `room`."""
        return len(self._back) >= _MOST_WAITING_PAIRS or self._bytes >= _MOST_WAITING_BYTES

    def add(self, pair: Back) -> bool:
        """True when it is time to score."""
        self._back.append(pair)
        self._bytes += len(pair.stable_answer or b"") + len(pair.canary_answer or b"")
        return len(self._back) >= self._portion or self.full

    async def score(self) -> None:
        """Turn what came back so far into rows; large answers in a worker thread."""
        back, size = self._back, self._bytes
        self._back, self._bytes = [], 0
        self.room.set()
        for start in range(0, len(back), self._portion):
            some = back[start : start + self._portion]
            rows = await asyncio.to_thread(self._as_rows, some) if size > _BYTES_IN_LOOP else self._as_rows(some)
            self._scored.append(rows)

    def border(self, out: int) -> int:
        """The first seq that is not scored yet, where `out` is the first that is still out."""
        return min([out, *(pair.seq for pair in self._back)])

    def take(self, border: int) -> Batch:
        """The scored rows before `border`, in order of sending."""
        rows = np.concatenate([empty_batch(), *self._scored])
        rows = rows[np.argsort(rows["seq"], kind="stable")]
        at = int(np.searchsorted(rows["seq"], border))
        self._scored = [rows[at:]] if at < len(rows) else []
        return rows[:at]

    def put_back(self, rows: Batch) -> None:
        """It was too early for these."""
        self._scored.append(rows)

    def _as_rows(self, some: Sequence[Back]) -> Batch:
        """(n,) rows, `fresh` still open."""
        column = Back(*zip(*some, strict=True))  # type: ignore[arg-type]  # of tuples, one for each field
        requests: Sequence[Request] = column.request  # type: ignore[assignment]
        scored = self._score(requests, column.stable_answer, column.canary_answer)  # type: ignore[arg-type]
        rows = np.zeros(len(some), PAIR_DTYPE)
        for name in ("seq", "at", "server", "aa", "canary_first", "masked", "stable_seconds", "canary_seconds"):
            rows[name] = getattr(column, name)
        rows["row"] = [request.row for request in requests]
        rows["request"] = [request.key for request in requests]
        if self._slices:
            rows["slices"] = [membership(request.fields, self._slices) for request in requests]
        rows["stable_status"] = np.where(scored.stable_unreadable, Status.MALFORMED, column.stable_status)
        rows["canary_status"] = np.where(scored.canary_unreadable, Status.MALFORMED, column.canary_status)
        for score in fields(Scores):
            rows[score.name] = getattr(scored.scores, score.name)
        if self._keep is not None:
            for pair in some:
                if pair.request.truth is None and not pair.aa:
                    self._keep(pair.seq, pair.request, pair.stable_answer, pair.canary_answer)
        return rows
