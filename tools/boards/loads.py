"""Failed loads: what did not load, where, and how often it was tried."""

from grafana_foundation_sdk.models import dashboard
from tools.boards.frame import assemble, choice
from tools.boards.panels import (
    GREEN,
    RED,
    VERSION_STATES,
    WELL_AT_ZERO,
    WHOLE,
    Panel,
    column,
    lines,
    number,
    rows,
    states,
)

MODEL = 'model=~"$model"'
FAILURES = f"tensorflow_serving_load_failures_total{{{MODEL}}}"
ATTEMPTS = f"tensorflow_serving_load_requests_total{{{MODEL}}}"
PATH_ATTEMPTS = ":tensorflow:cc:saved_model:load_attempt_count"


def board() -> dashboard.Dashboard:
    return assemble(
        "haldane-loads",
        "Haldane: failed loads",
        "Loads that failed or hang. Serving itself counts no load by version and goes on serving the old one.",
        ("", _figures()),
        ("", [_not_serving(), _conditions()]),
        ("Attempts", _attempts()),
        ("Serving's own counters, by path", _own()),
        variables=[choice("model", "Model", "haldane_version_state", of="model", many=True)],
        span="now-3h",
    )


def _figures() -> list[Panel]:
    return [
        number(
            "Failed load now",
            "Versions that failed to load and are still wanted.",
            (f'sum(haldane_condition{{condition="failed_load", {MODEL}}}) or vector(0)', "versions"),
            steps=WELL_AT_ZERO,
            width=6,
        ),
        number(
            "Load stuck now",
            "Versions that have been loading for longer than others took.",
            (f'sum(haldane_condition{{condition="load_stuck", {MODEL}}}) or vector(0)', "versions"),
            steps=WELL_AT_ZERO,
            width=6,
        ),
        number(
            "Failed attempts",
            "Over all versions and servers, since the agent started.",
            (f"sum({FAILURES}) or vector(0)", "failed"),
            steps=WELL_AT_ZERO,
            width=6,
        ),
        number(
            "All attempts",
            "Over all versions and servers, failed or not, since the agent started.",
            (f"sum({ATTEMPTS}) or vector(0)", "attempts"),
            width=6,
        ),
    ]


def _not_serving() -> Panel:
    return rows(
        "Loading or failed now",
        "Versions that a server has been told to load and does not serve.",
        (f"max by (model, version, server) (haldane_version_state{{{MODEL}}} != 30)", "state"),
        order=["model", "version", "server", "state"],
        overrides=[column("state", values=VERSION_STATES)],
        none="everything loaded serves",
    )


def _conditions() -> Panel:
    return states(
        "Conditions over time",
        "When a load had failed or hung, a label named nothing, or a version was missing or unasked for.",
        (f"max by (condition, model, version) (haldane_condition{{{MODEL}}})", "{{condition}} {{model}} {{version}}"),
        values={1: ("yes", RED)},
        none="none",
        width=WHOLE // 2,
    )


def _attempts() -> list[Panel]:
    return [
        lines(
            "Failed attempts by version",
            "Since the agent started; from statuses and Serving's load counters together, no attempt twice.",
            (f"sum by (model, version) ({FAILURES})", "{{model}} version {{version}}"),
            steps=((None, GREEN), (1, RED)),
            none="none",
            stepped=True,
            most=1,
        ),
        lines(
            "All attempts by version",
            "Since the agent started. A version that loads takes one a server; more are retries or restarts.",
            (f"sum by (model, version) ({ATTEMPTS})", "{{model}} version {{version}}"),
            stepped=True,
            most=1,
        ),
    ]


def _own() -> list[Panel]:
    took = ":tensorflow:cc:saved_model:load_latency"
    return [
        lines(
            "Failed attempts, without the agent's help",
            "Since the server started. Knows no directory without saved_model.pb, and no failure in warm-up.",
            (
                f'sum by (instance, model_path) ({PATH_ATTEMPTS}{{status="fail"}})',
                "{{instance}} {{model_path}}",
            ),
            steps=((None, GREEN), (1, RED)),
            none="none",
            stepped=True,
            most=1,
        ),
        lines(
            "How long loads took",
            "Sum over a server's loads of each path, since the server started.",
            (f"max by (instance, model_path) ({took}) / 1e6", "{{instance}} {{model_path}}"),
            unit="s",
            stepped=True,
        ),
        lines(
            "Configs sent",
            "What the agent sent to each server since it started, and whether it was taken.",
            ("sum by (server, result) (haldane_reloads_total)", "{{server}} {{result}}"),
            stepped=True,
            most=1,
            width=WHOLE,
        ),
    ]
