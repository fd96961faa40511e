"""One rollout's shadow spread over senders elsewhere: started, told, asked, and merged into one stream of batches.

Each sender runs the loop of `pairing` on its share of the same source. When one is
lost, or one more can be used, the others end what they have out, and all begin
again on new shares, past what was judged: as after a crash.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import structlog

from haldane.domain.fleet import ServerName
from haldane.domain.rollout import Rollout
from haldane.domain.traffic import Batch
from haldane.engine.addressing import Addressing
from haldane.engine.merging import KeptAnswers, Link, Report, Told, Windows, ready
from haldane.engine.settled import Settled
from haldane.ports import Malformed, NoData, PortError, Refused, Unavailable
from haldane.telemetry import Telemetry

log = structlog.get_logger()

ASK_SECONDS = 0.2  # between two reports of a sender: what it is not told meanwhile, it does not know
LOOK_SECONDS = 0.5  # between two batches: a look costs the judge milliseconds
WATCH_SECONDS = 1.0  # between two looks for senders that came or went
AGAIN_SECONDS = 0.5  # between two runs
_CLOSE_SECONDS = 2.0
_FAILURES: Mapping[str, type[PortError]] = {kind.reason: kind for kind in (Unavailable, Refused, Malformed, NoData)}


class Beginning(NamedTuple):
    """What all senders of one run begin with."""

    of: int  # senders
    next_seq: int
    judged_rows: frozenset[int]
    elapsed: float  # seconds of judging so far


class Senders(Protocol):
    """Processes that send pairs for one rollout. Unavailable when one does not answer."""

    async def names(self) -> Sequence[str]:
        """Those that can be used now; PortError when there is none."""

    async def start(self, name: str, index: int, beginning: Beginning) -> None: ...

    async def take(self, name: str, told: Told) -> Report: ...

    async def close(self, name: str) -> Report:
        """The last report; what was out is dropped."""


@dataclass
class Spread:
    """The shadow of one rollout; `batches` as `pairing.pairs` gives them."""

    senders: Senders
    rollout: Rollout
    most: int  # senders, or each server would get more pairs at once than it may
    address: Callable[[], Addressing]
    masked: Callable[[ServerName], bool]
    crowded: Callable[[ServerName], bool]
    next_seq: int
    judged_rows: set[int]
    elapsed: Callable[[], float]
    telemetry: Telemetry
    stopped: set[ServerName]
    keep: Callable[[int, KeptAnswers], None]
    flawed: Callable[[Mapping[str, int]], None]  # told of a sender's totals
    _masks: dict[int, Windows] = field(default_factory=dict)  # by place of the server
    _looked: float = 0.0

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Ascending in `seq`, until the source ends or every server was stopped. Raises what the source raises, and
        Unavailable when all senders are lost. Close it with `contextlib.aclosing`: what is out is dropped then."""
        settled = Settled(self.rollout.model, self.rollout.servers, self.judged_rows, self.telemetry)
        self._looked = self.elapsed()
        names: Sequence[str] = ()
        while True:
            names = self.chosen(await self.senders.names(), names)
            run = _Run(self, names)
            try:
                async with aclosing(run.rows()) as merged:
                    async for rows in merged:
                        self.next_seq = int(rows["seq"][-1]) + 1
                        yield settled(rows)
            finally:
                await run.close()
            if run.finished:
                return
            await asyncio.sleep(AGAIN_SECONDS)  # by then it is known who is there

    def chosen(self, names: Sequence[str], before: Sequence[str]) -> tuple[str, ...]:
        """As many as may be used, those of before first."""
        stay = [name for name in before if name in names]
        return tuple([*stay, *(name for name in names if name not in stay)][: self.most])

    def look_at_masks(self) -> None:
        """Note which servers are loading; pairs that were out meanwhile are masked when they are reported."""
        now = self.elapsed()
        for place, server in enumerate(self.rollout.servers):
            if self.masked(server):
                self._masks.setdefault(place, Windows()).add(self._looked, now)
        self._looked = now

    def mask(self, rows: Batch) -> None:
        for place, windows in self._masks.items():
            rows["masked"] |= (rows["server"] == place) & windows.touched(rows)


