"""`haldane audit`: the append-only log of what was decided and done, to take away and to verify."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from haldane.cli.connection import Connection, agent_options
from haldane.cli.exits import FAIL, INCONCLUSIVE, REFUSED, USAGE, leave
from haldane.cli.shelf import failures
from haldane.cli.shown import console, print_json, table, utc

if TYPE_CHECKING:
    from haldane.domain.record import Record

_PAGE = 1000  # records per call
_TURNED_AWAY = ("denied", "command_refused", "caller_refused")  # kinds of records


@click.group()
def audit() -> None:
    """The log of what was decided and done, chained by hash."""


@audit.command()
@click.option("--to", "where", metavar="URI", help="A new file: a path, file:// or s3://.  [default: stdout]")
@agent_options
def export(connection: Connection, where: str | None) -> None:
    """Every record the agent keeps, oldest first, one line of JSON each.

    An existing file is never written over.

    \b
      haldane audit export --to audit-2026-11.jsonl
      haldane audit export --to s3://audit/haldane/2026-11.jsonl

    Exit codes: 0 done, 4 the agent did not answer or the storage fails, 5 the
    file is there already.
    """
    folder, slash, name = (where or "").rpartition("/")
    if where is not None and (not name or folder.endswith(":/")):
        leave(USAGE, f"--to {where}: wants the name of a file, as in s3://audit/2026-11.jsonl")
    lines = (line + "\n" for line in _asked(connection))
    if where is None:
        for line in lines:
            click.echo(line, nl=False)
        return
    from haldane.release.storage import open_storage

    with failures():
        if not open_storage(folder or (slash or ".")).create(name, "".join(lines).encode()):
            leave(REFUSED, f"{where} is there already, and is not written over")
    click.echo(f"exported to {where}", err=True)


@audit.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--contains", metavar="HASH", help="A hash that was noted earlier: the log must still go through it.")
@agent_options
def verify(connection: Connection, file: Path | None, contains: str | None) -> None:
    """Is the log whole: nothing changed, missing or in another order?

    Reads FILE, as written by `audit export`, or else asks the agent. The hash it
    prints stands for all records up to the last one. Note it where the log's
    owner cannot write, and --contains finds a log that was cut or written anew.

    \b
      haldane audit verify
      haldane audit verify audit-2026-11.jsonl
      haldane audit verify --contains 5f0c7a...

    Exit codes: 0 whole, 1 not, 2 no such file, 3 there is no record, 4 the agent
    did not answer.
    """
    from haldane.domain.record import flaw

    before: Record | None = None
    met = contains is None
    for record in _records(connection, file):
        if why := flaw(record, before):
            leave(FAIL, why, "the log is not what was written")
        met = met or record.hash == contains
        before = record
    if not met:
        leave(FAIL, f"no record has the hash {contains}: the log was cut, or written anew")
    if before is None:
        leave(INCONCLUSIVE, "there is no record, so there is nothing to verify")
    click.echo(f"{before.seq:,} records, none changed, missing or in another order; up to here: {before.hash}")


@audit.command()
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@agent_options
def denied(connection: Connection, output: str) -> None:
    """Every attempt that was turned away: by people who may not, and by nobody who is known.

    Of calls without a token of the agent's there is one record a minute at
    most, with how many came, from where, and to what path; never what they showed.

    \b
      haldane audit denied
      haldane audit denied -o json

    Exit codes: 0 shown, 1 the log is not what was written, 4 the agent did not
    answer.
    """
    found = [record for record in _records(connection, None) if record.kind in _TURNED_AWAY]
    if output == "json":
        print_json([asdict(record) for record in found])
        return
    rows = [[utc(one.at), one.kind, *cells] for one in found for cells in _turned_away(one)]
    console().print(table("", ("at", "what", "who", "calls", "model", "why"), rows))


def _turned_away(record: "Record") -> Iterator[list[str]]:
    """Who, how often, which model and why; of callers nobody knows a line for each place they called from."""
    data = record.data
    for one in data.get("callers", ()):
        yield [one["address"], f"{one['attempts']:,}", "", f"{one['path']}: {one['reason']}"]
    if data.get("others"):
        yield ["others", f"{data['others']:,}", "", "from more places than there is room for"]
    if "callers" not in data:
        yield [data["by"], "1", record.model, data["why"]]


def _asked(connection: Connection) -> Iterator[str]:
    after = 0
    while lines := connection.lines("/v1/records", after=after, limit=_PAGE):
        yield from lines
        after = _read(lines[-1], connection.agent).seq


def _records(connection: Connection, file: Path | None) -> "Iterator[Record]":
    if file is None:
        yield from (_read(line, connection.agent) for line in _asked(connection))
        return
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                yield _read(line, f"{file}, line {number}")
    except OSError as error:
        leave(USAGE, f"{file}: {error.strerror}")
    except UnicodeDecodeError:
        leave(FAIL, f"{file} is not UTF-8 text, so it is not what was exported")


def _read(line: str, where: str) -> "Record":
    from haldane.domain.record import from_line

    try:
        return from_line(line)
    except ValueError as error:
        leave(FAIL, f"{where}: is no record: {error}", "the log is not what was written")
