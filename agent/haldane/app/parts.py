"""What the agent has opened: servers, store, desk, sources. Every part knows only what it is given here."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, disable_created_metrics

import haldane
from haldane.adapters.sql import SqlStore, open_store
from haldane.app.access import tls_of, writable
from haldane.app.atrest import declared_at_of, moved, put_at_rest
from haldane.app.gateways import open_routers
from haldane.app.golden import Golden, open_golden
from haldane.app.meters import Facts, Sources, open_sources, readings
from haldane.app.sources import Source, answered_by, first_request, open_source, signatures_of
from haldane.config import Config
from haldane.config.freeze import frozen
from haldane.domain.entries import Entry
from haldane.domain.fleet import Availability, ModelEntry, ModelName, Placement, ReplicaView, ServerConfig, ServerName
from haldane.domain.rollout import Rollout, RolloutId
from haldane.engine.batchwaits import BatchWaits
from haldane.engine.desk import Desk
from haldane.engine.footprint import Footprints
from haldane.engine.judging import Progress
from haldane.engine.labels import Labels, LabelTerms
from haldane.engine.lease import Lease
from haldane.engine.readings import Meters, names_of
from haldane.judge.gauges import Gauge
from haldane.ports import PortError, Refused, Router
from haldane.rollout.ramp import GatewayView
from haldane.rollout.wanted import has_second_name, second_name
from haldane.serving.channel import Tls
from haldane.serving.client import ServingClient, open_client
from haldane.serving.foreign import foreign_models
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry

log = structlog.get_logger()

SOURCE_RETRY_SECONDS = 5.0


class SystemClock:
    """Wall time, UTC seconds."""

    def now(self) -> float:
        return time.time()


@dataclass
class Parts:
    """Everything opened, for the functions that put tasks together."""

    config: Config
    clients: dict[ServerName, ServingClient]
    store: SqlStore
    desk: Desk
    telemetry: Telemetry
    lease: Lease
    gauges_from: Sources
    footprints: Footprints
    batch_waits: BatchWaits
    declared_at: Mapping[ModelName, float]  # when it was written which version is stable; seconds, wall clock
    clock: SystemClock = field(default_factory=SystemClock)
    tls: Tls | None = None  # to the servers
    routers: Mapping[str, Router] = field(default_factory=dict)
    sources: dict[ModelName, Source] = field(default_factory=dict)
    golden: dict[ModelName, Golden] = field(default_factory=dict)
    exhausted: dict[RolloutId, set[ServerName]] = field(default_factory=dict)  # ran out of threads: not shadowed again
    _loading: dict[ServerName, tuple[ReplicaView, bool]] = field(default_factory=dict)

    async def prepare(self, model: ModelName) -> None:
        """Open the model's source and take its golden request, then its golden set; PortError when one cannot be read.

        The request first: labels are restored with it, whatever is wrong with the set.
        """
        if model in self.sources and (model in self.golden or self.config.models[model].golden is None):
            return
        if model not in self.config.models or model not in self.desk.watched:
            raise Refused(model, "a rollout of it is live, but the config does not have it any more")
        section, watched = self.config.models[model], self.desk.watched[model]
        clients, fields = self.clients.values(), self.config.fields_of(model)
        source = self.sources.get(model) or await open_source(
            model,
            section,
            watched.stable,
            clients,
            fields=fields,
            base_path=self.config.base_path(model),
            tap_socket=self.config.tap_socket,
            on_flaw=lambda flaw: self.telemetry.shadow.unusable.labels(model, flaw).inc(),
        )
        if source is None:
            return
        if model not in self.sources:
            # A first version has no stable one beside it that could say whether a request can be answered.
            answers = answered_by(model, watched.stable, clients) if watched.released else None
            self.desk.golden[model] = await first_request(source, answers)
            self.desk.watched[model] = replace(self.desk.watched[model], provable=True)
            self.sources[model] = source
        if section.golden is not None:
            signatures = await signatures_of(model, watched.stable, clients)
            golden = await open_golden(model, section, signatures, fields=self.config.analysis_of(model).fields)
            self.golden |= {model: golden} if golden else {}

    async def keep_preparing(self) -> None:
        """Golden requests are wanted from the start, so that labels can be restored after a restart."""
        prepared = set[ModelName]()
        while True:  # a first version's model is watched only from its rollout on
            for model in sorted(set(self.desk.watched) - prepared):
                try:
                    await self.prepare(model)
                    prepared.add(model)
                except PortError as error:
                    log.warning("source_not_ready", model=model, detail=str(error))
            await asyncio.sleep(SOURCE_RETRY_SECONDS)

    async def note(self, kind: str, data: dict[str, Any]) -> None:
        """An audit record of what is done to a server or a gateway, stored when this returns."""
        await asyncio.to_thread(self.store.record, kind, data)

    async def clear(self, server: ServerName) -> str:
        known, client = self.desk.servers.get(server), self.clients.get(server)
        if known is None or client is None:
            return f"{server} has just left the fleet"
        return await foreign_models(self.desk.base, known, client, self._second_names(server))

    def _second_names(self, server: ServerName) -> dict[ModelName, tuple[int, ...]]:
        """Every name that a canary has or may get there, and the versions that a rollout of ours may have put there."""
        names: dict[ModelName, tuple[int, ...]] = {
            second_name(ModelName(model)): ()
            for model, section in self.config.models.items()
            if section.where is Placement.SECOND_NAME
        }
        return names | {name: (one.stable, one.new) for name, one in self.desk.seconds(server).items()}

    def loading(self, model: ModelName, server: ServerName) -> bool:
        """Some model is loading there, so latency says nothing of a version. Asked twice for each pair."""
        view = self.desk.views.get(server)
        if view is None:
            return False
        known = self._loading.get(server)
        if known is None or known[0] is not view:  # a server may have a thousand versions, so once for each look
            states = (status.availability for seen in view.models.values() for status in seen.versions)
            known = self._loading[server] = view, Availability.LOADING in states
        return known[1]

    def scorer(self, model: ModelName) -> Scorer:
        return Scorer(self.config.outputs_of(model).rule())

    def unusable(self) -> dict[ModelName, dict[str, int]]:
        """Records of each model's source that are no request, by reason, for those that have any."""
        return {
            model: {str(flaw): count for flaw, count in source.flaws.items()}
            for model, source in self.sources.items()
            if source.flaws
        }

    def labels(self) -> Labels:
        """Labels of all models, joined by this process."""
        return Labels(self.store, self.clock, self.telemetry, self.label_terms, self.scorer)

    def label_terms(self, model: ModelName) -> LabelTerms | None:
        """What the config says of its labels; None when it declares none, or has the model no more."""
        section = self.config.models.get(model)
        if section is None or section.labels is None:
            return None
        return LabelTerms(section.labels.wait.total_seconds(), count_late=section.labels.late == "count")

    def readings(self, rollout: Rollout, progress: Progress) -> AsyncGenerator[Entry, None]:
        """The gauges of one rollout."""
        facts, apart = Facts(self.footprints, self.clients, self.desk.base), has_second_name(rollout)

        async def fact(kind: Gauge, server: ServerName, version: int) -> float | None:
            name = second_name(rollout.model) if apart and version == rollout.new else rollout.model
            return await facts.of(rollout.model, kind, server, version, watched_as=name)

        meters = Meters(
            source=self.gauges_from.prometheus,
            processes=self.gauges_from.processes,
            fact=fact,
            loading=lambda server: self.loading(rollout.model, server),
            names=lambda: names_of(self.desk.rollout(rollout.id) or rollout),
            telemetry=self.telemetry,
        )
        return readings(rollout, progress, meters, self.store)


