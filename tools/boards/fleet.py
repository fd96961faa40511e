"""The fleet at a glance: is anything wrong, what is on trial, what serves."""

from grafana_foundation_sdk.models import dashboard
from tools.boards import words
from tools.boards.frame import assemble, choice
from tools.boards.panels import BLUE, GREEN, HALF, ORANGE, RED, WELL_AT_ZERO, Panel, column, lines, number, rows, states

MODEL = 'model=~"$model"'
# One series a model: its phase and verdict are labels, the age of the phase is the value.
ROLLOUTS = (
    f"(haldane_rollout_phase{{{MODEL}}} == 1)"
    f" * on (instance, model) group_left (verdict) (haldane_verdict{{{MODEL}}} == 1)"
    " * on (instance, model) group_left () (time() - haldane_rollout_phase_started_timestamp_seconds)"
)


def board() -> dashboard.Dashboard:
    return assemble(
        "haldane-fleet",
        "Haldane: fleet",
        "Every model and server that Haldane watches: what is wrong, what is on trial, which version serves where.",
        ("", _figures()),
        ("", _tables()),
        ("What serves", _serving()),
        folded=[
            (
                "Where there is a gateway, a list of servers, announced releases, a tap, a boot config, Dask",
                [*_gateways(), *_lists(), *_incoming()],
            )
        ],
        variables=[choice("model", "Model", "haldane_version_state", of="model", many=True)],
    )


def _figures() -> list[Panel]:
    under_way = f'haldane_rollout_phase{{{MODEL}, phase!~"SUCCEEDED|ROLLED_BACK"}} == 1'
    waiting = f'haldane_rollout_phase{{{MODEL}, phase=~"HELD|STUCK"}} == 1'
    return [
        number(
            "Wrong now",
            "Conditions that hold at this moment, such as a failed load. Zero is good as long as all servers are seen.",
            (f"sum(haldane_condition{{{MODEL}}}) or vector(0)", "conditions"),
            steps=WELL_AT_ZERO,
        ),
        number(
            "Servers not seen",
            "Servers that did not answer the last look. Nothing else on this board is known of them.",
            ("count(haldane_server_up == 0) or vector(0)", "servers"),
            steps=WELL_AT_ZERO,
        ),
        number("Servers", "Servers in the config.", ("count(haldane_server_up)", "servers"), none="no agent"),
        number(
            "Rollouts under way",
            "Models whose newest rollout has neither succeeded nor been rolled back.",
            (f"count({under_way}) or vector(0)", "rollouts"),
        ),
        number(
            "Waiting for a person",
            "Rollouts that are held or stuck: nothing goes on until someone resumes, promotes or aborts.",
            (f"count({waiting}) or vector(0)", "rollouts"),
            steps=((None, GREEN), (1, ORANGE)),
        ),
        number(
            "Agents that may act",
            "One holds the lease. With none the fleet is watched, and nothing is changed or rolled back.",
            ("sum(haldane_may_act)", "agents"),
            steps=((None, RED), (1, GREEN), (2, RED)),
            none="no agent",
        ),
    ]


def _tables() -> list[Panel]:
    return [
        rows(
            "Newest rollout of each model",
            "Where it stands, what the evidence says so far, and since when it stands there.",
            (ROLLOUTS, "for"),
            order=["model", "phase", "verdict", "for"],
            hidden=["instance", "job", "__name__"],
            overrides=[
                column("phase", values=words.PHASES),
                column("verdict", values=words.VERDICTS),
                column("for", unit="s"),
            ],
            none="no rollout yet",
            width=10,
        ),
        rows(
            "Wrong now",
            "Each has its alert and its runbook. A condition without a model is one of a server.",
            (f"max by (condition, model, version) (haldane_condition{{{MODEL}}})", "holds"),
            order=["condition", "model", "version"],
            hidden=["holds"],
            overrides=[column("condition", steps=[(None, RED)])],
            none="nothing",
            width=6,
        ),
        rows(
            "Servers",
            "Whether each answered, and how old the newest look at it is.",
            ("max by (server) (haldane_server_up)", "seen"),
            ("max by (server) (time() - haldane_last_look_timestamp_seconds)", "looked at"),
            order=["server", "seen", "looked at"],
            overrides=[
                column("seen", values={0: ("no", RED), 1: ("yes", GREEN)}),
                column("looked at", unit="s", steps=[(None, GREEN), (60, ORANGE), (120, RED)]),
            ],
            none="no agent",
            width=8,
        ),
    ]


