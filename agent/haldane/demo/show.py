"""What people see: plain sentences as things happen, a live line while pairs are judged, a table at the end."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.rule import Rule
from rich.status import Status
from rich.table import Table
from rich.text import Text

from haldane.demo.acts import Act, Ended, evidence_of, stable_after
from haldane.domain.evidence import Role, Ruling
from haldane.domain.rollout import Phase, Rollout


class Show:
    """Writes to one console. On a terminal the live line is redrawn; elsewhere only whole sentences appear."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._status: Status | None = None
        self._why = ""  # of the phase shown last

    def say(self, sentence: str, *, style: str = "") -> None:
        self.console.print(Text(sentence, style=style))

    def aside(self, sentence: str) -> None:
        """Something for the curious."""
        self.console.print(Text(f"  {sentence}", style="dim"))

    def curtain(self, title: str) -> None:
        """A line across, with what comes next."""
        self.console.print()
        self.console.print(Rule(Text(title, style="bold"), align="left", style="cyan"))

    @contextlib.contextmanager
    def live(self, sentence: str) -> Iterator[None]:
        """A line that is redrawn while the block runs (see `now`)."""
        with self.console.status(Text(sentence)) as self._status:
            yield
        self._status = None

    def now(self, sentence: str) -> None:
        """Change the live line."""
        if self._status is not None:
            self._status.update(Text(sentence))

    def progress(self, rollout: Rollout, ruling: Ruling | None, seconds: float) -> None:
        """The live line of a rollout."""
        self.now(f"{rollout.phase.value.lower().replace('_', ' ')}, {seconds:.0f} s{_evidence(ruling)}")

    def moved(self, phase: Phase, why: str, seconds: float) -> None:
        """A phase was entered, that many seconds after the start."""
        style = {Phase.SUCCEEDED: "green", Phase.ROLLED_BACK: "yellow", Phase.STUCK: "red"}.get(phase, "")
        # A rollback keeps its reason to the end; said twice it would only be longer.
        said, self._why = why == self._why, why
        line = Table.grid(padding=(0, 1))
        line.add_column(width=8, justify="right")
        line.add_column(width=12)
        line.add_column(overflow="fold")
        line.add_row(
            Text(f"{seconds:.1f} s", style="dim"),
            Text(phase.value, style=style or "cyan"),
            Text("the replicas are as before" if said else why, style=style),
        )
        self.console.print(line)

    def ended(self, ended: Ended) -> None:
        """Was the verdict right?"""
        if ended.right:
            self.say(f"  Right: {ended.act.expected}.", style="bold green")
        for mistake in ended.mistakes:
            self.say(f"  Wrong: {mistake}.", style="bold red")

    def table(self, every: Sequence[Ended]) -> None:
        """All acts at a glance."""
        table = Table(title="What was tried, and what became of it", title_justify="left", box=SIMPLE_HEAD)
        for heading in ("", "what was wrong", "verdict"):
            table.add_column(heading)
        for heading in ("pairs\nneeded", "seconds"):
            table.add_column(heading, justify="right")
        for heading in ("labels\nafter", "right?"):
            table.add_column(heading)
        for ended in every:
            table.add_row(*_cells(ended))
        self.console.print()
        self.console.print(table)


def _cells(ended: Ended) -> list[str | Text]:
    """One row of the table for people."""
    return [
        f"v{ended.act.version}",
        ended.act.wrong,
        ended.outcome,
        f"{ended.pairs:,}" if ended.ruling else "-",
        f"{ended.seconds:.1f}",
        labels_text(ended),
        Text("yes", style="green") if ended.right else Text("NO", style="bold red"),
    ]


def _evidence(ruling: Ruling | None) -> str:
    if ruling is None:
        return ""
    parts = [evidence_of(finding) for finding in ruling.findings if finding.role is not Role.INFO]
    return f" · {ruling.pairs:,} pairs · " + " · ".join(parts)


def labels_text(ended: Ended) -> str:
    """`stable → 3` when all replicas agree, else one entry per replica."""
    if (version := stable_after(ended)) is not None:
        return f"stable → {version}"
    return ", ".join(f"{server}: stable → {labels.get('stable')}" for server, labels in sorted(ended.after.items()))


def as_programs_read_it(
    every: Sequence[Ended], *, seed: int, seconds: float, source: str, report: str | None
) -> dict[str, Any]:
    """The table as JSON values."""
    return {
        "right": bool(every) and all(ended.right for ended in every),
        "seed": seed,
        "seconds": round(seconds, 1),
        "data": source,
        "report": report,
        "acts": [_row(ended) for ended in every],
    }


def _row(ended: Ended) -> dict[str, Any]:
    act: Act = ended.act
    return {
        "version": act.version,
        "wrong": act.wrong,
        "expected": act.expected.value,
        "verdict": ended.outcome,
        "phase": ended.rollout.phase.value,
        "why": ended.rollout.why,
        "right": ended.right,
        "mistakes": list(ended.mistakes),
        "pairs": ended.pairs if ended.ruling else None,
        "seconds": round(ended.seconds, 1),
        "labels_after": {server: dict(labels) for server, labels in ended.after.items()},
        "alert": dict(ended.alert["labels"]) if ended.alert else None,
    }


def dumps(table: dict[str, Any]) -> str:
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"
