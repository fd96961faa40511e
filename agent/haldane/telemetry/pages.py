"""The metrics pages: the agent's, and the tap's."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from haldane.telemetry.series import (
    AgentSeries,
    CheckSeries,
    FleetSeries,
    GatewaySeries,
    ListSeries,
    Own,
    ReleaseSeries,
    RolloutSeries,
    ShadowSeries,
)


@dataclass(frozen=True)
class Telemetry:
    """Every metric the agent exports, by what it is of. The registry is an argument, so a test has its own."""

    registry: CollectorRegistry
    agent: AgentSeries
    fleet: FleetSeries
    lists: ListSeries
    gateway: GatewaySeries
    shadow: ShadowSeries
    releases: ReleaseSeries
    rollout: RolloutSeries
    check: CheckSeries

    @classmethod
    def on(cls, registry: CollectorRegistry) -> "Telemetry":
        own: Own = {"namespace": "haldane", "registry": registry}
        ProcessCollector(registry=registry)  # process_cpu_seconds_total and the like, as every exporter has them
        return cls(
            registry,
            agent=AgentSeries(own),
            fleet=FleetSeries(own),
            lists=ListSeries(own),
            gateway=GatewaySeries(own),
            shadow=ShadowSeries(own),
            releases=ReleaseSeries(own),
            rollout=RolloutSeries(own),
            check=CheckSeries(own),
        )

    def forget_server(self, server: str) -> None:
        """Drop every series of a server that has left: pods come under new names for ever."""
        fleet = self.fleet
        for family in (
            fleet.server_up,
            fleet.last_look,
            fleet.scrape_errors,
            fleet.label_version,
            fleet.version_state,
            fleet.reloads,
            self.shadow.pairs,
        ):
            family.remove_by_labels({"server": server})


@dataclass(frozen=True)
class TapTelemetry:
    """Every metric that `haldane tap` exports on its own page."""

    build: Gauge
    received: Counter
    copies: Counter

    @classmethod
    def on(cls, registry: CollectorRegistry) -> "TapTelemetry":
        own: Own = {"namespace": "haldane_tap", "registry": registry}
        return cls(
            build=Gauge("build_info", "Always 1; the tap's version.", ["version"], **own),
            received=Counter(
                "received_total",
                "Mirrored calls by what they were: ok, or, of no model of ours: too_large, other_model, other_method,"
                " unreadable, full (too much was being received at once).",
                ["model", "result"],
                **own,
            ),
            copies=Counter(
                "copies_total",
                "Calls drawn for a use (shadow, record) by what became of them: given (handed to the agent, or"
                " written), full (no room to wait), unreadable, no_signature (a REST body, and no server says what the"
                " model takes), left (the agent stopped asking), disk (could not be written),"
                " stopped (no time was left for it).",
                ["model", "use", "result"],
                **own,
            ),
        )
