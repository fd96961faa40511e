"""Every series of the agent, by what it is of.

Labels come from closed sets only, never a rollout id or anything out of a
request; docs/reference/metrics.md says how many series that makes.
"""

from typing import Any

from prometheus_client import Counter, Gauge

Own = dict[str, Any]  # what every series of one page is given: its namespace and its registry


class AgentSeries:
    """The agent itself, and whom it told."""

    def __init__(self, own: Own) -> None:
        self.build = Gauge("build_info", "Always 1; the agent's version.", ["version"], **own)
        self.mode = Gauge("mode_info", "Always 1; observe or enforce.", ["mode"], **own)
        self.may_act = Gauge("may_act", "1 while the agent holds the store's lease, which is the right to act.", **own)
        self.denied = Counter("denied_total", "What people who are known wanted and may not.", ["right"], **own)
        self.callers_refused = Counter(
            "callers_refused_total",
            "Calls by whom nobody here knows: no token, unknown token, unknown certificate, not the proxy, a page.",
            ["reason"],
            **own,
        )
        self.notifications = Counter(
            "notifications_total", "Tellings to it, by how they ended.", ["notifier", "result"], **own
        )


class FleetSeries:
    """What is seen of servers and of the versions on them, and what is done to them."""

    def __init__(self, own: Own) -> None:
        self.server_up = Gauge("server_up", "1 when the last look at the server succeeded.", ["server"], **own)
        self.last_look = Gauge("last_look_timestamp_seconds", "When the server was last seen.", ["server"], **own)
        self.label_version = Gauge(
            "label_version", "The version a label resolves to, -1: to nothing.", ["model", "server", "label"], **own
        )
        self.version_state = Gauge(
            "version_state",
            "Serving's own number of the version's state: 10 START, 20 LOADING, 30 AVAILABLE, 40 UNLOADING, 50 END;"
            " of those that ended only the failed ones are here.",
            ["model", "version", "server"],
            **own,
        )
        self.load_requests = Counter(
            "tensorflow_serving_load_requests_total",
            "Load attempts, from status and load counters; Serving has no such series.",
            ["model", "version"],
            registry=own["registry"],
        )
        self.load_failures = Counter(
            "tensorflow_serving_load_failures_total",
            "Load attempts that failed, from status and load counters.",
            ["model", "version"],
            registry=own["registry"],
        )
        self.condition = Gauge(
            "condition",
            "Always 1, and there while the condition holds; version and model are empty where it is of none.",
            ["condition", "model", "version"],
            **own,
        )
        self.reloads = Counter("reloads_total", "Configs sent to a server.", ["server", "result"], **own)
        self.scrape_errors = Counter("scrape_errors_total", "Unreadable lines or pages.", ["server", "reason"], **own)
        self.storage_errors = Counter("storage_errors_total", "Base paths that could not be listed.", ["reason"], **own)


class ListSeries:
    """Lists of servers, and what servers boot with."""

    def __init__(self, own: Own) -> None:
        self.listed = Gauge("listed_servers", "Servers that a list of `discover` named last.", ["list"], **own)
        self.failing = Gauge(
            "server_list_failing", "1 while a list cannot be used and its last word is kept.", ["list"], **own
        )
        self.errors = Counter(
            "server_list_errors_total", "Readings of a list that could not be used.", ["list", "reason"], **own
        )
        self.boot_config_behind = Gauge(
            "boot_config_behind", "1 while servers would boot with another version than stable.", ["sink"], **own
        )


class GatewaySeries:
    """Users' calls by gateway: the canary's share."""

    def __init__(self, own: Own) -> None:
        self.share_wanted = Gauge(
            "gateway_share_wanted_ratio",
            "Share of users' calls that the gateway should send to the canary's servers.",
            ["gateway"],
            **own,
        )
        self.share_seen = Gauge(
            "gateway_share_seen_ratio",
            "Share of users' calls that the gateway says it sends there; NaN when it cannot be read.",
            ["gateway"],
            **own,
        )
        self.orders = Counter("gateway_orders_total", "Shares set on a gateway.", ["gateway", "result"], **own)


