"""The gauges of one rollout: asked by a clock, written down as entries of the evidence log.

What a reading means is the judge's affair. One that cannot be had is written
as NaN, so that the log shows it was tried, and why is told once, when it
begins and when it is over.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from string import Template

import numpy as np
import structlog

from haldane.domain.entries import READING_DTYPE, Entry
from haldane.domain.fleet import ModelName, ServerName
from haldane.domain.rollout import Rollout
from haldane.engine.switchback import Switchback
from haldane.judge.gauges import Gauge, GaugeRule
from haldane.judge.switchback import Schedule
from haldane.ports import MetricSource, PortError, ProcessMeter, Unavailable
from haldane.rollout.wanted import has_second_name, named_apart, second_name
from haldane.telemetry import Telemetry

log = structlog.get_logger()

_FLEET = -1  # the server of a reading that is of none in particular
Row = tuple[int, float, float]  # server, stable, canary
NOTHING = math.nan


@dataclass(kw_only=True)
class Meters:
    """What gauges are read from."""

    source: MetricSource | None  # for queries
    processes: Mapping[ServerName, ProcessMeter]
    fact: Callable[[Gauge, ServerName, int], Awaitable[float | None]]  # what loading that version took there
    loading: Callable[[ServerName], bool]
    telemetry: Telemetry
    names: Callable[[], tuple[ModelName, ModelName] | None] | None = None  # of stable and canary now; as `names_of`


@dataclass
class Gauging:
    """Reads the gauges of one rollout for as long as `entries` is iterated.

    `elapsed` are seconds of judging and of `held`, in which a person is waited for.
    `measured` are places of the gauges that gave readings before. `note` is told
    when a gauge cannot be read (why) and when it can again (""). `on_switchback`
    is handed the switchback while pairs are to follow one.
    """

    rollout: Rollout
    rules: Sequence[GaugeRule]
    meters: Meters
    elapsed: Callable[[], float]
    note: Callable[[str, str], Awaitable[None]]
    measured: Set[int] = frozenset()
    on_switchback: Callable[[Switchback | None], None] = lambda _: None
    held: Callable[[], float] = lambda: 0.0
    _queue: asyncio.Queue[Entry] = field(default_factory=lambda: asyncio.Queue(1000))
    _troubled: dict[str, str] = field(default_factory=dict)

    async def entries(self) -> AsyncGenerator[Entry, None]:
        """Readings as they come. Close it with `contextlib.aclosing`."""
        ways = {Gauge.QUERY: self._query, Gauge.CPU: self._cpu, Gauge.GROWTH: self._growth}
        tasks = [
            asyncio.create_task(ways.get(rule.kind, self._fact)(index, rule), name=f"gauge {rule.name}")
            for index, rule in enumerate(self.rules)
            if not (rule.kind.fact and index in self.measured) and self._readable(rule)
        ]
        try:
            while tasks or not self._queue.empty():
                waiting = asyncio.create_task(self._queue.get())
                await asyncio.wait((waiting, *tasks), return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    yield waiting.result()
                else:
                    waiting.cancel()
                for ended in [task for task in tasks if task.done()]:
                    ended.result()  # raises what ended it; a gauge that is done for good just ends
                    tasks.remove(ended)
        finally:
            self.on_switchback(None)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _readable(self, rule: GaugeRule) -> bool:
        """CPU is told apart by many pairs; while a person is waited for there is one a second."""
        return not (rule.kind is Gauge.CPU and self.rollout.exposed)

    # --- the ways ----------------------------------------------------------------

    async def _query(self, index: int, rule: GaugeRule) -> None:
        apart = "server" in Template(rule.query).get_identifiers()
        asked = self._places(self.rollout.present) if apart else [(_FLEET, None)]
        async for at in self._ticks(rule):
            rows = await asyncio.gather(*(self._sides(rule, place, name) for place, name in asked))
            await self._write(index, rule, at, rows)

    async def _sides(self, rule: GaugeRule, place: int, server: ServerName | None) -> Row:
        if self.meters.source is None:
            await self._trouble(rule, "no prometheus is configured")
            return place, NOTHING, NOTHING
        names = (self.meters.names or partial(names_of, self.rollout))()
        if names is None and "model" in Template(rule.query).get_identifiers():
            await self._trouble(rule, "servers are promoted by now, so the two names do not tell the versions apart")
            return place, NOTHING, NOTHING
        sides = zip(names or (self.rollout.model,) * 2, self._versions, strict=True)
        queries = [fill_in(rule.query, name, version, side, server) for name, (side, version) in sides]
        stable, canary = await asyncio.gather(*(self._number(rule, self.meters.source.ask(one)) for one in queries))
        return place, stable, canary

    async def _growth(self, index: int, rule: GaugeRule) -> None:
        meters = [
            (place, self.meters.processes[name])
            for place, name in self._places(self.rollout.present)
            if name in self.meters.processes
        ]
        async for at in self._ticks(rule):
            read = await asyncio.gather(*(self._number(rule, meter.resident_bytes()) for _, meter in meters))
            rows = [(place, NOTHING, value) for (place, _), value in zip(meters, read, strict=True)]
            await self._write(index, rule, at, rows or [(_FLEET, NOTHING, NOTHING)])

    async def _fact(self, index: int, rule: GaugeRule) -> None:
        """Once: as soon as it is known on every server, or what is known when the warm-up is over."""
        async for at in self._ticks(rule):
            rows = [(place, *await self._loads(rule, name)) for place, name in self._places(self.rollout.shadowed)]
            complete = not any(math.isnan(canary) for _, _, canary in rows)
            if complete or at >= rule.warmup_seconds:
                if not complete:
                    await self._trouble(rule, "not every server's load was watched alone and from before it began")
                return await self._write(index, rule, at, rows)

    async def _loads(self, rule: GaugeRule, name: ServerName) -> tuple[float, float]:
        known = [await self.meters.fact(rule.kind, name, version) for version in (self.rollout.old, self.rollout.new)]
        stable, canary = (NOTHING if value is None else value for value in known)
        return stable, canary

    async def _cpu(self, index: int, rule: GaugeRule) -> None:
        shadowed = self.rollout.shadowed
        meters = {name: self.meters.processes[name] for name in shadowed if name in self.meters.processes}
        switchback = Switchback(
            Schedule(rule.block_seconds, rule.warmup_seconds),
            self.rollout.servers,
            meters,
            elapsed=self.elapsed,
            loading=self.meters.loading,
        )
        if not meters:
            return await self._trouble(rule, "no shadowed server says where its CPU is measured (process_url)")
        self.on_switchback(switchback)
        told = index in self.measured
        async for couples in switchback.couples():
            for why in switchback.why.values():
                await self._trouble(rule, why)
            rows = [(place, *(cost or (NOTHING, NOTHING))) for place, cost in couples.items()]
            told = told or any(cost is not None for cost in couples.values())
            if not switchback.why:
                await self._well(rule)
            await self._write(index, rule, self.elapsed(), rows)
            if not told and self.elapsed() > rule.last_entry:  # it stays out, so half of the pairs would be for nothing
                return self.on_switchback(None)

    @property
    def _versions(self) -> tuple[tuple[str, int], tuple[str, int]]:
        return ("stable", self.rollout.old), ("canary", self.rollout.new)

    def _places(self, names: Sequence[ServerName]) -> list[tuple[int, ServerName]]:
        return [(self.rollout.servers.index(name), name) for name in names]

    # --- reading and writing -----------------------------------------------------

    async def _ticks(self, rule: GaugeRule) -> AsyncIterator[float]:
        """Seconds of judging, every so often; what was missed while a reading took long is left out."""
        due = self.elapsed()
        while True:
            yield self.elapsed()
            while due <= self.elapsed():
                due += rule.every_seconds
            await asyncio.sleep(due - self.elapsed())

    async def _number(self, rule: GaugeRule, reading: Awaitable[float]) -> float:
        try:
            async with asyncio.timeout(2 * rule.every_seconds):
                value = await reading
        except TimeoutError:
            await self._trouble(rule, Unavailable(rule.name, f"no answer within {2 * rule.every_seconds:g} s"))
            return NOTHING
        except PortError as error:
            await self._trouble(rule, error)
            return NOTHING
        return value

    async def _write(self, index: int, rule: GaugeRule, at: float, rows: Sequence[Row]) -> None:
        entry = np.zeros(len(rows), READING_DTYPE)
        entry["at"], entry["metric"], entry["held"] = at, index, self.held()
        entry["server"], entry["stable"], entry["canary"] = zip(*rows, strict=True)
        if not np.isnan(entry["canary"]).any():
            await self._well(rule)
        await self._queue.put(entry)

    async def _trouble(self, rule: GaugeRule, why: PortError | str) -> None:
        reason = why.reason if isinstance(why, PortError) else "no_data"
        self.meters.telemetry.rollout.reading_errors.labels(self.rollout.model, rule.name, reason).inc()
        if self._troubled.get(rule.name) != str(why):
            self._troubled[rule.name] = str(why)
            log.warning("reading_failed", rollout=self.rollout.id, gauge=rule.name, why=str(why))
            await self.note(rule.name, str(why))

    async def _well(self, rule: GaugeRule) -> None:
        if self._troubled.pop(rule.name, None) is not None:
            log.info("reading_recovered", rollout=self.rollout.id, gauge=rule.name)
            await self.note(rule.name, "")


def names_of(rollout: Rollout) -> tuple[ModelName, ModelName] | None:
    """What Serving calls stable and canary in its own series; None where they do not tell the versions apart.

    It has no series by version, so only a canary with a name of its own shows there, and only until the first server
    is promoted. In any other placement both are called alike, and the query itself must tell them apart.
    """
    if not has_second_name(rollout):
        return rollout.model, rollout.model
    return None if rollout.promoted or not named_apart(rollout) else (rollout.model, second_name(rollout.model))


def fill_in(query: str, model: ModelName, version: int, side: str, server: ServerName | None) -> str:
    """The query of one side ("stable", "canary"), names written as PromQL writes them inside quotes."""
    values = {"model": model, "version": str(version), "side": side, "server": server or ""}
    return Template(query).substitute(
        {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in values.items()}
    )
