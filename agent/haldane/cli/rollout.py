"""`haldane rollout`: start one, see it, tell it what to do."""

import getpass
import time
from typing import Any

import click

from haldane.cli.connection import Connection, agent_options
from haldane.cli.exits import FAIL, INCONCLUSIVE, INFRASTRUCTURE, PASS, TABLE
from haldane.cli.shown import ago, change, print_json, rollout_table
from haldane.cli.wait import wait_

POLL_SECONDS = 0.5
PROGRESS_SECONDS = 5.0  # a phase can last an hour; nobody should wonder whether anything happens
ENDED = {"SUCCEEDED": PASS, "ROLLED_BACK": FAIL, "STUCK": INFRASTRUCTURE}
HELD = {"pass": PASS, "fail": FAIL}

output_option = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
why_option = click.option("--why", required=True, help="Goes into the audit log with your name.")


@click.group()
def rollout() -> None:
    """Start, wait for, list, show, pause, resume, approve, promote or abort rollouts."""


@rollout.command()
@click.argument("model")
@click.argument("version", type=click.IntRange(min=0))
@why_option
@click.option("--wait", is_flag=True, help="Follow it to its end, and exit with the verdict's code.")
@agent_options
def start(connection: Connection, model: str, version: int, why: str, wait: bool) -> None:
    """Put VERSION of MODEL on trial.

    \b
      haldane rollout start credit_risk 4 --why "retrained on October" --wait

    Exit codes: 0 started (with --wait: passed), 1 withdrawn, 2 no such model,
    3 held without a verdict, 4 the agent did not answer, 5 it refused.
    """
    body = {"model": model, "version": version, "by": getpass.getuser(), "why": why}
    made = connection.post("/v1/rollouts", body)["rollout"]
    click.echo(f"{made['id']}: {model} {change(made)} started")
    if not made["why"].endswith(why):  # something that one should know, and which refuses nothing
        click.echo(f"note: {made['why']}", err=True)
    if wait:
        raise SystemExit(follow(connection, made["id"]))


def follow(connection: Connection, name: str) -> int:
    """Print each change of phase until the rollout ends or waits for a person; its exit code."""
    try:
        return _follow(connection, name)
    except KeyboardInterrupt:
        click.echo(f"\nstill under way, only no longer followed: haldane rollout show {name}", err=True)
        return INCONCLUSIVE


def _follow(connection: Connection, name: str) -> int:
    last: tuple[str, str] | None = None
    told_at, told_pairs = time.monotonic(), 0
    while True:
        found = connection.get(f"/v1/rollouts/{name}")
        one, ruling = found["rollout"], found["ruling"]
        if (one["phase"], one["why"]) != last:
            last = (one["phase"], one["why"])
            click.echo(f"{one['phase']:<13}{one['why']}")
            told_at = time.monotonic()
        elif ruling and ruling["pairs"] > told_pairs and time.monotonic() - told_at >= PROGRESS_SECONDS:
            click.echo(f"{'':<13}{ruling['pairs']:,} pairs so far; {ruling['why']}")
            told_at, told_pairs = time.monotonic(), ruling["pairs"]
        if one["phase"] in ENDED:
            return ENDED[one["phase"]]
        if one["phase"] == "HELD":
            choices = "resume|abort" if one["mode"] == "observe" else "resume|promote|abort"
            click.echo(f"It waits for a person: haldane rollout {choices} {name} --why ...")
            return HELD.get(one["verdict"], INCONCLUSIVE)
        time.sleep(POLL_SECONDS)


def _command(kind: str, does: str) -> click.Command:
    @click.command(name=kind, help=f"{does}\n\n{TABLE}")
    @click.argument("rollout_id")
    @why_option
    @agent_options
    def send(connection: Connection, rollout_id: str, why: str) -> None:
        body = {"kind": kind, "by": getpass.getuser(), "why": why}
        done = connection.post(f"/v1/rollouts/{rollout_id}/commands", body)
        click.echo(f"{rollout_id}: {done['before']} -> {done['after']}")

    return send


rollout.add_command(wait_)
rollout.add_command(_command("pause", "Hold ROLLOUT_ID where it stands; harm still rolls it back."))
rollout.add_command(_command("resume", "Go on with ROLLOUT_ID from where it was held."))
rollout.add_command(_command("promote", "Promote ROLLOUT_ID now, on your word instead of the evidence's."))
rollout.add_command(_command("approve", "Approve ROLLOUT_ID, which has passed and waits for it (plan.approvals)."))
rollout.add_command(_command("abort", "Roll ROLLOUT_ID back on every server, now."))


@rollout.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@output_option
@agent_options
def list_(connection: Connection, limit: int, output: str) -> None:
    """The newest rollouts first."""
    found = connection.get("/v1/rollouts", limit=limit)
    if output == "json":
        print_json(found)
    elif not found["rollouts"]:
        click.echo("no rollouts yet; start one with haldane rollout start MODEL VERSION --why ...")
    else:
        rollout_table(found["rollouts"])


@rollout.command()
@click.argument("rollout_id")
@output_option
@agent_options
def show(connection: Connection, rollout_id: str, output: str) -> None:
    """ROLLOUT_ID with its findings and its records."""
    found = connection.get(f"/v1/rollouts/{rollout_id}")
    records = connection.get(f"/v1/rollouts/{rollout_id}/records")["records"]
    if output == "json":
        print_json({**found, "records": records})
        return
    rollout_table([found["rollout"]])
    _findings(found["ruling"])
    for record in records:
        says = record["data"].get("why") or record["data"].get("detail") or ""
        click.echo(f"{ago(record['at']):>9}  {record['kind']:<16}{says}")


def _findings(ruling: dict[str, Any] | None) -> None:
    if ruling is None:
        click.echo("no data: nothing was judged yet")
        return
    from haldane.cli.shown import finding_table

    finding_table(ruling)
