"""`haldane status`: what the agent sees now."""

import time
from collections.abc import Iterator
from typing import Any

import click

from haldane.cli.connection import Connection, agent_options
from haldane.cli.hold import told
from haldane.cli.shown import ROLLOUT_COLUMNS, ago, console, print_json, quantity, rollout_rows, table
from haldane.rollout.ramp import percent

REFRESH_SECONDS = 1.0


@click.command()
@click.option("-w", "--watch", is_flag=True, help="Show it anew every second, until interrupted.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@agent_options
def status(connection: Connection, watch: bool, output: str) -> None:
    """Servers, versions and labels, live rollouts, and what is wrong.

    \b
      haldane status -w
      haldane status -o json | jq .conditions

    Exit codes: 0 shown, 4 the agent did not answer.
    """
    if output == "json":
        print_json(connection.get("/v1/status"))
        return
    from rich.console import Group

    if not watch:
        console().print(Group(*parts(connection.get("/v1/status"))))
        return
    from rich.live import Live

    with Live(console=console(), auto_refresh=False) as live:
        try:
            while True:
                live.update(Group(*parts(connection.get("/v1/status"))), refresh=True)
                time.sleep(REFRESH_SECONDS)
        except KeyboardInterrupt:
            return


def parts(found: dict[str, Any]) -> Iterator[Any]:
    """The tables of a status, for rich."""
    yield f"Haldane {found['version']}, mode {found['mode']}\n"
    yield table("", ("server", "seen", "model", "versions", "labels", "unversioned"), list(_server_rows(found)))
    for server in found["servers"]:  # below the table: such a reason is long
        if found["seen"].get(server["name"]) is None:
            yield f"{server['name']} is not seen: {found['trouble'].get(server['name'], 'no answer yet')}\n"
    for one in found.get("holds", ()):
        yield f"{one['model']} {one['version']} is {told(one)}\n"
    trials = {(one["model"], one["new"]) for one in found["rollouts"]}
    for one in found.get("loads", ()):
        if (one["model"], one["version"]) in trials:
            yield _load_line(one)
    for title, says in found.get("lists", {}).items():
        yield f"{title}: {says}\n"
    for says in found.get("announced", ()):
        yield f"{says}\n"
    for title, says in found.get("boot", {}).items():
        yield f"{title}, which servers boot with: {says}\n"
    for model, reasons in found.get("unusable", {}).items():
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        yield f"{model}: records of its traffic that cannot be used: {counts}\n"
    for model, why in found.get("stalled", {}).items():
        yield f"{model}: no pairs are sent: {why}\n"
    if away := found.get("tap_away"):
        yield f"the tap is away: {away}\n"
    for model, counted in sorted(found.get("tap", {}).items()):
        counts = ", ".join(f"{count:,} {what}" for what, count in sorted(counted.items()))
        yield f"mirrored calls of {model or 'no model of ours'}: {counts}\n"
    for model, says in sorted(found.get("registry", {}).items()):
        yield f"{model} in the registry: {says}\n"
    for name, seen in sorted(found.get("gateways", {}).items()):
        yield _gateway_line(name, seen, found.get("share"))
    if found["rollouts"]:
        yield table("Rollouts", ROLLOUT_COLUMNS, rollout_rows(found["rollouts"]))
    else:
        yield "no rollout is live\n"
    if found["conditions"]:
        rows = [
            [one["name"], one["model"], _text(one["version"]), ", ".join(one["servers"]), one["detail"]]
            for one in found["conditions"]
        ]
        yield table("What is wrong", ("condition", "model", "version", "servers", "detail"), rows)


def _load_line(load: dict[str, Any]) -> str:
    added = "" if load["bytes"] is None else f" and added {quantity(load['bytes'], 'bytes')} of memory"
    took = quantity(load["seconds"], "seconds")
    return f"{load['server']}: loading {load['model']} {load['version']} took {took}{added}\n"


def _gateway_line(name: str, seen: dict[str, Any], wanted: float | None) -> str:
    if seen["share"] is None:
        return f"gateway {name} cannot be read: {seen['trouble']}\n"
    order = "" if wanted is None else f", wanted {percent(wanted)}"
    return f"gateway {name} sends {percent(seen['share'])} of users' calls to the canary's servers{order}\n"


def _server_rows(found: dict[str, Any]) -> Iterator[list[str]]:
    for server in found["servers"]:
        name = server["name"] + (" (canary)" if server["dedicated_canary"] else "")
        view = found["seen"].get(server["name"])
        if view is None:
            yield [name, "not seen", "", "", "", ""]
            continue
        for index, (model, held) in enumerate(sorted(view["models"].items()) or [("no models", None)]):
            first = [name, ago(view["at"])] if index == 0 else ["", ""]
            yield [*first, model, *(_model_cells(held) if held else ("", "", ""))]


def _model_cells(held: dict[str, Any]) -> tuple[str, str, str]:
    versions = ", ".join(f"{one['version']} {_state(one)}" for one in held["versions"])
    labels = ", ".join(f"{label} -> {_text(version)}" for label, version in sorted(held["labels"].items()))
    return versions or "none", labels or "none", _text(held["unversioned"])


def _state(status: dict[str, Any]) -> str:
    if status["availability"] == "END" and status["error_code"] != "OK":
        return f"failed: {status['error_code']}"
    return str(status["availability"]).lower()


def _text(value: object) -> str:
    return "nothing" if value is None else str(value)
