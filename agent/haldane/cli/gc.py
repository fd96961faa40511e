"""`haldane release gc`: versions that nobody needs any more go."""

import getpass
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from haldane.cli.connection import Connection, agent_options
from haldane.cli.exits import INCONCLUSIVE, REFUSED, leave
from haldane.cli.hold import holds_of, told
from haldane.cli.shelf import failures, output_option, shelf_at, storage_option
from haldane.cli.shown import console, print_json, table

if TYPE_CHECKING:
    from haldane.release.retention import Choice
    from haldane.release.shelf import Shelf

_SILENT = timedelta(days=1)  # after that a publisher is dead; none needs that long for one version


@click.command("gc")
@click.argument("model")
@storage_option
@click.option("--keep", type=click.IntRange(min=1), default=3, show_default=True, help="How many of the newest stay.")
@click.option("--delete", is_flag=True, help="Do it. Without this, only say what would go and why.")
@click.option("--why", default="retention", show_default=True, help="Kept in the storage with your name.")
@output_option
@agent_options
def gc_(connection: Connection, model: str, where: str, keep: int, delete: bool, why: str, output: str) -> None:
    """Delete versions of MODEL that nobody needs; without --delete only say which.

    Asks the agent what is in use. Never deletes what is labelled or loaded on
    any server, stable, on trial or baking, on hold, what the last promotion
    came from, or what nobody published. Deletes nothing while the agent cannot see a server.

    \b
      haldane release gc credit_risk --from s3://models
      haldane release gc credit_risk --from s3://models --keep 5 --delete

    Exit codes: 0 done or shown, 3 a server is not seen, so nothing is deleted,
    4 the agent or the storage fails, 5 the agent does not know the model.
    """
    with failures():
        shelf = shelf_at(where, model)
        choices = _choices(shelf, keep, _in_use(connection, model))
        if output == "json":
            print_json([{"version": one.version, "delete": one.delete, "why": one.why} for one in choices])
        else:
            rows = [[str(one.version), "delete" if one.delete else "keep", one.why] for one in choices]
            console().print(table(model, ("version", "", "why"), rows))
        if delete:
            going = [one for one in choices if one.delete]
            _delete(shelf, keep, going, connection, why)


def _delete(shelf: "Shelf", keep: int, going: "Sequence[Choice]", connection: Connection, why: str) -> None:
    for one in going:
        # Asked anew each time: deleting takes long enough for a rollout to begin.
        now = {choice.version: choice for choice in _choices(shelf, keep, _in_use(connection, shelf.model))}
        if not now[one.version].delete:
            click.echo(f"{shelf.model} {one.version} stays: {now[one.version].why}", err=True)
            continue
        note = {"by": getpass.getuser(), "at": datetime.now(UTC).isoformat(timespec="seconds"), "why": why}
        shelf.delete(one.version, note | {"because": one.why})
        click.echo(f"deleted {shelf.model} {one.version}", err=True)


def _choices(shelf: "Shelf", keep: int, in_use: Mapping[int, Sequence[str]]) -> "list[Choice]":
    from haldane.release.retention import choose
    from haldane.release.shelf import State

    states = shelf.states()
    silent = datetime.now(UTC) - _SILENT
    unfinished = [version for version, state in states.items() if state is State.UNFINISHED]
    abandoned = [v for v in unfinished if datetime.fromisoformat(shelf.release(v).published_at) < silent]
    return choose(states, in_use, keep=keep, placed=shelf.placed(), abandoned=abandoned)


def _in_use(connection: Connection, model: str) -> Mapping[int, Sequence[str]]:
    """Why each version must stay, as the agent knows it now; leaves when it does not know enough."""
    status = connection.get("/v1/status")
    model = local_name(status, model)
    if model not in status["stable"]:
        spaces = status.get("namespaces", {})
        known = ", ".join(f"{spaces[one]}/{one}" if one in spaces else one for one in status["stable"]) or "none"
        leave(REFUSED, f"the agent at {connection.agent} does not look after {model}, so it cannot say what is in use;"
                       f" it has {known}")  # fmt: skip
    views = {server["name"]: status["seen"].get(server["name"]) for server in status["servers"]}
    if unseen := [name for name, view in views.items() if view is None or model not in view["models"]]:
        where = ", ".join(unseen)
        leave(INCONCLUSIVE, f"the agent does not see {model} on {where}, so what is loaded there is not known;"
                            " nothing is deleted")  # fmt: skip
    uses: dict[int, list[str]] = defaultdict(list)
    for version, one in holds_of(connection.get("/v1/holds"), model).items():
        uses[version].append(told(one))
    for version, reason in _uses(status, connection.get("/v1/rollouts", limit=1000)["rollouts"], model):
        uses[version].append(reason)
    return uses


def local_name(status: Mapping[str, Any], said: str) -> str:
    """The name that the agent's servers know, of one said with the namespace it has there; any other as it is."""
    namespace, _, name = said.rpartition("/")
    return name if namespace and status.get("namespaces", {}).get(name) == namespace else said


def _uses(status: Mapping[str, Any], rollouts: Sequence[Mapping[str, Any]], model: str) -> Iterator[tuple[int, str]]:
    """Each use of a version; `rollouts` are the newest first."""
    if (stable := status["stable"][model]) is not None:
        yield stable, "stable, the last known good"
    for one in (*status["rollouts"], *rollouts):
        if one["model"] == model and one["phase"] not in ("SUCCEEDED", "ROLLED_BACK"):
            yield one["old"], f"rollout {one['id']} is {one['phase']}, and goes back to it"
            yield one["new"], f"rollout {one['id']} is {one['phase']}"
    promoted = (one for one in rollouts if one["model"] == model and one["phase"] == "SUCCEEDED")
    if last := next(promoted, None):
        yield last["old"], "the version before the last promotion"
    for server, view in status["seen"].items():
        held = view["models"][model]
        for label, version in held["labels"].items():
            if version is not None:
                yield version, f"labelled {label} on {server}"
        for one in held["versions"]:
            yield from _loaded(server, one)


def _loaded(server: str, status: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    if status["availability"] != "END":
        yield status["version"], f"{status['availability']} on {server}"
    elif status["error_code"] != "OK":
        # Its number may still stand in the config: were it the only one there, Serving would find
        # nothing that it should serve, and unload what it serves instead.
        yield status["version"], f"failed on {server}, whose config may still name it"
