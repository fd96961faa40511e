"""`haldane rollout wait`: what becomes of a version, as an exit code."""

import time
from typing import Any

import click

from haldane.cli.connection import Connection, agent_options
from haldane.cli.exits import FAIL, INCONCLUSIVE, INFRASTRUCTURE, PASS, leave

POLL_SECONDS = 1.0


@click.command("wait")
@click.argument("model")
@click.argument("version", type=click.IntRange(min=0))
@click.option("--timeout", type=click.FloatRange(min=0), default=14_400, show_default=True, metavar="SECONDS",
              help="How long to wait at most.")  # fmt: skip
@agent_options
def wait_(connection: Connection, model: str, version: int, timeout: float) -> None:
    """Wait for the end of the rollout of VERSION of MODEL, also for its beginning.

    For pipelines that announced a version. An agent that is away or restarted
    meanwhile is waited for; so is a rollout that somebody paused.

    \b
      haldane release announce credit_risk 8
      haldane rollout wait credit_risk 8 --timeout 7200

    Exit codes: 0 it is stable on every server (observe: promoting it is
    recommended), 1 it was withdrawn, 2 no such model, 3 held without a verdict,
    its announcement was refused, or the time is over, 4 the agent did not
    answer, at the start or at the end of the time.
    """
    until = time.monotonic() + timeout
    said: tuple[str, str] | None = None
    answer = connection.get("/v1/verdict", model=model, version=version)
    while True:
        if answer is not None and (shown := (answer["phase"] or "", answer["why"])) != said:
            said = shown
            click.echo(f"{shown[0]:<13}{shown[1]}")
        if (code := _ended(answer)) is not None:
            raise SystemExit(code)
        if time.monotonic() >= until:
            leave(*_given_up(answer, timeout))
        time.sleep(POLL_SECONDS)
        answer = connection.maybe("/v1/verdict", model=model, version=version)


def _ended(answer: dict[str, Any] | None) -> int | None:
    """The exit code, None while it goes on. A promotion counts when it is over, for it may still be taken back."""
    match answer:
        case {"answer": "pass", "phase": "SUCCEEDED" | "HELD"}:
            return PASS
        case {"answer": "fail"}:
            return FAIL
        case {"answer": "inconclusive"}:
            return INCONCLUSIVE
    return None


def _given_up(answer: dict[str, Any] | None, timeout: float) -> tuple[int, str]:
    if answer is None:
        return INFRASTRUCTURE, f"the agent has not answered, and {timeout:.0f} s are over"
    return INCONCLUSIVE, f"{timeout:.0f} s are over, and it goes on; nothing was changed"
