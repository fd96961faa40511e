"""How answers of the agent look on a terminal."""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

PIPE_WIDTH = 240
BRIEF_LETTERS = 120  # of a reason in a table; a server's own words can fill a page, and `rollout show` has them all


def print_json(value: Any) -> None:
    """The value for programs."""
    click.echo(json.dumps(value, indent=2, sort_keys=True))


def ago(at: float) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = max(0.0, time.time() - at)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit} ago"
    return f"{seconds:.0f}s ago"


def utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def console() -> Any:
    """Where tables go: as wide as the terminal, or wide enough for grep when there is none."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def _print(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console().print(table(title, columns, rows))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """A rich Table of plain text: nothing in it is read as markup."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def rollout_rows(rollouts: Sequence[dict[str, Any]]) -> list[list[str]]:
    return [[one["id"], one["model"], change(one), one["phase"], one["verdict"], brief(one["why"])] for one in rollouts]


def change(rollout: dict[str, Any]) -> str:
    """From which version to which; a first one has none before it."""
    old, new = rollout["old"], rollout["new"]
    return f"first: {new}" if old == new else f"{old} -> {new}"


def brief(reason: str) -> str:
    """Its first line, shortened where it is long."""
    line = reason.partition("\n")[0]
    return line if len(line) <= BRIEF_LETTERS else f"{line[: BRIEF_LETTERS - 1]}…"


ROLLOUT_COLUMNS = ("rollout", "model", "versions", "phase", "verdict", "why")


def rollout_table(rollouts: Sequence[dict[str, Any]]) -> None:
    """One line per rollout."""
    _print("", ROLLOUT_COLUMNS, rollout_rows(rollouts))


def finding_table(ruling: dict[str, Any]) -> None:
    """One line per metric of a ruling; a metric without data says so."""
    rows = [
        [
            one["metric"],
            one["role"],
            one["state"],
            str(one["pairs"]),
            quantity(one["estimate"], one["unit"]),
            _interval(one),
            quantity(one["margin"], one["unit"]),
        ]
        for one in ruling["findings"]
    ]
    title = f"newest ruling: {ruling['verdict']}, {ruling['why']}"
    _print(title, ("metric", "role", "state", "pairs", "harm", "interval", "margin"), rows)


def _interval(finding: dict[str, Any]) -> str:
    low, high = (quantity(finding[end], finding["unit"]) for end in ("lower", "upper"))
    return low if low == high == "no data" else f"{low} to {high}"


def quantity(value: float | None, unit: str) -> str:
    """A harm in its own unit, as the judge tells it."""
    if value is None:
        return "no data"
    from haldane.judge.verdict import quantity as told  # here, so that other commands start without numpy

    return told(value, unit)