async def open_parts(config: Config, stack: AsyncExitStack) -> Parts:
    """Everything opened, closed again with the stack. PortError when the store, state_dir or a TLS file cannot be."""
    with writable(config):
        config.state_dir.mkdir(parents=True, exist_ok=True)
    store = await asyncio.to_thread(open_store, config.store_url.get_secret_value())
    stack.callback(store.close)
    tls = tls_of(config)
    clients = {server.name: await stack.enter_async_context(open_client(server, tls)) for server in config.fleet}
    # A second series for each counter would only say when it began.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    telemetry = Telemetry.on(CollectorRegistry())
    telemetry.agent.build.labels(haldane.__version__).set(1)
    telemetry.agent.mode.labels(config.mode).set(1)
    lease = Lease(store)
    stack.push_async_callback(lease.release)
    gauges_from = await open_sources(config, stack)
    kinds = {rule.kind for name in config.models for rule in config.rules_of(name).gauges}
    footprints = Footprints(gauges_from.processes if Gauge.MEMORY in kinds or config.limits_memory else {})
    longest = config.shadow.batching_delay
    waits = BatchWaits(longest.total_seconds() if longest else None)
    declared_at = declared_at_of(config)
    desk = _desk(config, store, declared_at)
    routers = await open_routers(config, desk, stack)
    desk.gateways |= {name: GatewayView(None, "it has not been looked at yet") for name in routers}
    return Parts(
        config,
        clients,
        store,
        desk,
        telemetry,
        lease,
        gauges_from,
        footprints,
        waits,
        declared_at,
        tls=tls,
        routers=routers,
    )


def _desk(config: Config, store: SqlStore, declared_at: Mapping[ModelName, float]) -> Desk:
    base = config.base or ServerConfig(tuple(ModelEntry(name=ModelName(name), base_path="") for name in config.models))
    servers = {server.name: server for server in config.fleet}
    desk = Desk(mode=config.mode, servers=servers, base=base, watched={}, vouches=True)
    desk.frozen = lambda model, at: frozen(config.freeze, config.full_name(model), at)
    put_at_rest(config, desk, store.settled(), moved(store), declared_at)
    return desk


def api_token(config: Config) -> str:
    """The API's token: the configured one, or a random one that only this user can read."""
    if config.token is not None:
        return config.token.get_secret_value()
    path = config.token_path
    with writable(config):
        if not path.exists():
            fresh = path.with_suffix(".new")
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
            fresh.rename(path)
        return path.read_text().strip()