class ShadowSeries:
    """Requests and their pairs, from the source to the evidence."""

    def __init__(self, own: Own) -> None:
        self.unusable = Counter(
            "traffic_records_unusable_total",
            "Records of a traffic source that are no request: truncated, checksum, format, other_model, signature,"
            " label, excluded. Each counts once, however often a set is read.",
            ["model", "reason"],
            **own,
        )
        self.tap_up = Gauge(
            "tap_up", "1 when the tap that the model's requests come from answered last time.", ["model"], **own
        )
        self.shed = Counter(
            "shadow_shed_total", "Requests not shadowed, to protect stable.", ["model", "reason"], **own
        )
        self.sent = Counter(
            "pairs_sent_total",
            "Shadow pairs sent. Each is counted once more: in pairs, pairs_set_aside (but for duplicates, which are"
            " not sent) or pairs_dropped.",
            ["model"],
            **own,
        )
        self.senders = Gauge("shadow_senders", "Dask workers that send shadow pairs now.", ["model"], **own)
        self.pairs = Counter("pairs_total", "Shadow pairs that count.", ["model", "server", "kind"], **own)
        self.outcomes = Counter(
            "pair_outcomes_total",
            "How the sides of the pairs ended that count; A/A pairs left out.",
            ["model", "side", "status"],
            **own,
        )
        self.set_aside = Counter("pairs_set_aside_total", "Shadow pairs that do not count.", ["model", "reason"], **own)
        self.dropped = Counter(
            "pairs_dropped_total",
            "Shadow pairs sent but not judged, because shadowing ended: in_flight, or waiting for an earlier one;"
            " sender_lost: a Dask worker was lost with them.",
            ["model", "reason"],
            **own,
        )
        self.labels = Counter(
            "labels_total",
            "Labels by what became of them: accepted, duplicate, malformed (of a topic); joined, late, unusable,"
            " unknown (no pair came), dropped (too many). no_room: pairs that could not be kept to wait for one.",
            ["model", "result"],
            **own,
        )


class ReleaseSeries:
    """Releases that were announced, and promotions that were undone."""

    def __init__(self, own: Own) -> None:
        self.announced = Counter(
            "releases_total",
            "Announced releases by what became of them: started, refused, passed_over; unreadable (of a topic).",
            ["model", "result"],
            **own,
        )
        self.pending = Gauge("releases_pending", "Announced releases that wait.", ["model"], **own)
        self.flapping = Gauge(
            "releases_flapping",
            "1 while announced releases wait for a person, after too many that went back.",
            ["model"],
            **own,
        )
        self.taken_back = Counter(
            "promotions_taken_back_total", "Promotions undone because labels showed harm later.", ["model"], **own
        )


class RolloutSeries:
    """The newest rollout of each model, and what its evidence says."""

    def __init__(self, own: Own) -> None:
        self.phase = Gauge("rollout_phase", "1 for the phase the newest rollout is in.", ["model", "phase"], **own)
        self.phase_started = Gauge(
            "rollout_phase_started_timestamp_seconds", "When that phase was entered.", ["model"], **own
        )
        self.transitions = Counter(
            "rollout_transitions_total", "Phase changes that were stored.", ["model", "phase"], **own
        )
        self.verdict = Gauge("verdict", "1 for the newest rollout's verdict.", ["model", "verdict"], **own)
        self.stable_failing = Gauge(
            "stable_failing", "1 while stable fails more shadow requests than a baseline may.", ["model"], **own
        )
        self.servers_set_aside = Gauge(
            "servers_set_aside",
            "Servers whose pairs are not judged, because stable is sick there.",
            ["model"],
            **own,
        )
        self.reading_errors = Counter(
            "reading_errors_total", "Readings of a gauge that could not be had.", ["model", "metric", "reason"], **own
        )


class CheckSeries:
    """The numbers of each check of a rollout."""

    def __init__(self, own: Own) -> None:
        self.info = Gauge(
            "check_info",
            "Always 1; the unit of a check's numbers and what it may do.",
            ["model", "metric", "unit", "role"],
            **own,
        )
        self.state = Gauge("check_state", "1 for what the check's evidence says.", ["model", "metric", "state"], **own)
        self.estimate = Gauge("check_estimate", "Canary against stable; positive is worse.", ["model", "metric"], **own)
        self.lower = Gauge("check_lower", "Lower end of the confidence sequence.", ["model", "metric"], **own)
        self.upper = Gauge("check_upper", "Upper end of the confidence sequence.", ["model", "metric"], **own)
        self.margin = Gauge("check_margin", "The largest harm accepted.", ["model", "metric"], **own)
        self.evidence = Gauge("check_evidence_log10", "log10 e-value for a rollback.", ["model", "metric"], **own)
