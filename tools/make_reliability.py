#!/usr/bin/env python3
"""Write the table of docs/reliability.md from the rows that `make faults` leaves: one line a fault, all its runs.

python tools/make_reliability.py ROWS docs/reliability.md
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
HEAD = (
    "| fault | runs | how they ended | all servers agreed again after | answers | errors users saw | wrong answers "
    "| lost |\n"
    "| --- | ---: | --- | ---: | ---: | --- | ---: | ---: |\n"
)


def line(fault: str, runs: Sequence[dict[str, Any]]) -> str:
    """All runs of one fault."""
    ended = Counter(run["ended"].replace("_", " ").lower() for run in runs)
    errors: Counter[str] = Counter()
    for run in runs:
        errors.update(run["errors"])
    seconds = sorted(run["seconds"] for run in runs)
    cells = (
        fault,
        f"{len(runs)}",
        ", ".join(f"{count} {how}" for how, count in sorted(ended.items())),
        f"{seconds[len(seconds) // 2]:.0f} s (at most {seconds[-1]:.0f} s)",
        f"{sum(run['answers'] for run in runs):,}",
        ", ".join(f"{count:,} {code}" for code, count in sorted(errors.items())) or "none",
        f"{sum(run['wrong'] for run in runs)}",
        f"{sum(run['lost'] for run in runs)}",
    )
    return f"| {' | '.join(cells)} |"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The table in Markdown, faults in the order in which they were first run."""
    order = list(dict.fromkeys(row["fault"] for row in rows))
    by_fault = groupby(sorted(rows, key=lambda row: order.index(row["fault"])), key=lambda row: row["fault"])
    every = Counter(row["moment"] for row in rows)
    servers = sorted({row["servers"] for row in rows})
    said = (
        f"{len(rows)} runs on {' or '.join(map(str, servers))} servers; struck while "
        f"{', '.join(f'{moment} ({count})' for moment, count in every.items())}.\n\n"
    )
    return said + HEAD + "\n".join(line(fault, list(runs)) for fault, runs in by_fault) + "\n"


def main(rows_file: str, page_file: str) -> None:
    rows = [json.loads(row) for row in Path(rows_file).read_text().splitlines()]
    page = Path(page_file)
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        sys.exit(f"{page} has no lines {BEGIN} and {END} to write between")
    page.write_text(f"{before}{BEGIN}\n{table(rows)}{END}{after}", "utf-8")
    print(f"{page}: {len(rows)} runs")


if __name__ == "__main__":
    main(*sys.argv[1:])
