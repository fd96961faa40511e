"""The shadow loop: Requests in, Batches of pairs out, within strict limits.

Each Request goes to stable and canary of one server together, in random order.
A pair counts only when the versions that answered are the ones it was meant
for; any other is set aside and counted by reason. Never retried. What the
numbers of a pair mean is the scorer's affair, what they prove the judge's.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import structlog

from haldane.domain.fleet import Clients, ServerName
from haldane.domain.rollout import Mode, Phase, Rollout
from haldane.domain.traffic import PAIR_DTYPE, Batch, Outcome, Request, Status, empty_batch, some_answer
from haldane.engine.shedding import Pace, Throttle
from haldane.judge.outputs import Scored, Scores
from haldane.judge.rules import Slice
from haldane.judge.slices import membership
from haldane.ports import ModelServer, TrafficSource
from haldane.telemetry import Telemetry

log = structlog.get_logger()

Score = Callable[[Sequence[Request], Sequence[bytes | None], Sequence[bytes | None]], Scored]

# Keeps the answers of a pair whose truth is not known yet: its seq, its request, stable's and canary's.
Keep = Callable[[int, Request, bytes | None, bytes | None], None]

# Pairs scored in one go: enough to make numpy worth it, few enough not to hold up the loop.
_SCORED_AT_ONCE = 64
# Answers larger than this together are scored in a worker thread.
_BYTES_IN_LOOP = 1 << 20
# Answers waiting to be scored: beyond either, senders wait.
_MOST_WAITING_PAIRS, _MOST_WAITING_BYTES = 4096, 64 << 20
# Ids remembered to find duplicates in a stream.
_IDS_KEPT = 50_000


@dataclass(frozen=True, slots=True)
class Addressing:
    """How the two sides are named in a request: by version number (int) or label (str)."""

    stable: int | str
    canary: int | str


def addressing(rollout: Rollout) -> Addressing:
    """By label while SHADOWING, as users do; by number from the first flip on, when a label may move under a pair.

    In observe mode nobody has set a canary label for us, so always by number; and a first version has no
    stable beside it, so both sides ask for it.
    """
    untouched = not rollout.promoted and Phase.SHADOWING in (rollout.phase, rollout.held_from)
    if rollout.mode is Mode.ENFORCE and rollout.clients is Clients.LABEL and untouched and not rollout.first:
        return Addressing("stable", "canary")
    return Addressing(rollout.old, rollout.new)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowLimits:
    """How hard servers may be shadowed, and in what portions pairs are handed on."""

    pairs_per_second: float = 50.0  # over all servers, evenly
    concurrency: int = 4  # pairs in flight per server
    deadline_seconds: float = 5.0  # for each side
    aa_share: float = 0.1  # of pairs with stable on both sides
    batch_pairs: int = 100
    batch_seconds: float = 1.0
    slowdown: float = 3.0  # shed when stable's median exceeds its best one times this
    slack_seconds: float = 0.010  # and by more than this


@dataclass(slots=True)
class _Lane:
    """One server: its pace, its throttle, and whether shadowing it has stopped for good."""

    name: ServerName
    index: int
    server: ModelServer
    pace: Pace
    throttle: Throttle
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both sides of one request, back from the wire."""

    seq: int
    at: float
    lane: _Lane
    request: Request
    aa: bool
    canary_first: bool
    masked: bool
    stable: Outcome
    canary: Outcome

    @property
    def size(self) -> int:
        return len(self.stable.answer or b"") + len(self.canary.answer or b"")


def set_aside_because(
    stable: Outcome, canary: Outcome, expected: tuple[int, int], known: tuple[int, int], *, moved: bool
) -> str | None:
    """Why this pair proves nothing, or None when it counts.

    `known` are the rollout's versions; `moved` says that the addressing changed
    while it was out. A side that failed names no version: it counts only as
    long as its address cannot have moved.
    """
    sides = stable, canary
    if any(side.status is Status.EXHAUSTED for side in sides):
        return "exhausted"
    if all(side.status is Status.INVALID for side in sides):
        return "invalid"
    if any(side.status is Status.NOT_FOUND for side in sides):
        return "not_found"
    if not all(math.isfinite(side.seconds) and side.seconds >= 0 for side in sides):
        return "bad_timing"
    for side, version in zip(sides, expected, strict=True):
        if side.status is Status.OK and side.version != version:
            return "straddled" if side.version in known else "wrong_version"
        if side.status is not Status.OK and moved:
            return "straddled"
    return None


