"""`haldane release announce`: tell the agent of a version, at most once each."""

import asyncio
import getpass
import json
from pathlib import Path

import click

from haldane.cli.connection import Connection, agent_options
from haldane.cli.exits import USAGE, leave
from haldane.cli.shelf import failures

FORM = "application/cloudevents+json"


@click.command("announce")
@click.argument("model")
@click.argument("version", type=click.IntRange(min=0))
@click.option("--by", default=getpass.getuser, show_default="your user name", help="Who released it.")
@click.option("--why", default="published", show_default=True, help="What for; it stands in the audit log.")
@click.option("--kafka", "brokers", metavar="BROKERS", help="Not to the agent, but into a topic at these brokers.")
@click.option("--topic", help="With --kafka: the topic that the agent reads (models.MODEL.releases.kafka).")
@click.option("--kafka-settings", "settings", metavar="FILE", type=click.Path(path_type=Path),
              help="With --kafka: librdkafka's settings, one key=value a line.")  # fmt: skip
@agent_options
def announce_(
    connection: Connection,
    model: str,
    version: int,
    by: str,
    why: str,
    brokers: str | None,
    topic: str | None,
    settings: Path | None,
) -> None:
    """Announce VERSION of MODEL: the agent starts a rollout as soon as it can.

    Unlike `rollout start` this waits: for another version's trial, for files
    that are still being copied, for a server that is away. Announced again it
    does no harm. The model needs `releases` in the agent's config.

    \b
      haldane release announce credit_risk 8 --why "retrained on October"
      version=$(haldane release publish export/8 --model credit_risk --to /models)
      haldane release announce credit_risk "$version" --config haldane.yaml
      haldane release announce credit_risk "$version" --kafka kafka-1:9092 --topic releases

    Exit codes: 0 it is stored, 2 usage, 4 the agent or the brokers did not
    answer, 5 refused.
    """
    if (brokers is None) != (topic is None):
        leave(USAGE, "--kafka and --topic belong together: the brokers, and the topic there")
    event = {
        "specversion": "1.0",
        "id": f"{model}/{version}",
        "source": "haldane-release-announce",
        "type": "haldane.release.published",
        "datacontenttype": "application/json",
        "data": {"model": model, "version": version, "by": by, "why": why},
    }
    body = json.dumps(event).encode()
    if brokers is not None and topic is not None:
        with failures():
            asyncio.run(_into_topic(body, model, brokers, topic, settings))
        click.echo(f"{model} {version}: is in the topic {topic}; see haldane status")
        return
    told = connection.post_bytes("/v1/events", body, FORM)
    taken = "the agent starts a rollout as soon as it can" if told["taken"] else "the agent was told before"
    click.echo(f"{model} {version}: {taken}; see haldane status")


async def _into_topic(body: bytes, model: str, brokers: str, topic: str, settings: Path | None) -> None:
    from haldane.adapters.kafka import client_settings
    from haldane.adapters.outlet import open_outlet

    async with open_outlet(topic, brokers=brokers, settings=client_settings(settings, topic)) as outlet:
        await outlet.put(body, headers={"content-type": FORM.encode()}, key=model.encode())
