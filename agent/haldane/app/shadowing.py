"""The shadow of one rollout, put together: sent from this process, or spread over workers elsewhere."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from haldane.adapters.dask import open_workers
from haldane.adapters.kafka import Topic
from haldane.app import sender
from haldane.app.golden import GoldenFirst
from haldane.app.sources import Onward, Source
from haldane.domain.rollout import Rollout
from haldane.domain.traffic import Batch, Request
from haldane.engine.addressing import Addressing, current
from haldane.engine.judging import HELD_RATE, Progress
from haldane.engine.merging import KeptAnswers, Report, Told
from haldane.engine.pairing import ShadowLimits, pairs
from haldane.engine.spread import ASK_SECONDS, Beginning, Spread
from haldane.judge.rules import Rules
from haldane.ports import Flaw, TrafficSource, Workers
from haldane.serving.shadow import unscored

if TYPE_CHECKING:
    from haldane.app.parts import Parts

_START_SECONDS = 60.0  # a worker imports all that it needs at its first order


async def shadow(parts: "Parts", rollout: Rollout, progress: Progress) -> AsyncGenerator[Batch, None]:
    """Pairs for one rollout, from its model's source, on the servers that may be shadowed."""
    await parts.prepare(rollout.model)
    source = parts.sources.get(rollout.model)
    if source is None:
        return
    one = _Shadow(parts, rollout, progress, source)
    for stream in one.streams():
        async with aclosing(stream):
            async for batch in stream:
                yield batch


class _Shadow:
    def __init__(self, parts: "Parts", rollout: Rollout, progress: Progress, source: Source) -> None:
        self._parts, self._rollout, self._progress, self._source = parts, rollout, progress, source
        self._rules = Rules.from_json(rollout.analysis)
        self._scorer = parts.scorer(rollout.model)
        self._address: Callable[[], Addressing] = current(lambda: parts.desk.rollout(rollout.id) or rollout)
        section = parts.config.models.get(rollout.model)
        self._made_up = section is not None and section.traffic is not None and section.traffic.synthetic

    def streams(self) -> list[AsyncGenerator[Batch, None]]:
        """One after the other; a golden set, which is small, is sent from here in any case."""
        golden = self._parts.golden.get(self._rollout.model)
        traffic: TrafficSource = Onward(self._source, self._progress.judged_rows)
        judged = self._progress.judged_rows
        if self._parts.config.shadow.dask is None:
            return [self._here(traffic if golden is None else GoldenFirst(golden, traffic, judged))]
        first = [] if golden is None else [self._here(GoldenFirst(golden, _Nothing(), judged))]
        return [*first, self._elsewhere(self._parts.config.shadow.dask)]

    @property
    def _limits(self) -> ShadowLimits:
        shadow, clients = self._parts.config.shadow, self._parts.clients
        threads = {name: clients[name].server.grpc_threads for name in self._rollout.shadowed if name in clients}
        return ShadowLimits(
            pairs_per_second=min(shadow.rate, HELD_RATE) if self._rollout.exposed else shadow.rate,
            concurrency=shadow.pairs_at_once(),
            concurrency_on={name: shadow.pairs_at_once(own) for name, own in threads.items() if own is not None},
            bytes_in_flight=shadow.bytes_in_flight,
            deadline_seconds=shadow.deadline.total_seconds(),
            aa_share=0.0 if self._rollout.first else shadow.aa_share,
        )

    def _keep(self, seq: int, request: Request, stable: bytes | None, canary: bytes | None) -> None:
        api, kept = request.api, self._scorer.kept
        self._progress.answers.keep(seq, api, kept(api, stable), kept(api, canary))

    def _here(self, source: TrafficSource) -> AsyncGenerator[Batch, None]:
        parts, rollout, progress = self._parts, self._rollout, self._progress
        return pairs(
            rollout=rollout,
            servers={name: parts.clients[name] for name in rollout.shadowed if name in parts.clients},
            source=source,
            limits=self._limits,
            score=unscored(self._scorer) if self._made_up else self._scorer,
            address=self._address,
            masked=lambda server: parts.loading(rollout.model, server),
            next_seq=progress.next_seq,
            judged_rows=progress.judged_rows,
            elapsed=progress.elapsed,
            telemetry=parts.telemetry,
            stopped=parts.exhausted.setdefault(rollout.id, set()),
            keep=self._keep if self._rules.late_labels else None,
            slices=self._rules.slices,
            finished=self._source.finished if isinstance(self._source, Topic) else lambda _: None,
            crowded=parts.batch_waits.crowded,
            switched=lambda server: progress.switchback is not None and progress.switchback.aa(server),
        )

    async def _elsewhere(self, scheduler: str) -> AsyncGenerator[Batch, None]:
        parts, rollout, progress = self._parts, self._rollout, self._progress
        async with open_workers(scheduler) as workers:
            spread = Spread(
                senders=RemoteSenders(workers, self._order, rollout),
                rollout=rollout,
                most=min([self._limits.concurrency, *self._limits.concurrency_on.values()]),
                address=self._address,
                masked=lambda server: parts.loading(rollout.model, server),
                crowded=parts.batch_waits.crowded,
                next_seq=progress.next_seq,
                judged_rows=progress.judged_rows,
                elapsed=progress.elapsed,
                telemetry=parts.telemetry,
                stopped=parts.exhausted.setdefault(rollout.id, set()),
                keep=self._keep_reported,
                flawed=self._flawed,
            )
            async with aclosing(spread.batches()) as batches:
                async for batch in batches:
                    yield batch

    def _order(self, index: int, beginning: Beginning) -> sender.Order:
        parts, rollout, config = self._parts, self._rollout, self._parts.config
        return sender.Order(
            rollout=rollout,
            section=config.models[rollout.model],
            base_path=config.base_path(rollout.model),
            fields=config.fields_of(rollout.model),
            servers=tuple(parts.clients[name].server for name in rollout.shadowed if name in parts.clients),
            tls=parts.tls,
            limits=split(self._limits, index, beginning.of),
            scorer=self._scorer,
            made_up=self._made_up,
            address=self._address(),
            stopped=frozenset(parts.exhausted.get(rollout.id, ())),
            index=index,
            beginning=beginning,
        )

    def _keep_reported(self, seq: int, kept: KeptAnswers) -> None:
        self._progress.answers.keep(seq, kept.api, kept.stable, kept.canary)

    def _flawed(self, totals: Mapping[str, int]) -> None:
        """Every sender reads the whole source, so the one that is furthest knows of all."""
        for name, total in totals.items():
            if (more := total - self._source.flaws[Flaw(name)]) > 0:
                self._source.flaws[Flaw(name)] = total
                self._parts.telemetry.shadow.unusable.labels(self._rollout.model, name).inc(more)


