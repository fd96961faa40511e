"""`haldane release announce`: tell the agent of a version, at most once each."""

import getpass
import json

import click

from haldane.cli.connection import Connection, agent_options


@click.command("announce")
@click.argument("model")
@click.argument("version", type=click.IntRange(min=0))
@click.option("--by", default=getpass.getuser, show_default="your user name", help="Who released it.")
@click.option("--why", default="published", show_default=True, help="What for; it stands in the audit log.")
@agent_options
def announce_(connection: Connection, model: str, version: int, by: str, why: str) -> None:
    """Announce VERSION of MODEL: the agent starts a rollout as soon as it can.

    Unlike `rollout start` this waits: for another version's trial, for files
    that are still being copied, for a server that is away. Announced again it
    does no harm. The model needs `releases` in the agent's config.

    \b
      haldane release announce credit_risk 8 --why "retrained on October"
      version=$(haldane release publish export/8 --model credit_risk --to /models)
      haldane release announce credit_risk "$version" --config haldane.yaml

    Exit codes: 0 it is stored, 2 usage, 4 the agent did not answer, 5 it refused.
    """
    event = {
        "specversion": "1.0",
        "id": f"{model}/{version}",
        "source": "haldane-release-announce",
        "type": "haldane.release.published",
        "datacontenttype": "application/json",
        "data": {"model": model, "version": version, "by": by, "why": why},
    }
    told = connection.post_bytes("/v1/events", json.dumps(event).encode(), "application/cloudevents+json")
    taken = "the agent starts a rollout as soon as it can" if told["taken"] else "the agent was told before"
    click.echo(f"{model} {version}: {taken}; see haldane status")
