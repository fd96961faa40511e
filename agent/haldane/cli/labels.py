"""`haldane labels`: right answers that come after the answers they judge."""

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import click

from haldane.cli.connection import Connection, agent_options
from haldane.cli.exits import USAGE, leave

AT_ONCE = 5000  # labels in one call: some 300 kB, and a beat of the progress bar


@click.group()
def labels() -> None:
    """Hand in right answers that came late."""


@labels.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option("--model", required=True, help="The model whose answers they judge.")
@agent_options
def send(connection: Connection, file: Path, model: str) -> None:
    """Send the right answers in FILE to the agent, up to the first mistake in it.

    FILE is .jsonl, a {"request": ID, "label": RIGHT_ANSWER} on each line, or .csv with the columns request and
    label; - reads JSON lines from standard input. Sending a file again does no harm: the first label of a request
    stands.

    \b
      haldane labels send october.jsonl --model credit_risk
      haldane labels send october.csv --model credit_risk

    Exit codes: 0 all of them are stored, 2 a line is no label, 4 the agent did
    not answer, 5 it refused.
    """
    lines = _csv_lines(file) if file.suffix.lower() == ".csv" else _json_lines(file)
    total = {"accepted": 0, "duplicate": 0, "unknown": 0}
    try:
        with click.progressbar(_portions(lines), label=f"labels of {model}", show_pos=True) as portions:
            for portion in portions:
                answer = connection.post_bytes(f"/v1/labels?model={quote(model, safe='')}", portion)
                for key in total:
                    total[key] += answer[key]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        leave(USAGE, f"{file}: cannot be read: {error}")
    click.echo(
        f"{total['accepted']:,} accepted, of which {total['unknown']:,} without a pair so far;"
        f" {total['duplicate']:,} were known already"
    )


def _portions(lines: Iterator[bytes]) -> Iterator[bytes]:
    while portion := list(islice(lines, AT_ONCE)):
        yield b"\n".join(portion)


def _json_lines(file: Path) -> Iterator[bytes]:
    """The lines that hold a label."""
    with click.open_file(str(file), "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _checked(line.strip(), file, number)


def _csv_lines(file: Path) -> Iterator[bytes]:
    """The rows as JSON lines; a number is sent as one."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text)
        columns = rows.fieldnames or []
        if not {"request", "label"} <= set(columns):
            leave(USAGE, f"{file}, line 1: needs the columns request and label; it has {', '.join(columns) or 'none'}")
        for row in rows:
            label = {"request": row["request"], "label": _number(row["label"] or "")}
            yield _checked(json.dumps(label).encode(), file, rows.line_num)


def _checked(line: bytes, file: Path, number: int) -> bytes:
    """The line, if it holds a label; else leaves with exit code 2."""
    from haldane.web.labels import BadLabel, read_labels

    try:
        read_labels(line)
    except BadLabel as bad:
        leave(USAGE, f"{file}, line {number}: {str(bad).partition(': ')[2]}", "Lines before it may have been sent.")
    return line


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
