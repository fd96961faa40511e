"""The evidence of one rollout: pairs in, into the log, before the judge, a ruling out.

The pair log is the evidence; what the judge holds in memory is a fold over it
and is made again from it after a crash, bit for bit. A batch is stored before
it is judged, so no verdict ever rests on pairs that are not on record.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import structlog

from haldane.domain.entries import READING_DTYPE, Entry, judged_until
from haldane.domain.evidence import Ruling, Verdict
from haldane.domain.labels import Awaiting
from haldane.domain.rollout import Judged, Phase, Rollout, RolloutId
from haldane.domain.traffic import PAIR_DTYPE, Batch, some_answer
from haldane.engine.desk import Desk
from haldane.engine.labels import Answers, Labels
from haldane.engine.switchback import Switchback
from haldane.judge.analysis import Analysis
from haldane.judge.rules import Rules
from haldane.ports import Clock, PortError, Store, Unavailable

log = structlog.get_logger()

T = TypeVar("T")

SHADOW_RETRY_SECONDS = 5.0
STORE_RETRY_SECONDS = 1.0
# About 45 MB of log: a verdict takes thousands of pairs, and a bake of days need not fill a disk.
MOST_PAIRS = 500_000
# A hold may last for days: enough to see harm within minutes, and room is left in the log for when it goes on.
HELD_RATE = 1.0  # pairs per second
LOOK_SECONDS = 1.0  # without pairs the budget still runs out
LABEL_SECONDS = 1.0  # between two looks for labels that came


@dataclass
class Progress:
    """Where shadowing stands: what the pair log holds, so that it can be taken up again."""

    next_seq: int = 0
    logged: int = 0  # pairs in the log, which is capped
    judged_rows: set[int] = field(default_factory=set)
    before_seconds: float = 0.0  # judged time before this process took over
    since: float | None = field(default_factory=time.monotonic)  # None: held, the budget stands still
    before_held: float = 0.0  # seconds held in which gauges were read, before the present hold
    held_since: float | None = None  # gauges are read while it is held: the present hold
    answers: Answers = field(default_factory=Answers)  # of pairs out or back that are not in the log yet
    measured: set[int] = field(default_factory=set)  # places of the gauges that the log has a reading of
    switchback: Switchback | None = None  # says which kind of pair is sent, while CPU is told apart by it

    def elapsed(self) -> float:
        """Seconds of judging so far: down time and holds do not count."""
        return self.before_seconds + (0.0 if self.since is None else time.monotonic() - self.since)

    def held(self) -> float:
        """Seconds in which gauges were read though the budget stood still."""
        return self.before_held + (0.0 if self.held_since is None else time.monotonic() - self.held_since)

    def hold(self) -> None:
        """A person is waited for, while users may have the new version: from now on the budget stands still."""
        self.since, self.held_since = None, time.monotonic()


class Shadow(Protocol):
    """Sends pairs for one rollout and yields them in batches, for as long as it is iterated."""

    def __call__(self, rollout: Rollout, progress: Progress) -> AsyncGenerator[Batch, None]: ...


class Readings(Protocol):
    """Reads the gauges of one rollout and yields entries, for as long as it is iterated."""

    def __call__(self, rollout: Rollout, progress: Progress) -> AsyncGenerator[Entry, None]: ...


async def no_readings(rollout: Rollout, progress: Progress) -> AsyncGenerator[Entry, None]:
    """Where there is nothing to read gauges from."""
    for entry in tuple[Entry, ...]():
        yield entry


def rules_of(rollout: Rollout) -> Rules:
    """The frozen rules, with horizon and budget given once more for each extension by a person."""
    return replace(Rules.from_json(rollout.analysis), extensions=rollout.extensions)


def folded(store: Store, rollout: Rollout) -> tuple[Analysis, Progress]:
    """The evidence so far, from the evidence log."""
    analysis, progress = Analysis(rules_of(rollout), rollout.servers), Progress()
    for entry in store.evidence(rollout.id):
        analysis.fold(entry)
        if not len(entry):
            continue
        progress.before_seconds = max(progress.before_seconds, judged_until(entry))
        if entry.dtype == PAIR_DTYPE:
            progress.logged += len(entry)
            progress.next_seq = max(progress.next_seq, int(entry["seq"].max()) + 1)
            # A pair of stable with itself says nothing of the canary on that row: it stays to be judged.
            used = (entry["row"] >= 0) & ~entry["aa"] & some_answer(entry)
            progress.judged_rows |= set(np.unique(entry["row"][used]).tolist())
        elif entry.dtype == READING_DTYPE:
            progress.measured |= set(np.unique(entry["metric"][np.isfinite(entry["canary"])]).tolist())
            progress.before_held = max(progress.before_held, float(entry["held"].max()))
    progress.since = time.monotonic()
    return analysis, progress


def _heard_alike(begun: Rollout, now: Rollout) -> bool:
    """Judging still, on the same servers: with others it begins again from the log, as after a crash."""
    return now.judged and now.exposed == begun.exposed and now.shadowed == begun.shadowed


@dataclass
class Judging:
    """Judges one rollout while its phase asks for it."""

    id: RolloutId
    desk: Desk
    store: Store
    clock: Clock
    shadow: Shadow
    on_ruling: Callable[[Rollout, Ruling], None]
    tell: Callable[[Judged], Awaitable[None]]
    labels: Labels
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # the log and the judge take entries in one order
    readings: Readings = no_readings

    async def run(self) -> None:
        """Returns when the rollout is over."""
        while (rollout := self.desk.rollout(self.id)) is not None:
            if rollout.judged:
                await self._while(partial(_heard_alike, rollout), self._hear(rollout))
            elif rollout.phase is Phase.HELD and self._expects_labels(rollout):
                await self._while(lambda now: now.phase is Phase.HELD, self._hear_labels(rollout))
            else:
                await self.desk.wait_changed(5.0)

    async def _while(self, holds: Callable[[Rollout], bool], deed: Coroutine[Any, Any, None]) -> None:
        """Do that until the phase or the fleet is another; the shadow is cancelled cleanly then."""

        def over() -> bool:
            rollout = self.desk.rollout(self.id)
            return rollout is None or not holds(rollout)

        hearing = asyncio.create_task(deed, name=f"pairing {self.id}")
        watching = asyncio.create_task(self.desk.wait_until(over), name=f"phase {self.id}")
        try:
            await asyncio.wait((hearing, watching), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (hearing, watching):
                task.cancel()
            results = await asyncio.gather(hearing, watching, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _expects_labels(self, rollout: Rollout) -> bool:
        return rules_of(rollout).late_labels and self.labels.terms(rollout.model) is not None

    async def _hear_labels(self, rollout: Rollout) -> None:
        """Held before any user had the new version: no pair is sent and the budget stands still, but labels come."""
        analysis, progress = await self._from_store(lambda: folded(self.store, rollout))
        progress.since = None
        await self._take_labels(rollout, analysis, progress)

    async def _hear(self, rollout: Rollout) -> None:
        """All evidence. Where it is held the budget stands still."""
        analysis, progress = await self._from_store(lambda: folded(self.store, rollout))
        if rollout.exposed:
            progress.hold()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._rule_regularly(analysis, progress), name=f"looks {self.id}")
            if self._expects_labels(rollout):
                group.create_task(self._take_labels(rollout, analysis, progress), name=f"labels {self.id}")
            if analysis.rules.gauges:
                group.create_task(self._take_readings(rollout, analysis, progress), name=f"gauges {self.id}")
            try:
                await self._keep_taking_pairs(rollout, analysis, progress)
            finally:
                self.desk.stalled.pop(rollout.model, None)

    async def _keep_taking_pairs(self, rollout: Rollout, analysis: Analysis, progress: Progress) -> None:
        while True:
            try:
                await self._take_pairs(rollout, analysis, progress)
            except PortError as error:  # a source that cannot be read now: the budget runs, nothing passes
                log.warning("shadow_failed", rollout=self.id, reason=error.reason, detail=str(error))
                self.desk.stalled[rollout.model] = str(error)
            await asyncio.sleep(SHADOW_RETRY_SECONDS)

    async def _take_pairs(self, rollout: Rollout, analysis: Analysis, progress: Progress) -> None:
        """Until the source ends, every server had to be left alone, or the log is full: while held, half full."""
        most = MOST_PAIRS // 2 if rollout.exposed else MOST_PAIRS
        progress.answers.clear()
        async with aclosing(self.shadow(rollout, progress)) as batches:
            while progress.logged < most and (batch := await anext(batches, None)) is not None:
                self.desk.stalled.pop(rollout.model, None)
                if len(batch):
                    waiting = progress.answers.take(batch, analysis.awaits(batch), self.clock.now())
                    no_room = await self._take_in(analysis, batch, awaiting=waiting)
                    self.labels.no_room(rollout, no_room + progress.answers.too_large)
                    progress.answers.too_large = 0
                    progress.next_seq = int(batch["seq"].max()) + 1
                    progress.logged += len(batch)
                await self._rule(analysis, progress)

    async def _take_readings(self, rollout: Rollout, analysis: Analysis, progress: Progress) -> None:
        """Until every gauge has been given up. They are few beside the pairs, so nothing caps them."""
        async with aclosing(self.readings(rollout, progress)) as entries:
            async for entry in entries:
                await self._take_in(analysis, entry)
                await self._rule(analysis, progress)

    async def _take_labels(self, rollout: Rollout, analysis: Analysis, progress: Progress) -> None:
        """Labels join their pairs as they come, those that came while nobody was judging first."""
        after = 0
        while True:
            at = progress.elapsed()
            joined = await self._from_store(lambda: self.labels.joined(rollout, after=after, at=at))  # noqa: B023
            after = joined.last
            if joined.requests:
                await self._take_in(analysis, joined.entry, joined=joined.requests)
                self.labels.note(rollout, joined)
                await self._rule(analysis, progress)
            if not joined.full:
                await asyncio.sleep(LABEL_SECONDS)

    async def _take_in(
        self, analysis: Analysis, entry: Entry, *, awaiting: Sequence[Awaiting] = (), joined: Sequence[int] = ()
    ) -> int:
        """Into the log, then before the judge; how many pairs found no room to wait for their label."""
        async with self._turn:
            no_room = await self._store_entry(entry, awaiting, joined)
            analysis.fold(entry)
            return no_room

    async def _store_entry(self, entry: Entry, awaiting: Sequence[Awaiting], joined: Sequence[int]) -> int:
        """Stored when it returns, and also when it is cancelled: the log may be read again at once."""
        append = self.store.append_evidence
        storing = asyncio.create_task(
            self._from_store(lambda: append(self.id, entry, awaiting=awaiting, joined=joined))
        )
        try:
            return await asyncio.shield(storing)
        except asyncio.CancelledError:
            # A write takes milliseconds; a store that is away is not waited for.
            await asyncio.wait({storing}, timeout=STORE_RETRY_SECONDS)
            storing.cancel()
            await asyncio.gather(storing, return_exceptions=True)
            raise

    async def _from_store(self, deed: Callable[[], T]) -> T:
        """What the store answers, however long it is away: nothing is judged that is not on record."""
        told = False
        while True:
            try:
                return await asyncio.to_thread(deed)
            except Unavailable as error:
                if not told:
                    log.error("store_unavailable", rollout=self.id, detail=error.detail)
                told = True
                await asyncio.sleep(STORE_RETRY_SECONDS)

    async def _rule_regularly(self, analysis: Analysis, progress: Progress) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._rule(analysis, progress)

    async def _rule(self, analysis: Analysis, progress: Progress) -> None:
        ruling = analysis.ruling(progress.elapsed())
        rollout = self.desk.rollout(self.id)
        if rollout is None:
            return
        self.desk.rulings[self.id] = ruling
        self.on_ruling(rollout, ruling)
        if rollout.phase is Phase.HELD and ruling.verdict is not Verdict.FAIL:
            return  # a person decides; only harm is no matter for waiting
        at = self.clock.now()
        frozen = self.desk.frozen(rollout.model, at)
        await self.tell(Judged(at=at, verdict=ruling.verdict, why=ruling.why, pairs=ruling.pairs, frozen=frozen))