def split(limits: ShadowLimits, index: int, of: int) -> ShadowLimits:
    """What one of so many senders may, so that all together keep the limits; at least one pair at once."""

    def part(pairs_at_once: int) -> int:
        return max(1, pairs_at_once // of + (index < pairs_at_once % of))

    return replace(
        limits,
        pairs_per_second=limits.pairs_per_second / of,
        concurrency=part(limits.concurrency),
        concurrency_on={server: part(number) for server, number in limits.concurrency_on.items()},
        bytes_in_flight=limits.bytes_in_flight // of,
        batch_seconds=ASK_SECONDS,
        look_seconds=ASK_SECONDS / 2,
    )


class RemoteSenders:
    """The workers as `engine.spread` sees them."""

    def __init__(self, workers: Workers, order: Callable[[int, Beginning], sender.Order], rollout: Rollout) -> None:
        self._workers, self._order, self._rollout = workers, order, rollout
        self.names = workers.names

    async def start(self, name: str, index: int, beginning: Beginning) -> None:
        await self._workers.ask(name, sender.start, self._order(index, beginning), seconds=_START_SECONDS)

    async def take(self, name: str, told: Told) -> Report:
        return await self._workers.ask(name, sender.take, self._rollout.id, told)

    async def close(self, name: str) -> Report:
        return await self._workers.ask(name, sender.close, self._rollout.id)


class _Nothing:
    """Traffic that is over."""

    async def requests(self) -> AsyncIterator[Request]:
        for request in tuple[Request, ...]():
            yield request