async def pairs(
    *,
    rollout: Rollout,
    servers: Mapping[ServerName, ModelServer],
    source: TrafficSource,
    limits: ShadowLimits,
    score: Score,
    address: Callable[[], Addressing],
    masked: Callable[[ServerName], bool],
    next_seq: int,
    judged_rows: set[int],
    elapsed: Callable[[], float],
    telemetry: Telemetry,
    stopped: set[ServerName] | None = None,
    keep: Keep | None = None,
    slices: Sequence[Slice] = (),
    switched: Callable[[ServerName], bool] = lambda _: False,
    finished: Callable[[Request], None] = lambda _: None,
) -> AsyncGenerator[Batch, None]:
    """Batches of counted pairs, ascending in `seq`, until the source ends or every server was stopped.

    A batch is handed on when `batch_pairs` are complete, or after `batch_seconds`. `judged_rows`
    are the rows that fed output metrics before (a pair that is not A/A); it is added to. Close
    it with `contextlib.aclosing`: calls in flight are cancelled then. Raises what the source raises.
    `stopped` are servers not to be shadowed any more; those that run out of threads are added to
    it, so that a later run leaves them alone too. `keep` is handed the answers of each pair whose truth
    is not known, before its batch, maybe from another thread. `slices` are those of the rollout's rules.
    `finished` is told of each request whose pair is back or was set aside.
    `switched` is asked once for each pair sent: whether it must be A/A, whatever chance says.
    """
    stopped = set() if stopped is None else stopped
    shadow = _Shadow(
        rollout,
        servers,
        source,
        limits,
        score,
        address,
        masked,
        next_seq,
        judged_rows,
        elapsed,
        telemetry,
        stopped,
        keep,
        slices,
        switched,
        finished,
    )
    tasks = shadow.start()
    try:
        async for batch in shadow.batches(tasks):
            yield batch
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Shadow:
    """The state of one run of `pairs`: what is in flight, what waits to be scored, what waits for its turn."""

    def __init__(
        self,
        rollout: Rollout,
        servers: Mapping[ServerName, ModelServer],
        source: TrafficSource,
        limits: ShadowLimits,
        score: Score,
        address: Callable[[], Addressing],
        masked: Callable[[ServerName], bool],
        next_seq: int,
        judged_rows: set[int],
        elapsed: Callable[[], float],
        telemetry: Telemetry,
        stopped: set[ServerName],
        keep: Keep | None,
        slices: Sequence[Slice],
        switched: Callable[[ServerName], bool],
        finished: Callable[[Request], None],
    ) -> None:
        self._rollout, self._source, self._limits, self._score = rollout, source, limits, score
        self._address, self._masked, self._elapsed, self._telemetry = address, masked, elapsed, telemetry
        rate = limits.pairs_per_second / max(1, len(servers))
        self._stopped, self._keep, self._slices, self._switched = stopped, keep, slices, switched
        self._finished = finished
        self._lanes = [
            _Lane(
                name,
                rollout.servers.index(name),
                server,
                Pace(rate),
                Throttle(limits.slowdown, limits.slack_seconds),
                stopped=name in stopped,
            )
            for name, server in servers.items()
        ]
        self._next_seq = next_seq
        self._chance = np.random.default_rng([rollout.seed, next_seq])
        self._judged, self._judged_aa = judged_rows, set[int]()
        self._queue: asyncio.Queue[Request | None] = asyncio.Queue(limits.concurrency * max(1, len(servers)))
        self._out: set[int] = set()  # sent, not back
        self._back: list[_Pair] = []  # back, not scored
        self._back_bytes = 0
        self._rows: Batch = empty_batch()  # scored, but an earlier one may be out
        self._ids: OrderedDict[str, int] = OrderedDict()
        self._wake, self._room = asyncio.Event(), asyncio.Event()
        self._failure: Exception | None = None
        self._broken = False  # a sender failed: nothing more to wait for

    # --- tasks ---------------------------------------------------------------

    def start(self) -> list[asyncio.Task[None]]:
        """The reader and each lane's senders; an error in any ends up in `batches`."""
        tasks = [asyncio.create_task(self._read(), name="shadow source")]
        for lane in self._lanes:
            for _ in range(self._limits.concurrency):
                tasks.append(asyncio.create_task(self._guarded(self._work(lane)), name=f"shadow {lane.name}"))
        return tasks

    async def _read(self) -> None:
        """Fill the queue; whatever ends the source, what came before it is still sent."""
        try:
            async for request in self._source.requests():
                if self._duplicate(request):
                    self._set_aside("duplicate")
                    self._finished(request)
                else:
                    await self._queue.put(request)
        except Exception as error:  # raised again by `batches`, in the task of whoever reads them
            self._failure = error
        await self._queue.put(None)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # our bug, or a server's that does not keep its contract: likewise
            self._failure, self._broken = error, True
        finally:
            self._wake.set()

    def _duplicate(self, request: Request) -> bool:
        """The id came before, and not as the same row of a set that is read again."""
        before = self._ids.get(request.id)
        if before is None:
            self._ids[request.id] = request.row
            if len(self._ids) > _IDS_KEPT:
                self._ids.popitem(last=False)
            return False
        return request.row < 0 or before != request.row

    async def _work(self, lane: _Lane) -> None:
        loop = asyncio.get_running_loop()
        while not lane.stopped:
            await asyncio.sleep(lane.pace.wait_seconds(loop.time()))
            while self._full:
                self._room.clear()
                await self._room.wait()
            reason = lane.throttle.turn(loop.time())
            if reason is not None:
                self._telemetry.shed.labels(self._rollout.model, reason).inc()
                continue
            request = await self._queue.get()
            if request is None or lane.stopped:
                self._queue.put_nowait(request)  # its place was just freed
                return
            await self._send(lane, request, loop)

    @property
    def _full(self) -> bool:
        return len(self._back) >= _MOST_WAITING_PAIRS or self._back_bytes >= _MOST_WAITING_BYTES

    # --- one pair ------------------------------------------------------------

    async def _send(self, lane: _Lane, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        seq, self._next_seq = self._next_seq, self._next_seq + 1
        first_draw, second_draw = self._chance.random(2)
        aa = (self._switched(lane.name) or bool(first_draw < self._limits.aa_share)) and not request.golden
        canary_first = bool(second_draw < 0.5)
        address, masked = self._address(), self._masked(lane.name)
        self._out.add(seq)
        try:
            stable, canary = await self._both(lane, request, address, aa, canary_first, loop)
        finally:
            self._out.discard(seq)
        self._finished(request)
        moved = self._address() != address
        masked = masked or self._masked(lane.name)
        self._tell_throttle(lane, stable, loop.time())
        known = self._rollout.old, self._rollout.new
        reason = set_aside_because(stable, canary, (known[0], known[0 if aa else 1]), known, moved=moved)
        if reason is not None:
            self._set_aside(reason)
            if reason == "exhausted":
                self._stop(lane)
            return
        pair = _Pair(seq, self._elapsed(), lane, request, aa, canary_first, masked, stable, canary)
        self._back.append(pair)
        self._back_bytes += pair.size
        if len(self._back) >= min(_SCORED_AT_ONCE, self._limits.batch_pairs) or self._full:
            self._wake.set()

    async def _both(
        self,
        lane: _Lane,
        request: Request,
        address: Addressing,
        aa: bool,
        canary_first: bool,
        loop: asyncio.AbstractEventLoop,
    ) -> tuple[Outcome, Outcome]:
        """Stable's outcome, then canary's. The task starts when the awaited call first waits: that one goes first."""
        deadline = loop.time() + self._limits.deadline_seconds
        first, second = address.stable, address.stable if aa else address.canary
        if canary_first:
            first, second = second, first
        predict, model = lane.server.predict, self._rollout.model
        async with asyncio.TaskGroup() as group:
            later = group.create_task(predict(model, request, version=second, deadline=deadline))
            earlier = await predict(model, request, version=first, deadline=deadline)
        return (later.result(), earlier) if canary_first else (earlier, later.result())

    def _tell_throttle(self, lane: _Lane, stable: Outcome, now: float) -> None:
        """Stable's own health. A request that the server refuses says nothing of it."""
        failed = stable.status in (Status.TIMEOUT, Status.UNAVAILABLE, Status.INTERNAL)
        if failed or stable.status is Status.OK:
            lane.throttle.note(now, seconds=stable.seconds, failed=failed)

    def _stop(self, lane: _Lane) -> None:
        """No more on this server: its threads ran out, and a user's call may have been refused for ours."""
        if not lane.stopped:
            lane.stopped = True
            self._stopped.add(lane.name)
            self._telemetry.shed.labels(self._rollout.model, "exhausted").inc()
            log.warning("shadowing_stopped", server=lane.name, model=self._rollout.model, reason="exhausted")

    def _set_aside(self, reason: str) -> None:
        self._telemetry.set_aside.labels(self._rollout.model, reason).inc()

    # --- batches -------------------------------------------------------------

    async def batches(self, tasks: Sequence[asyncio.Task[None]]) -> AsyncIterator[Batch]:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._limits.batch_seconds
        ended = False
        while not ended:
            await self._wait_woken(due)
            ended = self._broken or all(task.done() for task in tasks[1:])
            await self._score_back()
            ready = self._take_ready()
            while len(ready) >= self._limits.batch_pairs:
                yield self._counted(ready[: self._limits.batch_pairs])
                ready = ready[self._limits.batch_pairs :]
                due = loop.time() + self._limits.batch_seconds
            if len(ready) and (ended or loop.time() >= due):
                yield self._counted(ready)
                ready = ready[:0]
            self._rows = np.concatenate([ready, self._rows])
            if loop.time() >= due:
                due = loop.time() + self._limits.batch_seconds
        if self._failure is not None:
            raise self._failure

    async def _wait_woken(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _score_back(self) -> None:
        back, size = self._back, self._back_bytes
        self._back, self._back_bytes = [], 0
        self._room.set()
        for start in range(0, len(back), _SCORED_AT_ONCE):
            some = back[start : start + _SCORED_AT_ONCE]
            rows = await asyncio.to_thread(self._as_rows, some) if size > _BYTES_IN_LOOP else self._as_rows(some)
            self._rows = np.concatenate([self._rows, rows])

    def _as_rows(self, some: Sequence[_Pair]) -> Batch:
        """(n,) rows, `fresh` still open."""
        scored = self._score(
            [pair.request for pair in some],
            [pair.stable.answer for pair in some],
            [pair.canary.answer for pair in some],
        )
        rows = np.zeros(len(some), PAIR_DTYPE)
        for name in ("seq", "at", "aa", "canary_first", "masked"):
            rows[name] = [getattr(pair, name) for pair in some]
        rows["server"] = [pair.lane.index for pair in some]
        rows["row"] = [pair.request.row for pair in some]
        rows["request"] = [pair.request.key for pair in some]
        rows["slices"] = [membership(pair.request.fields, self._slices) for pair in some]
        for side, lost in (("stable", scored.stable_unreadable), ("canary", scored.canary_unreadable)):
            outcomes: list[Outcome] = [getattr(pair, side) for pair in some]
            rows[f"{side}_status"] = np.where(lost, Status.MALFORMED, [outcome.status for outcome in outcomes])
            rows[f"{side}_seconds"] = [self._seconds(outcome) for outcome in outcomes]
        for column in fields(Scores):
            rows[column.name] = getattr(scored.scores, column.name)
        if self._keep is not None:
            for pair in some:
                if pair.request.truth is None and not pair.aa:
                    self._keep(pair.seq, pair.request, pair.stable.answer, pair.canary.answer)
        return rows

    def _seconds(self, outcome: Outcome) -> float:
        return self._limits.deadline_seconds if outcome.status is Status.TIMEOUT else outcome.seconds

    def _take_ready(self) -> Batch:
        """The rows that nothing sent earlier can still come before, in order."""
        waiting = [*self._out, *(pair.seq for pair in self._back)]
        border = min(waiting, default=self._next_seq)
        rows = self._rows[np.argsort(self._rows["seq"], kind="stable")]
        at = int(np.searchsorted(rows["seq"], border))
        self._rows = rows[at:]
        return rows[:at]

    def _counted(self, batch: Batch) -> Batch:
        """The batch with `fresh` settled, in order of sending, and counted in our own metrics."""
        fresh, answered = batch["fresh"], some_answer(batch).tolist()
        for index, (row, aa) in enumerate(zip(batch["row"].tolist(), batch["aa"].tolist(), strict=True)):
            judged = self._judged_aa if aa else self._judged
            fresh[index] = row < 0 or row not in judged
            if row >= 0 and answered[index]:
                judged.add(row)
        for lane in self._lanes:
            for kind, aa in (("ab", False), ("aa", True)):
                count = int(np.count_nonzero((batch["server"] == lane.index) & (batch["aa"] == aa)))
                if count:
                    self._telemetry.pairs.labels(self._rollout.model, lane.name, kind).inc(count)
        for side in ("stable", "canary"):
            codes, counts = np.unique(batch[f"{side}_status"][~batch["aa"]], return_counts=True)
            for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
                self._telemetry.outcomes.labels(self._rollout.model, side, Status(code).name.lower()).inc(count)
        return batch
