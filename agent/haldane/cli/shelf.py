"""`haldane release list`, `show` and `verify`: what is stored of a model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from haldane.cli.connection import Connection, agent_options
from haldane.cli.exits import FAIL, INFRASTRUCTURE, REFUSED, leave
from haldane.cli.hold import holds_of
from haldane.cli.hold import told as told_hold
from haldane.cli.shown import console, print_json, table

if TYPE_CHECKING:
    from haldane.release.shelf import Shelf

storage_option = click.option(
    "--from", "where", required=True, metavar="URI", help="Where models are kept: a path, file:// or s3://."
)
output_option = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)


@contextmanager
def failures() -> Iterator[None]:
    """A storage that fails is exit code 4; what is there and wrong, or a clear no, is 5."""
    from haldane.ports import PortError, Unavailable

    try:
        yield
    except PortError as error:
        leave(INFRASTRUCTURE if isinstance(error, Unavailable) else REFUSED, str(error))


def shelf_at(where: str, model: str) -> "Shelf":
    """The releases of a model in that storage."""
    from haldane.release.shelf import Shelf
    from haldane.release.storage import open_storage

    return Shelf(open_storage(where), model)


def _holds(connection: Connection, model: str) -> Mapping[int, Mapping[str, Any]]:
    """The model's versions on hold; none, and a word on it, where no agent says."""
    found = connection.maybe("/v1/holds")
    if found is None:
        click.echo(f"holds are not shown: no agent answers at {connection.agent} (see --agent)", err=True)
        return {}
    return holds_of(found, model)


@click.command("list")
@click.argument("model")
@storage_option
@output_option
@agent_options
def list_(connection: Connection, model: str, where: str, output: str) -> None:
    """Every version number of MODEL that was ever given, and where it stands.

    Holds are the agent's to know; where none answers, that is said.

    \b
      haldane release list credit_risk --from s3://models

    Exit codes: 0 shown, 4 the storage fails, 5 what it holds cannot be used.
    """
    from haldane.release.shelf import State

    with failures():
        shelf = shelf_at(where, model)
        states = shelf.states()
        known = {version: shelf.release(version) for version, state in states.items() if state is not State.UNKNOWN}
    holds = _holds(connection, model)
    if output == "json":
        rows = [
            {"version": version, "state": state, "hold": holds.get(version)}
            | (known[version].model_dump() if version in known else {})
            for version, state in states.items()
        ]
        print_json(rows)
        return
    cells = []
    for version, state in states.items():
        one = known.get(version)
        told = (f"{one.size_bytes:,}", one.digest[:12], one.published_at, one.published_by) if one else ("",) * 4
        held = told_hold(holds[version]) if version in holds else ""
        cells.append([str(version), str(state), *told, held])
    console().print(table(model, ("version", "state", "bytes", "SHA-256", "published", "by", "hold"), cells))


@click.command()
@click.argument("model")
@click.argument("version", type=int)
@storage_option
@click.option("--manifest", is_flag=True, help="The SHA-256 of every file instead, as sha256sum writes it.")
@agent_options
def show(connection: Connection, model: str, version: int, where: str, manifest: bool) -> None:
    """What is known of one VERSION of MODEL: files, checks, metadata, who and when.

    Also whether it is on hold, where the agent answers.

    \b
      haldane release show credit_risk 5 --from s3://models
      haldane release show credit_risk 5 --from /models --manifest > 5.sha256

    Exit codes: 0 shown, 4 the storage fails, 5 there is no such release.
    """
    import yaml

    from haldane.release.manifest import text_of

    with failures():
        shelf = shelf_at(where, model)
        found = shelf.release(version)
        if manifest:
            click.echo(text_of(shelf.manifest(found)), nl=False)
            return
        state = shelf.states()[version]
    held = _holds(connection, model).get(version)
    told = (
        {"state": str(state)}
        | ({"hold": told_hold(held)} if held else {})
        | found.model_dump(mode="json", exclude={"schema_number"})
    )
    click.echo(yaml.safe_dump(told, sort_keys=False, allow_unicode=True), nl=False)


@click.command()
@click.argument("model")
@click.argument("version", type=int)
@storage_option
def verify(model: str, version: int, where: str) -> None:
    """Does the storage, or a server's disk, still hold what was published?

    Reads every byte of that version of MODEL and compares it with the manifest.

    \b
      haldane release verify credit_risk 5 --from s3://models
      haldane release verify credit_risk 5 --from /models

    Exit codes: 0 every byte is as published, 1 something has changed, 4 the
    storage fails, 5 there is no such release or its manifest is not whole.
    """
    with failures():
        wrong = shelf_at(where, model).verify(version)
    if wrong:
        leave(FAIL, *wrong, f"{model} {version} is not what was published")
    click.echo(f"{model} {version} is what was published")