class _Run:
    """All senders from one start to one end."""

    def __init__(self, spread: Spread, names: tuple[str, ...]) -> None:
        self._spread, self._names = spread, names
        began, address = spread.elapsed(), spread.address()
        self._links = [Link(name, index, address, began) for index, name in enumerate(self._names)]
        self._following: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []  # those, and one that looks who is there
        self._ending = False  # by us
        self._lost: PortError | None = None
        self._show(len(self._links))

    @property
    def finished(self) -> bool:
        """The senders ended by themselves: nothing is left to send."""
        return not self._ending

    async def rows(self) -> AsyncGenerator[Batch, None]:
        """Merged and numbered, not empty. Raises what ended a sender."""
        spread = self._spread
        beginning = Beginning(len(self._links), spread.next_seq, frozenset(spread.judged_rows), spread.elapsed())
        self._following = following = [
            asyncio.create_task(self._follow(link, beginning), name=f"sender {link.name}") for link in self._links
        ]
        self._tasks = [*following, asyncio.create_task(self._watch(), name="senders")]
        over = False
        while not over:
            await asyncio.wait(following, timeout=LOOK_SECONDS)
            over = all(task.done() for task in following) or self._broken() is not None
            if len(rows := ready(self._links, spread.next_seq, spread.keep)):
                yield rows
        if (error := self._broken()) is not None:
            raise error
        if self._lost is not None and all(link.unreachable for link in self._links):
            raise self._lost
        for link in self._links:
            if link.failure is not None:
                reason, target, detail = link.failure
                raise _FAILURES.get(reason, Unavailable)(target, f"{detail} (said by {link.name})")

    def _broken(self) -> BaseException | None:
        """A bug of ours in one of the tasks: it is not to be taken for a sender that was lost."""
        ended = [task for task in self._tasks if task.done() and not task.cancelled()]
        return next((error for task in ended if (error := task.exception()) is not None), None)

    async def _follow(self, link: Link, beginning: Beginning) -> None:
        """Until it is over, or does not answer."""
        spread = self._spread
        try:
            await spread.senders.start(link.name, link.index, beginning)
            while not link.over:
                spread.look_at_masks()
                asked = spread.elapsed()
                crowded = frozenset(filter(spread.crowded, spread.rollout.shadowed))
                told = Told(spread.address(), frozenset(spread.stopped), crowded, self._ending)
                report = await spread.senders.take(link.name, told)
                link.heard(told, spread.address(), asked, spread.elapsed())
                spread.look_at_masks()
                self._take_in(link, report)
                if not link.over:
                    await asyncio.sleep(ASK_SECONDS)
        except PortError as error:
            self._lose(link, error)

    async def _watch(self) -> None:
        """End this run when others could be used, or fewer than were."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                there = await self._spread.senders.names()
            except PortError:
                continue  # the senders' own answers tell what can be used still
            for link, task in zip(self._links, self._following, strict=True):
                if link.name not in there and not link.over:  # its answer would be waited for in vain
                    task.cancel()
                    self._lose(link, Unavailable(link.name, "it has left the cluster"))
            self._ending = self._ending or self._spread.chosen(there, self._names) != self._names

    def _take_in(self, link: Link, report: Report) -> None:
        spread, model = self._spread, self._spread.rollout.model
        link.received += len(report.rows)
        spread.telemetry.shadow.sent.labels(model).inc(report.sent - link.sent)
        for what, reasons in report.counts.items():
            counter = getattr(spread.telemetry.shadow, what)
            for reason, total in reasons.items():
                counter.labels(model, reason).inc(total - link.counts.get(what, {}).get(reason, 0))
        link.sent, link.counts, link.done = report.sent, report.counts, report.done
        link.over, link.failure = report.over, report.failure
        self._ending = self._ending or link.failure is not None
        spread.stopped |= report.stopped
        spread.flawed(report.flaws)
        spread.mask(report.rows)
        straddling = link.straddles(report.rows)
        if straddling.any():
            spread.telemetry.shadow.set_aside.labels(model, "straddled").inc(int(np.count_nonzero(straddling)))
        link.rows.append(report.rows[~straddling])
        link.kept |= {kept.number: kept for kept in report.kept}

    def _lose(self, link: Link, error: PortError) -> None:
        """What it had out is lost with it; its reports count, and the others go on without it."""
        log.warning("sender_lost", sender=link.name, rollout=self._spread.rollout.id, detail=error.detail)
        self._drop("sender_lost", link.unheard)
        link.over = link.unreachable = True
        self._lost, self._ending = error, True
        self._show(sum(not one.over for one in self._links))

    async def close(self) -> None:
        """End what goes on still, and count what was reported and is not handed on, so that no pair is left out."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            await asyncio.gather(*(self._close(link) for link in self._links if not link.over))
        self._drop("waiting", sum(len(rows) for link in self._links for rows in link.rows))
        self._show(0)

    async def _close(self, link: Link) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                self._take_in(link, await self._spread.senders.close(link.name))
        except (PortError, TimeoutError) as error:
            self._drop("sender_lost", link.unheard)
            log.warning("sender_not_closed", sender=link.name, detail=str(error) or "no answer")

    def _drop(self, reason: str, count: int) -> None:
        self._spread.telemetry.shadow.dropped.labels(self._spread.rollout.model, reason).inc(max(0, count))

    def _show(self, count: int) -> None:
        self._spread.telemetry.shadow.senders.labels(self._spread.rollout.model).set(count)
