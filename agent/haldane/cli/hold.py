"""`haldane release hold` and `unhold`: versions that no clean-up deletes."""

import getpass
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from haldane.cli.connection import Connection, agent_options
from haldane.cli.shown import utc


@click.command()
@click.argument("model")
@click.argument("version", type=click.IntRange(min=0))
@click.option("--why", required=True, help="Shown wherever the hold is; it stands in the audit log with your name.")
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M%z"]),
    help="When it ends by itself; UTC unless an offset is given.  [default: when unhold ends it]",
)
@agent_options
def hold(connection: Connection, model: str, version: int, why: str, until: datetime | None) -> None:
    """Keep the files of VERSION of MODEL, however old it gets: gc deletes no version on hold.

    It keeps files, on every storage that is cleaned up through this agent; a
    server may still unload the version. Again for the same version: the newer
    word stands.

    \b
      haldane release hold credit_risk 5 --why "audit of the third quarter"
      haldane release hold credit_risk 5 --until 2027-03-31 --why "audit of the third quarter"

    Exit codes: 0 it is stored, 2 no such model, 4 the agent did not answer, 5 it refused.
    """
    body: dict[str, Any] = {"model": model, "version": version, "by": getpass.getuser(), "why": why}
    if until is not None:
        body["until"] = int((until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp())
    click.echo(f"{model} {version} is {told(connection.post('/v1/holds', body)['hold'])}")


@click.command()
@click.argument("model")
@click.argument("version", type=click.IntRange(min=0))
@click.option("--why", required=True, help="It stands in the audit log with your name.")
@agent_options
def unhold(connection: Connection, model: str, version: int, why: str) -> None:
    """End the hold on VERSION of MODEL.

    \b
      haldane release unhold credit_risk 5 --why "the audit is over"

    Exit codes: 0 it is stored, 4 the agent did not answer, 5 it refused, or nothing was on hold.
    """
    connection.post("/v1/holds/end", {"model": model, "version": version, "by": getpass.getuser(), "why": why})
    click.echo(f"{model} {version} is no longer on hold")


def holds_of(found: Mapping[str, Any], model: str) -> dict[int, Mapping[str, Any]]:
    """Version -> its hold, out of the agent's answer for all models."""
    return {one["version"]: one for one in found["holds"] if model in (one["model"], one["name"])}


def told(one: Mapping[str, Any]) -> str:
    """Who, since when, until when and why, as the end of a sentence about the version."""
    until = "" if one["until"] is None else f" until {utc(one['until'])}"
    return f"on hold by {one['by']} since {utc(one['since'])}{until}: {one['why']}"
