"""`haldane explain`: why a rollout ended or stands as it does."""

import click

from haldane.cli.connection import Connection, agent_options
from haldane.cli.exits import FAIL, INCONCLUSIVE, PASS

CODES = {"pass": PASS, "fail": FAIL}


@click.command()
@click.argument("rollout_id")
@click.option("--language", type=click.Choice(["en", "zh"]), default="en", show_default=True)
@agent_options
def explain(connection: Connection, rollout_id: str, language: str) -> None:
    """The verdict on ROLLOUT_ID in plain sentences, with the numbers behind it.

    \b
      haldane explain credit_risk-4-1a2b --language zh

    Exit codes: 0 pass, 1 fail, 3 undecided or no data, 2 no such rollout,
    4 the agent did not answer.
    """
    found = connection.get(f"/v1/rollouts/{rollout_id}/explanation", language=language)
    click.echo("\n".join(found["sentences"]))
    raise SystemExit(CODES.get(found["verdict"], INCONCLUSIVE))
