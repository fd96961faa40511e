"""One model by version: which version is where, what each label names, how servers fare with it."""

from collections.abc import Sequence

from grafana_foundation_sdk.models import dashboard
from tools.boards.frame import assemble, choice
from tools.boards.panels import BLUE, GREEN, RED, THIRD, VERSION_STATES, WELL_AT_ZERO, Panel, lines, number, states

HERE = 'model="$model", server=~"$server"'
MODEL = 'model="$model"'


def board() -> dashboard.Dashboard:
    return assemble(
        "haldane-model",
        "Haldane: model by version",
        "One model: the state of its versions on every server, what its labels name, loads, and its traffic.",
        ("", _figures()),
        ("Versions and labels", _versions()),
        ("Loads", _loads()),
        ("Traffic, by Serving's own count, which knows no version", _traffic()),
        variables=[
            choice("model", "Model", "haldane_version_state", of="model"),
            choice("server", "Server", "haldane_server_up", of="server", many=True),
        ],
    )


def _figures() -> list[Panel]:
    return [
        number(
            "Versions available",
            "Versions that some server has loaded. During a rollout there are two.",
            (f"count(count by (version) (haldane_version_state{{{HERE}}} == 30))", "versions"),
            width=6,
        ),
        number(
            "Servers by version",
            "How many servers have each version loaded.",
            (f"count by (version) (haldane_version_state{{{HERE}}} == 30)", "version {{version}}"),
            named=True,
            width=6,
        ),
        number(
            "Labels",
            "The version each label names; where servers differ, the highest.",
            (f"max by (label) (haldane_label_version{{{HERE}}})", "{{label}}"),
            named=True,
            none="no labels",
            width=6,
        ),
        number(
            "Failed versions",
            "Versions whose load failed on some server and that are not served there.",
            (f"count(count by (version) (haldane_version_state{{{HERE}}} == 50)) or vector(0)", "failed"),
            steps=WELL_AT_ZERO,
            width=6,
        ),
    ]


def _versions() -> list[Panel]:
    return [
        states(
            "State of each version on each server",
            "Serving's own state. A version that ended well is no longer shown; a gap is a server that was not seen.",
            (f"haldane_version_state{{{HERE}}}", "{{server}} version {{version}}"),
            values=VERSION_STATES,
        ),
        states(
            "Version that each label names",
            "What a request with this label gets on this server, found out by asking it.",
            (f"haldane_label_version{{{HERE}}}", "{{server}} {{label}}"),
            values={-1: ("nothing", RED)},
        ),
    ]


def _loads() -> Sequence[Panel]:
    return [
        lines(
            "Attempts to load",
            "By version over the whole fleet, since the agent started.",
            (f"sum by (version) (tensorflow_serving_load_requests_total{{{MODEL}}})", "version {{version}}"),
            stepped=True,
            most=1,
        ),
        lines(
            "Attempts that failed",
            "Serving tries again in silence and goes on serving the old version: nothing here should stay unseen.",
            (f"sum by (version) (tensorflow_serving_load_failures_total{{{MODEL}}})", "version {{version}}"),
            steps=((None, GREEN), (1, RED)),
            none="none",
            stepped=True,
            most=1,
        ),
    ]


def _traffic() -> Sequence[Panel]:
    return [
        lines(
            "Requests by server",
            "Users' calls and shadow ones together.",
            (
                'sum by (instance) (rate(:tensorflow:serving:request_count{model_name="$model"}[$__rate_interval]))',
                "{{instance}}",
            ),
            unit="reqps",
            most=1,
            width=THIRD,
        ),
        lines(
            "Errors by server",
            "Share of calls that failed.",
            ('model_name_instance:tensorflow_serving_errors:ratio_rate5m{model_name="$model"}', "{{instance}}"),
            unit="percentunit",
            steps=((None, GREEN), (0.01, RED)),
            mark_steps=True,
            most=0.02,
            width=THIRD,
        ),
        lines(
            "p99 latency by server",
            "Only of calls that succeeded: read it beside the errors.",
            ('model_name_instance:tensorflow_serving_latency_seconds:p99_rate5m{model_name="$model"}', "{{instance}}"),
            unit="s",
            steps=((None, BLUE),),
            width=THIRD,
        ),
    ]
