"""The shadow loop: Requests in, Batches of pairs out, within strict limits.

Each Request goes to stable and canary of one server together, in random order.
A pair counts only when the versions that answered are the ones it was meant
for; any other is set aside and counted by reason. Never retried. What the
numbers of a pair mean is the scorer's affair, what they prove the judge's.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import structlog

from haldane.domain.fleet import ServerName
from haldane.domain.rollout import Rollout
from haldane.domain.traffic import Batch, Outcome, Request, Status
from haldane.engine.addressing import Addressing, set_aside_because
from haldane.engine.batches import Back, Batches, Keep, Score
from haldane.engine.feed import Feed
from haldane.engine.settled import Settled
from haldane.engine.share import Share, whole
from haldane.engine.shedding import Pace, Throttle
from haldane.judge.rules import Slice
from haldane.ports import Malformed, ModelServer, PortError, TrafficSource
from haldane.telemetry import Telemetry

log = structlog.get_logger()

# Ids remembered to find duplicates in a stream.
_IDS_KEPT = 50_000
# Requests read ahead of the senders, for each pair that may be in flight: they are fetched in bulk.
_READ_AHEAD = 4
_DRAWN_AT_ONCE = 256
# Pairs scored in one go: enough to make numpy worth it, few enough not to hold up answers that come meanwhile.
_SCORED_AT_ONCE = 256
# Names for what is needed for every pair: Python 3.11 looks a member up by a function call.
_OK, _TIMEOUT = Status.OK, Status.TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowLimits:
    """How hard servers may be shadowed, and in what portions pairs are handed on."""

    pairs_per_second: float = 50.0  # over all servers, evenly
    concurrency: int = 4  # pairs in flight per server,
    concurrency_on: Mapping[ServerName, int] = field(default_factory=dict)  # and on those where it is another
    bytes_in_flight: int = 64 << 20  # of requests, per server; a larger request goes alone
    deadline_seconds: float = 5.0  # for each side
    aa_share: float = 0.1  # of pairs with stable on both sides
    batch_pairs: int = 100  # handed on when so many are complete,
    batch_seconds: float = 1.0  # or after so long,
    look_seconds: float = 0.5  # but no more often: a look costs the judge milliseconds
    slowdown: float = 3.0  # shed when stable's median exceeds its best one times this
    slack_seconds: float = 0.010  # and by more than this

    def at_once(self, server: ServerName) -> int:
        """Pairs in flight on that server."""
        return self.concurrency_on.get(server, self.concurrency)


@dataclass(slots=True)
class _Lane:
    """One server: its pace, its throttle, and whether shadowing it has stopped for good."""

    name: ServerName
    index: int
    server: ModelServer
    pace: Pace
    throttle: Throttle
    left_alone: set[ServerName]  # may grow from outside, too
    bytes_out: int = 0
    room: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def stopped(self) -> bool:
        return self.name in self.left_alone


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
    crowded: Callable[[ServerName], bool] = lambda _: False,
    finished: Callable[[Request], None] = lambda _: None,
    share: Share | None = None,
) -> AsyncGenerator[Batch, None]:
    """Batches of counted pairs, ascending in `seq`, until the source ends or every server was stopped.

    A batch is handed on when `batch_pairs` are complete, or after `batch_seconds`,
    whatever it holds then. `judged_rows` are the rows that fed output metrics before
    (a pair that is not A/A); it is added to. Close it with `contextlib.aclosing`:
    calls in flight are cancelled then. Raises what the source raises.
    `stopped` are servers not to be shadowed any more, from the moment they are in it; those that run out of
    threads are added to it, so that a later run leaves them alone too. `keep` is handed the answers of each
    pair whose truth is not known, before its batch, maybe from another thread. `slices` are those of the
    rollout's rules.
    `finished` is told of each request whose pair is back or was set aside.
    `switched` is asked once for each pair sent: whether it must be A/A, whatever chance says; `crowded` once
    for each turn: whether that server has too much to do to be shadowed.
    `share` is that of one sender among several; chance then says of each request what it would say
    if there were one sender.
    """
    share = share or whole(next_seq)
    stopped = set() if stopped is None else stopped
    lanes = _lanes(rollout, servers, limits, stopped)
    batches = Batches(portion=_SCORED_AT_ONCE, score=score, keep=keep, slices=slices)
    shadow = _Shadow(
        rollout,
        lanes,
        source,
        limits,
        batches,
        Settled(rollout.model, rollout.servers, judged_rows, telemetry),
        address,
        masked,
        islice(_draws(rollout.seed, next_seq), share.index, None, share.of),
        share,
        elapsed,
        telemetry,
        switched,
        crowded,
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
        shadow.close()


def _lanes(
    rollout: Rollout, servers: Mapping[ServerName, ModelServer], limits: ShadowLimits, left_alone: set[ServerName]
) -> list[_Lane]:
    """One for each server, the rate shared evenly."""
    return [
        _Lane(
            name,
            rollout.servers.index(name),
            server,
            Pace(limits.pairs_per_second / len(servers)),
            Throttle(limits.slowdown, limits.slack_seconds),
            left_alone,
        )
        for name, server in servers.items()
    ]


class _Shadow:
    """One run of `pairs`: its tasks, and what is in flight."""

    def __init__(
        self,
        rollout: Rollout,
        lanes: Sequence[_Lane],
        source: TrafficSource,
        limits: ShadowLimits,
        batches: Batches,
        settled: Settled,
        address: Callable[[], Addressing],
        masked: Callable[[ServerName], bool],
        draws: Iterator[tuple[float, float]],
        share: Share,
        elapsed: Callable[[], float],
        telemetry: Telemetry,
        switched: Callable[[ServerName], bool],
        crowded: Callable[[ServerName], bool],
        finished: Callable[[Request], None],
    ) -> None:
        self._rollout, self._lanes, self._source, self._limits = rollout, lanes, source, limits
        self._batches, self._settled, self._share = batches, settled, share
        self._address, self._masked, self._elapsed = address, masked, elapsed
        self._telemetry, self._switched, self._crowded, self._finished = telemetry, switched, crowded, finished
        self._known, self._same = (rollout.old, rollout.new), (rollout.old, rollout.old)
        self._told = 0  # of those sent
        self._handed_on = self._aside = 0  # of those sent
        self._draws = draws
        self._feed = Feed(_READ_AHEAD * max(limits.concurrency, sum(limits.at_once(lane.name) for lane in lanes)))
        self._out: set[int] = set()  # sent, not back
        self._ids: OrderedDict[str, int] = OrderedDict()
        self._wake = asyncio.Event()
        self._failure: Exception | None = None
        self._broken = False  # a sender failed: nothing more to wait for

    # --- tasks ---------------------------------------------------------------

    def start(self) -> list[asyncio.Task[None]]:
        """The reader and each lane's senders; an error in any ends up in `batches`."""
        tasks = [asyncio.create_task(self._read(), name="shadow source")]
        for lane in self._lanes:
            for _ in range(self._limits.at_once(lane.name)):
                tasks.append(asyncio.create_task(self._guarded(self._work(lane)), name=f"shadow {lane.name}"))
        return tasks

    async def _read(self) -> None:
        """Fill the feed; whatever ends the source, what came before it is still sent."""
        place = 0  # duplicates have none, for they take no number either
        try:
            async for request in self._source.requests():
                ours, again = self._share.takes(place), self._duplicate(request)
                place += not again
                if ours and again:
                    self._set_aside("duplicate")
                    self._finished(request)
                elif ours:
                    await self._feed.put(request)
        except PortError as error:  # raised again by `batches`, in the task of whoever reads them
            self._failure = error
        except Exception as error:
            self._failure = self._bug("reading its traffic", error)
        self._feed.end()

    def _bug(self, what: str, error: Exception) -> Malformed:
        """Data that we did not foresee. One model's must not end the agent, which others' rollbacks wait for."""
        log.exception("shadow_broke", model=self._rollout.model, what=what)
        return Malformed(self._rollout.model, f"{what}: {type(error).__name__}: {error}")

    async def _score(self) -> None:
        try:
            await self._batches.score()
        except Exception as error:  # its pairs are lost, so nothing passes on those that were left
            raise self._bug("scoring its answers", error) from error

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
        # It ends, too, where its server is not shadowed just now.
        while not (lane.stopped or self._feed.over or self._share.ended):
            now = loop.time()
            if (wait := lane.pace.wait_seconds(now)) > 0:
                await asyncio.sleep(wait)
                now = loop.time()
            while self._batches.full:
                self._batches.room.clear()
                await self._batches.room.wait()
            reason = lane.throttle.turn(now, crowded=self._crowded(lane.name))
            if reason is not None:
                self._telemetry.shadow.shed.labels(self._rollout.model, reason).inc()
                await asyncio.sleep(0)
                continue
            request = self._feed.waiting() or await self._feed.take()
            if request is None:
                return
            size = 2 * len(request.body)
            while lane.bytes_out and lane.bytes_out + size > self._limits.bytes_in_flight:
                lane.room.clear()
                await lane.room.wait()
            if lane.stopped or self._share.ended:
                self._feed.give_back(request)
                return
            lane.bytes_out += size
            try:
                await self._send(lane, request, loop)
            finally:
                lane.bytes_out -= size
                lane.room.set()

    # --- one pair ------------------------------------------------------------

    async def _send(self, lane: _Lane, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        seq = self._share.number()
        first_draw, second_draw = next(self._draws)
        aa = (self._switched(lane.name) or first_draw < self._limits.aa_share) and not request.golden
        canary_first = second_draw < 0.5
        address, masked = self._address(), self._masked(lane.name)
        first, second = address.stable, address.stable if aa else address.canary
        if canary_first:
            first, second = second, first
        deadline = loop.time() + self._limits.deadline_seconds
        self._out.add(seq)
        try:
            outcomes = await lane.server.predict_both(
                self._rollout.model, request, first=first, second=second, deadline=deadline
            )
        finally:
            self._out.discard(seq)
        self._finished(request)
        stable, canary = outcomes if not canary_first else (outcomes[1], outcomes[0])
        moved = self._address() != address
        self._tell_throttle(lane, stable, loop.time())
        reason = set_aside_because(stable, canary, self._same if aa else self._known, self._known, moved=moved)
        if reason is not None:
            self._aside += 1
            self._set_aside(reason)
            if reason == "exhausted":
                self._stop(lane)
            return
        masked = masked or self._masked(lane.name)
        pair = Back(
            seq,
            self._elapsed(),
            lane.index,
            aa,
            canary_first,
            masked,
            request,
            stable.status,
            self._seconds(stable),
            stable.answer,
            canary.status,
            self._seconds(canary),
            canary.answer,
        )
        if self._batches.add(pair):
            self._wake.set()

    def _seconds(self, outcome: Outcome) -> float:
        return self._limits.deadline_seconds if outcome.status is _TIMEOUT else outcome.seconds

    def _tell_throttle(self, lane: _Lane, stable: Outcome, now: float) -> None:
        """Stable's own health. A request that the server refuses says nothing of it."""
        if stable.status is _OK:
            lane.throttle.note(now, seconds=stable.seconds, failed=False)
        elif stable.status in (Status.TIMEOUT, Status.UNAVAILABLE, Status.INTERNAL):
            lane.throttle.note(now, seconds=stable.seconds, failed=True)

    def _stop(self, lane: _Lane) -> None:
        """No more on this server: its threads ran out, and a user's call may have been refused for ours."""
        if not lane.stopped:
            lane.left_alone.add(lane.name)
            self._telemetry.shadow.shed.labels(self._rollout.model, "exhausted").inc()
            log.warning("shadowing_stopped", server=lane.name, model=self._rollout.model, reason="exhausted")

    def _set_aside(self, reason: str) -> None:
        self._telemetry.shadow.set_aside.labels(self._rollout.model, reason).inc()

    # --- batches -------------------------------------------------------------

    async def batches(self, tasks: Sequence[asyncio.Task[None]]) -> AsyncIterator[Batch]:
        """Hands on what is complete: at most every `look_seconds`, at least every `batch_seconds`."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        ended = False
        while not ended:
            due = last + self._limits.batch_seconds
            soonest = min(due, last + self._limits.look_seconds)
            await self._wait_woken(soonest if soonest > loop.time() else due)
            ended = self._broken or self._drained or all(task.done() for task in tasks[1:])
            await self._score()
            now = loop.time()
            if not (ended or now >= due or self._worth_a_look(now - last)):
                continue
            border = self._batches.border(min(self._out, default=self._share.border))
            ready = self._batches.take(border)
            if len(ready) and (ended or now >= due or len(ready) >= self._limits.batch_pairs):
                self._tell_sent()
                self._handed_on += len(ready)
                yield self._settled(ready)
                last = loop.time()
                self._share.done = border
            elif not len(ready):
                self._share.done = border
                last = now if now >= due else last
            else:
                self._batches.put_back(ready)
                last = now if now >= due else last
        if self._failure is not None:
            raise self._failure

    @property
    def _drained(self) -> bool:
        """Told to end, and nothing is out any more: who waits for a turn need not be waited for."""
        return self._share.ended and not self._out

    def _worth_a_look(self, since: float) -> bool:
        return since >= self._limits.look_seconds and len(self._batches) >= self._limits.batch_pairs

    async def _wait_woken(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _tell_sent(self) -> None:
        self._telemetry.shadow.sent.labels(self._rollout.model).inc(self._share.sent - self._told)
        self._told = self._share.sent

    def close(self) -> None:
        """Count what was sent and will never be handed on, so that every pair is accounted for."""
        self._tell_sent()
        sent, waiting = self._share.sent, len(self._batches)
        dropped = self._telemetry.shadow.dropped
        dropped.labels(self._rollout.model, "waiting").inc(waiting)
        dropped.labels(self._rollout.model, "in_flight").inc(sent - self._handed_on - self._aside - waiting)


def _draws(seed: int, next_seq: int) -> Iterator[tuple[float, float]]:
    """Two uniform numbers for each pair, the same for the same rollout taken up at the same place."""
    chance = np.random.default_rng([seed, next_seq])
    while True:
        yield from map(tuple, chance.random((_DRAWN_AT_ONCE, 2)).tolist())
