"""Every metric the agent exports, and how its logs look.

Labels come from closed sets only, never a rollout id or anything out of a
request; docs/reference/metrics.md says how many series that makes.
"""

import logging
import sys
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector


@dataclass(frozen=True)
class Telemetry:
    """Every metric the agent exports. The registry is an argument, so a test has its own."""

    registry: CollectorRegistry
    build: Gauge
    mode: Gauge
    may_act: Gauge
    server_up: Gauge
    last_look: Gauge
    scrape_errors: Counter
    storage_errors: Counter
    label_version: Gauge
    version_state: Gauge
    load_requests: Counter
    load_failures: Counter
    condition: Gauge
    reloads: Counter
    share_wanted: Gauge
    share_seen: Gauge
    share_orders: Counter
    sent: Counter
    pairs: Counter
    outcomes: Counter
    set_aside: Counter
    dropped: Counter
    senders: Gauge
    unusable: Counter
    tap_up: Gauge
    shed: Counter
    labels: Counter
    denied: Counter
    callers_refused: Counter
    releases: Counter
    releases_pending: Gauge
    releases_flapping: Gauge
    taken_back: Counter
    phase: Gauge
    phase_started: Gauge
    transitions: Counter
    verdict: Gauge
    check: Gauge
    check_state: Gauge
    check_estimate: Gauge
    check_lower: Gauge
    check_upper: Gauge
    check_margin: Gauge
    check_evidence: Gauge
    stable_failing: Gauge
    servers_set_aside: Gauge
    notifications: Counter
    reading_errors: Counter
    listed: Gauge
    list_failing: Gauge
    boot_config_behind: Gauge
    list_errors: Counter

    @classmethod
    def on(cls, registry: CollectorRegistry) -> "Telemetry":
        own: Any = {"namespace": "haldane", "registry": registry}
        check = ["model", "metric"]
        ProcessCollector(registry=registry)  # process_cpu_seconds_total and the like, as every exporter has them
        return cls(
            registry=registry,
            build=Gauge("build_info", "Always 1; the agent's version.", ["version"], **own),
            mode=Gauge("mode_info", "Always 1; observe or enforce.", ["mode"], **own),
            may_act=Gauge("may_act", "1 while the agent holds the store's lease, which is the right to act.", **own),
            server_up=Gauge("server_up", "1 when the last look at the server succeeded.", ["server"], **own),
            last_look=Gauge("last_look_timestamp_seconds", "When the server was last seen.", ["server"], **own),
            scrape_errors=Counter("scrape_errors_total", "Unreadable lines or pages.", ["server", "reason"], **own),
            storage_errors=Counter("storage_errors_total", "Base paths that could not be listed.", ["reason"], **own),
            label_version=Gauge(
                "label_version", "The version a label resolves to, -1: to nothing.", ["model", "server", "label"], **own
            ),
            version_state=Gauge(
                "version_state",
                "Serving's own number of the version's state: 10 START, 20 LOADING, 30 AVAILABLE, 40 UNLOADING, 50 END;"
                " of those that ended only the failed ones are here.",
                ["model", "version", "server"],
                **own,
            ),
            load_requests=Counter(
                "tensorflow_serving_load_requests_total",
                "Load attempts, from status and load counters; Serving has no such series.",
                ["model", "version"],
                registry=registry,
            ),
            load_failures=Counter(
                "tensorflow_serving_load_failures_total",
                "Load attempts that failed, from status and load counters.",
                ["model", "version"],
                registry=registry,
            ),
            condition=Gauge(
                "condition",
                "Always 1, and there while the condition holds; version and model are empty where it is of none.",
                ["condition", "model", "version"],
                **own,
            ),
            reloads=Counter("reloads_total", "Configs sent to a server.", ["server", "result"], **own),
            share_wanted=Gauge(
                "gateway_share_wanted_ratio",
                "Share of users' calls that the gateway should send to the canary's servers.",
                ["gateway"],
                **own,
            ),
            share_seen=Gauge(
                "gateway_share_seen_ratio",
                "Share of users' calls that the gateway says it sends there; NaN when it cannot be read.",
                ["gateway"],
                **own,
            ),
            share_orders=Counter("gateway_orders_total", "Shares set on a gateway.", ["gateway", "result"], **own),
            sent=Counter(
                "pairs_sent_total",
                "Shadow pairs sent. Each is counted once more: in pairs, pairs_set_aside (but for duplicates, which are"
                " not sent) or pairs_dropped.",
                ["model"],
                **own,
            ),
            pairs=Counter("pairs_total", "Shadow pairs that count.", ["model", "server", "kind"], **own),
            outcomes=Counter(
                "pair_outcomes_total",
                "How the sides of the pairs ended that count; A/A pairs left out.",
                ["model", "side", "status"],
                **own,
            ),
            set_aside=Counter("pairs_set_aside_total", "Shadow pairs that do not count.", ["model", "reason"], **own),
            dropped=Counter(
                "pairs_dropped_total",
                "Shadow pairs sent but not judged, because shadowing ended: in_flight, or waiting for an earlier one;"
                " sender_lost: a Dask worker was lost with them.",
                ["model", "reason"],
                **own,
            ),
            senders=Gauge("shadow_senders", "Dask workers that send shadow pairs now.", ["model"], **own),
            unusable=Counter(
                "traffic_records_unusable_total",
                "Records of a traffic source that are no request: truncated, checksum, format, other_model, signature,"
                " label, excluded. Each counts once, however often a set is read.",
                ["model", "reason"],
                **own,
            ),
            tap_up=Gauge(
                "tap_up", "1 when the tap that the model's requests come from answered last time.", ["model"], **own
            ),
            shed=Counter("shadow_shed_total", "Requests not shadowed, to protect stable.", ["model", "reason"], **own),
            labels=Counter(
                "labels_total",
                "Labels by what became of them: accepted, duplicate, malformed (of a topic); joined, late, unusable,"
                " unknown (no pair came), dropped (too many). no_room: pairs that could not be kept to wait for one.",
                ["model", "result"],
                **own,
            ),
            denied=Counter("denied_total", "What people who are known wanted and may not.", ["right"], **own),
            callers_refused=Counter(
                "callers_refused_total",
                "Calls by whom nobody here knows: no token, unknown token, unknown certificate, not the proxy, a page.",
                ["reason"],
                **own,
            ),
            releases=Counter(
                "releases_total",
                "Announced releases by what became of them: started, refused, passed_over; unreadable (of a topic).",
                ["model", "result"],
                **own,
            ),
            releases_pending=Gauge("releases_pending", "Announced releases that wait.", ["model"], **own),
            releases_flapping=Gauge(
                "releases_flapping",
                "1 while announced releases wait for a person, after too many that went back.",
                ["model"],
                **own,
            ),
            taken_back=Counter(
                "promotions_taken_back_total", "Promotions undone because labels showed harm later.", ["model"], **own
            ),
            phase=Gauge("rollout_phase", "1 for the phase the newest rollout is in.", ["model", "phase"], **own),
            phase_started=Gauge(
                "rollout_phase_started_timestamp_seconds", "When that phase was entered.", ["model"], **own
            ),
            transitions=Counter(
                "rollout_transitions_total", "Phase changes that were stored.", ["model", "phase"], **own
            ),
            verdict=Gauge("verdict", "1 for the newest rollout's verdict.", ["model", "verdict"], **own),
            check=Gauge(
                "check_info",
                "Always 1; the unit of a check's numbers and what it may do.",
                [*check, "unit", "role"],
                **own,
            ),
            check_state=Gauge("check_state", "1 for what the check's evidence says.", [*check, "state"], **own),
            check_estimate=Gauge("check_estimate", "Canary against stable; positive is worse.", check, **own),
            check_lower=Gauge("check_lower", "Lower end of the confidence sequence.", check, **own),
            check_upper=Gauge("check_upper", "Upper end of the confidence sequence.", check, **own),
            check_margin=Gauge("check_margin", "The largest harm accepted.", check, **own),
            check_evidence=Gauge("check_evidence_log10", "log10 e-value for a rollback.", check, **own),
            stable_failing=Gauge(
                "stable_failing", "1 while stable fails more shadow requests than a baseline may.", ["model"], **own
            ),
            servers_set_aside=Gauge(
                "servers_set_aside",
                "Servers whose pairs are not judged, because stable is sick there.",
                ["model"],
                **own,
            ),
            notifications=Counter(
                "notifications_total", "Tellings to it, by how they ended.", ["notifier", "result"], **own
            ),
            reading_errors=Counter(
                "reading_errors_total", "Readings of a gauge that could not be had.", [*check, "reason"], **own
            ),
            listed=Gauge("listed_servers", "Servers that a list of `discover` named last.", ["list"], **own),
            list_failing=Gauge(
                "server_list_failing", "1 while a list cannot be used and its last word is kept.", ["list"], **own
            ),
            boot_config_behind=Gauge(
                "boot_config_behind", "1 while servers would boot with another version than stable.", ["sink"], **own
            ),
            list_errors=Counter(
                "server_list_errors_total", "Readings of a list that could not be used.", ["list", "reason"], **own
            ),
        )

    def forget_server(self, server: str) -> None:
        """Drop every series of a server that has left: pods come under new names for ever."""
        for family in (
            self.server_up,
            self.last_look,
            self.scrape_errors,
            self.label_version,
            self.version_state,
            self.reloads,
            self.pairs,
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
        own: Any = {"namespace": "haldane_tap", "registry": registry}
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


def set_up_logs(*, json: bool | None = None) -> None:
    """One event per fact on stderr: JSON for machines, coloured lines on a terminal."""
    as_json = (not sys.stderr.isatty()) if json is None else json
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
