"""Where gauges are read from, as the config says: a Prometheus, and a meter per server's process."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass

from haldane.adapters.process import PromqlMeter, open_process_page
from haldane.adapters.promql import open_prometheus
from haldane.config import Config
from haldane.config.resources import PrometheusSection
from haldane.domain.entries import Entry
from haldane.domain.fleet import ModelName, Server, ServerConfig, ServerName
from haldane.domain.rollout import Rollout
from haldane.engine.footprint import Footprints
from haldane.engine.judging import Progress, rules_of
from haldane.engine.readings import Gauging, Meters
from haldane.engine.switchback import Switchback
from haldane.judge.gauges import Gauge
from haldane.ports import MetricSource, PortError, ProcessMeter, Store
from haldane.serving.client import ServingClient
from haldane.serving.exposition import LoadPath, load_seconds, parse


@dataclass(frozen=True)
class Sources:
    """What the config opens; none of it need be up yet."""

    prometheus: MetricSource | None
    processes: dict[ServerName, ProcessMeter]
    queries: PrometheusSection | None = None  # what tells of a process whose page nobody gave

    def add(self, server: ServerName, page: ProcessMeter | None) -> None:
        """A server has come; where nobody gave its process page, Prometheus may tell."""
        if (meter := page or self._meter(server)) is not None:
            self.processes[server] = meter

    def drop(self, server: ServerName) -> None:
        """It has left."""
        self.processes.pop(server, None)

    def _meter(self, server: ServerName) -> ProcessMeter | None:
        given = self.queries
        if self.prometheus is None or given is None or not (given.cpu or given.memory):
            return None
        return PromqlMeter(self.prometheus, server=server, cpu=given.cpu, memory=given.memory)


async def open_sources(config: Config, stack: AsyncExitStack) -> Sources:
    """The Prometheus and the process meters of this config, closed again with the stack."""
    prometheus, given = None, config.prometheus
    if given is not None:
        secret = config.prometheus_token
        prometheus = await stack.enter_async_context(
            open_prometheus(
                given.url,
                timeout_seconds=given.timeout.total_seconds(),
                token=secret.get_secret_value() if secret else None,
                ca=str(given.ca) if given.ca else None,
            )
        )
    sources = Sources(prometheus, {}, given)
    for server in config.fleet:
        sources.add(server.name, await stack.enter_async_context(open_page(server)))
    return sources


@asynccontextmanager
async def open_page(server: Server) -> AsyncIterator[ProcessMeter | None]:
    """The page where a server's process is measured; None where nobody gave one."""
    if server.process_url is None:
        yield None
        return
    async with open_process_page(server.name, server.process_url, group=server.process_group) as page:
        yield page


@dataclass(frozen=True)
class Facts:
    """What loading a version took, from what was watched and from Serving's own counters."""

    footprints: Footprints
    clients: Mapping[ServerName, ServingClient]
    base: ServerConfig

    async def of(
        self, model: ModelName, kind: Gauge, server: ServerName, version: int, *, watched_as: ModelName | None = None
    ) -> float | None:
        """Bytes or seconds; None when nobody could tell. `watched_as`: the name under which that version loaded."""
        name = watched_as or model
        if kind is Gauge.MEMORY:
            return self.footprints.bytes_of(server, name, version)
        counted = await self._counted(model, server, version)
        return self.footprints.seconds_of(server, name, version) if counted is None else counted

    async def _counted(self, model: ModelName, server: ServerName, version: int) -> float | None:
        entry = self.base.entry(model)
        if entry is None or not entry.base_path:
            return None
        try:
            page = await self.clients[server].scrape()
        except PortError:
            return None
        path = LoadPath(entry.base_path.rstrip("/"), version)
        return load_seconds(parse(page)).get(path) if page is not None else None


async def readings(rollout: Rollout, progress: Progress, meters: Meters, store: Store) -> AsyncGenerator[Entry, None]:
    """The gauges of one rollout by its frozen rules; the audit log tells when and why one cannot be read."""

    async def note(gauge: str, why: str) -> None:
        kind, data = (
            ("readings_missing", {"metric": gauge, "why": why}) if why else ("readings_back", {"metric": gauge})
        )
        try:
            await asyncio.to_thread(lambda: store.record(kind, data, rollout=rollout.id, model=rollout.model))
        except PortError:
            return  # the store is away; the log and our own metrics tell it too

    def follow(switchback: Switchback | None) -> None:
        progress.switchback = switchback

    rules, measured = rules_of(rollout).gauges, frozenset(progress.measured)

    def clock() -> float:
        return progress.elapsed() + progress.held()

    gauging = Gauging(rollout, rules, meters, clock, note, measured, follow, progress.held)
    async with aclosing(gauging.entries()) as entries:
        async for entry in entries:
            yield entry
