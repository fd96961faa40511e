"""Rollouts that have succeeded, judged on while labels of their pairs may still come.

The promotion is over, the evidence is not: a label that comes within its time
is joined as before, and when the harm it shows suffices, the promotion is taken
back. Everything is on record before it is acted on, so a restart finds it again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from haldane.domain.evidence import Ruling, Verdict
from haldane.domain.rollout import Phase, Rollout, RolloutId
from haldane.engine.judging import Progress, folded, rules_of
from haldane.engine.labels import Labels
from haldane.judge.analysis import Analysis
from haldane.ports import Clock, PortError, Store

log = structlog.get_logger()

LOOK_SECONDS = 2.0  # labels come hours late: nobody waits for this
MOST_ROLLOUTS = 1000  # looked at when the agent starts


@dataclass
class _Watched:
    """One rollout after its end; `evidence` is None until it was folded from the log."""

    rollout: Rollout
    evidence: tuple[Analysis, Progress] | None = None
    after: int = 0  # the place in the order of labels
    told: str = ""  # why it could not be taken back, as it was logged last


@dataclass
class LateWatch:
    """`take_back` starts the revert of a promotion and returns "", or says why it cannot be done now."""

    store: Store
    clock: Clock
    labels: Labels
    take_back: Callable[[Rollout, Ruling], Awaitable[str]]
    on_labels: Callable[[Rollout], None]
    _watched: dict[RolloutId, _Watched] = field(default_factory=dict)
    _over: list[Rollout] = field(default_factory=list)  # no label of theirs is waited for

    async def run(self) -> None:
        """Watch what past rollouts left, and every one that ends from now on (`add`)."""
        for rollout in await asyncio.to_thread(self.store.rollouts, MOST_ROLLOUTS):
            self.add(rollout)
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def add(self, rollout: Rollout) -> None:
        """A rollout, maybe one that has ended."""
        if not rollout.phase.final or not _declared(rollout):
            return
        if self._waits(rollout):
            self._watched.setdefault(rollout.id, _Watched(rollout))
        else:
            self._over.append(rollout)

    async def look(self) -> None:
        """Join what has come, judge it, act on it; let go of rollouts whose time is over."""
        for watched in list(self._watched.values()):
            try:
                await self._judge(watched)
            except PortError as error:  # a store that is away: what is due is found again by the next look
                watched.evidence = None  # what is on record may be more than what was judged
                log.warning("late_labels_not_judged", rollout=watched.rollout.id, detail=str(error))
                continue
            except Exception:  # one rollout's data must not keep the harm of another from being seen
                watched.evidence = None
                log.exception("late_labels_broke", rollout=watched.rollout.id)
                continue
            if not self._waits(watched.rollout):
                self._let_go(watched.rollout)
        while self._over:
            rollout = self._over.pop()
            try:
                await asyncio.to_thread(self.labels.stop_waiting, rollout.id)
            except PortError as error:
                self._over.append(rollout)
                log.warning("pairs_still_wait", rollout=rollout.id, detail=str(error))
                return

    def _waits(self, rollout: Rollout) -> bool:
        terms = self.labels.terms(rollout.model)
        if terms is None or rollout.phase is not Phase.SUCCEEDED:
            return False
        return self.clock.now() - rollout.phase_since <= terms.wait_seconds

    def _let_go(self, rollout: Rollout) -> None:
        if self._watched.pop(rollout.id, None):
            self._over.append(rollout)

    async def _judge(self, watched: _Watched) -> None:
        rollout = watched.rollout
        if watched.evidence is None:
            watched.evidence = await asyncio.to_thread(folded, self.store, rollout)
        analysis, progress = watched.evidence
        seconds = progress.before_seconds + max(0.0, self.clock.now() - rollout.phase_since)
        while await self._join(watched, analysis, seconds):
            pass
        if analysis.hearing.verdict is not Verdict.FAIL:
            return
        refused = await self.take_back(rollout, analysis.ruling(seconds))
        if not refused:
            self._let_go(rollout)
        elif refused != watched.told:
            watched.told = refused
            log.error("promotion_not_taken_back", rollout=rollout.id, model=rollout.model, reason=refused)

    async def _join(self, watched: _Watched, analysis: Analysis, seconds: float) -> bool:
        """Labels that came, on record and judged; whether there may be more right now."""
        rollout, after = watched.rollout, watched.after
        joined = await asyncio.to_thread(lambda: self.labels.joined(rollout, after=after, at=seconds))
        if joined.requests:
            entry, requests = joined.entry, joined.requests
            append = self.store.append_evidence
            await asyncio.to_thread(lambda: append(rollout.id, entry, joined=requests))
            analysis.fold(entry)
            self.labels.note(rollout, joined)
            self.on_labels(rollout)
        watched.after = joined.last
        return joined.full


def _declared(rollout: Rollout) -> bool:
    """Its rules await labels; rules that this release cannot read await nothing."""
    try:
        return rules_of(rollout).late_labels
    except ValueError:
        return False