def _serving() -> list[Panel]:
    return [
        rows(
            "Versions that labels name",
            "And on how many servers. Two versions of one label: a rollout is moving it, or servers differ. Version -1:"
            " the label resolves to nothing.",
            (f'count_values by (model, label) ("version", haldane_label_version{{{MODEL}}})', "servers"),
            order=["model", "label", "version", "servers"],
            overrides=[column("version", values={"-1": ("nothing", RED)})],
            none="no labels",
        ),
        lines(
            "Requests",
            "Serving's own count of calls, users' and shadow ones together, by model.",
            (
                'sum by (model_name) (rate(:tensorflow:serving:request_count{model_name=~"$model"}[$__rate_interval]))',
                "{{model_name}}",
            ),
            unit="reqps",
            most=1,
        ),
        lines(
            "Errors by server",
            "Share of calls that failed, by Serving's own count. It knows no version: this compares servers.",
            (
                'model_name_instance:tensorflow_serving_errors:ratio_rate5m{model_name=~"$model"}',
                "{{model_name}} {{instance}}",
            ),
            unit="percentunit",
            steps=((None, GREEN), (0.01, RED)),
            mark_steps=True,
            most=0.02,
        ),
        lines(
            "p99 latency by server",
            "Only calls that succeeded: read it beside the errors. Serving's buckets are wide, so small shifts hide.",
            (
                'model_name_instance:tensorflow_serving_latency_seconds:p99_rate5m{model_name=~"$model"}',
                "{{model_name}} {{instance}}",
            ),
            unit="s",
            steps=((None, BLUE),),
        ),
    ]


# --- parts that not every set-up has: these panels stay empty without them ------------------------------------------


def _gateways() -> list[Panel]:
    """Where a gateway splits users' calls."""
    return [
        lines(
            "Canary's share at the gateway",
            "Of users' calls: what it should be, and what the gateway says it is. Where they stay apart the gateway"
            " does not take its orders.",
            ("haldane_gateway_share_wanted_ratio", "{{gateway}} wanted"),
            ("haldane_gateway_share_seen_ratio", "{{gateway}} seen"),
            unit="percentunit",
            most=1,
            none="no gateway",
            stepped=True,
        ),
        lines(
            "Shares set on gateways",
            "Orders of the agent to each gateway, by result, since it started.",
            ("sum by (gateway, result) (haldane_gateway_orders_total)", "{{gateway}} {{result}}"),
            unit="none",
            none="no gateway",
            stepped=True,
        ),
    ]


def _lists() -> list[Panel]:
    """Servers that come and go, and what they boot with."""
    return [
        lines(
            "Servers by list",
            "How many each list of discover named last. While a list cannot be used its last word is kept.",
            ("haldane_listed_servers", "{{list}}"),
            ("haldane_server_list_failing == 1", "{{list}} cannot be used"),
            ("haldane_boot_config_behind == 1", "{{sink}} does not say what is stable"),
            unit="none",
            none="no list",
            stepped=True,
        ),
        states(
            "What servers boot with",
            "Whether the file or ConfigMap that servers start with says the stable version, or an older one.",
            ("max by (sink) (haldane_boot_config_behind)", "{{sink}}"),
            values={0: ("as stable", GREEN), 1: ("behind", RED)},
            none="no boot config",
            width=HALF,
        ),
    ]


def _incoming() -> list[Panel]:
    """Releases that announce themselves, and where requests come from and who sends their pairs."""
    return [
        lines(
            "Announced releases",
            "Those that wait for their turn, and what became of the others since the agent started.",
            (f"haldane_releases_pending{{{MODEL}}}", "{{model}} waiting"),
            (f"haldane_releases_flapping{{{MODEL}}} == 1", "{{model}} waits for a person"),
            (f"sum by (model, result) (haldane_releases_total{{{MODEL}}})", "{{model}} {{result}}"),
            unit="none",
            none="none announced",
            stepped=True,
        ),
        lines(
            "Dask workers that send pairs",
            "Where one process is not enough. None while the agent sends them itself.",
            (f"haldane_shadow_senders{{{MODEL}}}", "{{model}}"),
            unit="none",
            none="no workers",
            stepped=True,
        ),
        lines(
            "Calls that reached the tap",
            "Mirrored ones a second by what they were. Only ok ones are of a model here.",
            ("sum by (model, result) (rate(haldane_tap_received_total[$__rate_interval]))", "{{model}} {{result}}"),
            unit="reqps",
            none="no tap",
        ),
        lines(
            "What became of them",
            "Calls a second that the tap drew to be shadowed or recorded. Only given ones have arrived.",
            (
                f"sum by (model, use, result) (rate(haldane_tap_copies_total{{{MODEL}}}[$__rate_interval]))",
                "{{model}} {{use}}: {{result}}",
            ),
            unit="reqps",
            none="no tap",
        ),
        states(
            "Tap",
            "Whether the tap that a model's requests come from answered.",
            (f"haldane_tap_up{{{MODEL}}}", "{{model}}"),
            values={0: ("gone", RED), 1: ("answers", GREEN)},
            none="no tap",
            width=HALF,
        ),
    ]
