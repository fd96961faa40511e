"""What runs on a worker elsewhere: the shadow of one rollout, on this process's share of the source.

Its functions are called by `app.shadowing` through a Workers port, all on one event
loop. A run that nobody asks about any more ends by itself: the agent that
started it may be gone, and nothing is sent that nobody will judge.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
from prometheus_client import CollectorRegistry, Counter

from haldane.app.sources import Onward, open_source
from haldane.config import ModelSection
from haldane.domain.fleet import Server, ServerName
from haldane.domain.rollout import Rollout, RolloutId
from haldane.domain.traffic import Batch, Request, empty_batch
from haldane.engine.addressing import Addressing
from haldane.engine.collector import quieten
from haldane.engine.merging import KeptAnswers, Report, Told
from haldane.engine.pairing import ShadowLimits, pairs
from haldane.engine.share import Share
from haldane.engine.spread import Beginning
from haldane.judge.rules import Rules
from haldane.ports import PortError, Unavailable
from haldane.serving.channel import Tls
from haldane.serving.client import open_client
from haldane.serving.shadow import Scorer, unscored
from haldane.telemetry import Telemetry

log = structlog.get_logger()

UNASKED_SECONDS = 5.0  # nobody asked for so long: nobody is there
_MOST_WAITING = 50_000  # pairs that nobody took: beyond them senders wait
_TOLD = ("set_aside", "dropped", "shed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All that a sender needs to know of a rollout; `limits` are for this sender alone."""

    rollout: Rollout
    section: ModelSection
    base_path: str
    fields: frozenset[str]
    servers: tuple[Server, ...]
    tls: Tls | None
    limits: ShadowLimits
    scorer: Scorer
    made_up: bool
    address: Addressing
    stopped: frozenset[ServerName]
    index: int
    beginning: Beginning


class _Run:
    """One order being carried out."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.address, self.stopped = order.address, set(order.stopped)
        self.crowded: frozenset[ServerName] = frozenset()  # known from the first question on
        self._since = time.monotonic()
        self.share = Share(order.index, order.beginning.of, lambda: int(1e9 * self._elapsed()))
        self._telemetry = Telemetry.on(CollectorRegistry())
        self._rows: list[Batch] = []
        self._room = asyncio.Event()
        self._kept: dict[int, KeptAnswers] = {}
        self._given: list[KeptAnswers] = []
        self._flaws: Mapping[Any, int] = {}
        self._failure: tuple[str, str, str] | None = None
        self.task = asyncio.create_task(self._send(), name=f"shadow {order.rollout.id}")
        self._leash: asyncio.TimerHandle | None = None
        self.asked()

    def _elapsed(self) -> float:
        return self.order.beginning.elapsed + time.monotonic() - self._since

    def asked(self) -> None:
        """Somebody is there still."""
        if self._leash is not None:
            self._leash.cancel()
        self._leash = asyncio.get_running_loop().call_later(UNASKED_SECONDS, self._abandoned)

    def _abandoned(self) -> None:
        if not self.task.done():
            log.warning("shadow_abandoned", rollout=self.order.rollout.id, seconds=UNASKED_SECONDS)
        self.task.cancel()
        if _RUNS.get(self.order.rollout.id) is self:
            del _RUNS[self.order.rollout.id]

    async def _send(self) -> None:
        try:
            async for batch in self._batches():
                self._rows.append(batch)
                self._given += [kept for seq in batch["seq"].tolist() if (kept := self._kept.pop(seq, None))]
                while sum(map(len, self._rows)) > _MOST_WAITING:
                    self._room.clear()
                    await self._room.wait()
        except PortError as error:
            self._failure = error.reason, error.target, error.detail
        except Exception as error:  # a package that is not installed here, say: the agent is to tell it, not to end
            log.exception("shadow_broke", rollout=self.order.rollout.id)
            self._failure = Unavailable.reason, "sender", f"{type(error).__name__}: {error}"

    async def _batches(self) -> AsyncIterator[Batch]:
        order, rollout, rules = self.order, self.order.rollout, Rules.from_json(self.order.rollout.analysis)
        judged = order.beginning.judged_rows
        async with AsyncExitStack() as stack:
            clients = {one.name: await stack.enter_async_context(open_client(one, order.tls)) for one in order.servers}
            source = await open_source(
                rollout.model,
                order.section,
                rollout.old,
                clients.values(),
                fields=order.fields,
                base_path=order.base_path,
            )
            assert source is not None, "no order is given without traffic"
            self._flaws = source.flaws
            batches = pairs(
                rollout=rollout,
                servers=clients,
                source=Onward(source, judged),
                limits=order.limits,
                score=unscored(order.scorer) if order.made_up else order.scorer,
                address=lambda: self.address,
                masked=lambda _: False,  # the agent knows what is loading, and masks what is reported
                next_seq=order.beginning.next_seq,
                judged_rows=set(judged),
                elapsed=self._elapsed,
                telemetry=self._telemetry,
                stopped=self.stopped,
                keep=self._keep if rules.late_labels else None,
                slices=rules.slices,
                crowded=lambda server: server in self.crowded,
                share=self.share,
            )
            async with aclosing(batches):
                async for batch in batches:
                    yield batch

    def _keep(self, seq: int, request: Request, stable: bytes | None, canary: bytes | None) -> None:
        scorer, api = self.order.scorer, request.api
        self._kept[seq] = KeptAnswers(seq, api, scorer.kept(api, stable), scorer.kept(api, canary))

    def report(self) -> Report:
        """Everything since the last one."""
        over, done = self.task.done(), self.share.done
        rows, kept, self._rows, self._given = self._rows, self._given, [], []
        self._room.set()
        return Report(
            rows=_joined(rows),
            kept=kept,
            done=done,
            sent=self.share.sent,
            counts={what: _by_reason(getattr(self._telemetry.shadow, what)) for what in _TOLD},
            stopped=frozenset(self.stopped),
            flaws={str(flaw): count for flaw, count in self._flaws.items()},
            over=over,
            failure=self._failure,
        )


_RUNS: dict[RolloutId, _Run] = {}  # of this process


async def start(order: Order) -> None:
    """Begin to send; an earlier run of the same rollout, of an agent that is gone, ends first."""
    if (before := _RUNS.pop(order.rollout.id, None)) is not None:
        await _ended(before)
    quieten()
    _RUNS[order.rollout.id] = _Run(order)


async def take(rollout: RolloutId, told: Told) -> Report:
    """What is new. Unavailable when this process has no such run: it was started anew, or nobody asked in time."""
    run = _RUNS.get(rollout)
    if run is None:
        raise Unavailable("sender", f"nothing is sent for {rollout} here (any more)")
    run.asked()
    run.address, run.crowded = told.address, told.crowded
    run.stopped |= told.stopped
    run.share.ended = run.share.ended or told.ended
    report = run.report()
    if report.over:
        del _RUNS[rollout]
    return report


async def close(rollout: RolloutId) -> Report:
    """The last report: what is out is dropped, and counted. Unavailable as for `take`."""
    run = _RUNS.pop(rollout, None)
    if run is None:
        raise Unavailable("sender", f"nothing is sent for {rollout} here (any more)")
    await _ended(run)
    return run.report()


async def _ended(run: _Run) -> None:
    run.task.cancel()
    await asyncio.gather(run.task, return_exceptions=True)


def _joined(rows: list[Batch]) -> Batch:
    return np.concatenate([empty_batch(), *rows])


def _by_reason(counter: Counter) -> dict[str, int]:
    (family,) = counter.collect()
    return {one.labels["reason"]: round(one.value) for one in family.samples if one.name.endswith("_total")}
