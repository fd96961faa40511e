"""The trials of a backtest: run with progress, then shown."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from haldane.cli.exits import INCONCLUSIVE, USAGE, leave

if TYPE_CHECKING:
    from haldane.cli.material import Material
    from haldane.judge.backtest import Sensitivity, Tally
    from haldane.stats.binomial import Rate


@dataclass(frozen=True, slots=True)
class Found:
    """What a backtest found."""

    material: "Material"
    left_out: tuple[str, ...]
    alike: "Tally"
    sensitivities: "tuple[Sensitivity, ...]"
    stretch_pairs: int
    stream_pairs: int

    def broken(self) -> list[str]:
        """Promises that the trials show not to hold on this noise, in sentences."""
        alpha, beta = self.material.rules.alpha, self.material.rules.beta
        found = [("rolled back where both sides are alike", self.alike.rollback, alpha)]
        for one in self.sensitivities:
            found.append((f"{one.metric} rolled back on its margin", one.edge.rollback, alpha))
            if one.role == "objective":
                found.append((f"{one.metric} promoted on its margin", one.edge.promotion, beta))
        return [f"{what}: {rate(seen)}, above {bound:.2%}" for what, seen, bound in found if seen.low > bound]

    def without_harm(self) -> list[str]:
        """Metrics that can roll back, and of which nothing is known here."""
        told = {*self.left_out, *(one.metric for one in self.sensitivities)}
        return [rule.name for rule in self.material.rules.metrics if rule.role.rolls_back and rule.name not in told]

    def show(self, output: str) -> None:
        """For a person, or for programs."""
        if output == "json":
            from haldane.cli.shown import print_json

            print_json(self.as_dict())
            return
        self._show_verdicts()
        self._show_alike()
        self._show_sensitivities()
        for sentence in self.broken():
            click.echo(f"NOT KEPT  {sentence}")

    def _show_verdicts(self) -> None:
        from haldane.cli.shown import brief, console, table

        rows = []
        for name, recorded, one in zip(
            self.material.names, self.material.recorded, self.material.opinions, strict=True
        ):
            when = f"{one.ruling.pairs:,} pairs, {one.ruling.seconds:,.0f} s" if one.decided else "-"
            rows.append([name, recorded or "-", one.ruling.verdict, when, brief(one.ruling.why)])
        columns = ("evidence", "recorded", "would have been", "after", "why")
        console().print(table("what this policy would have said", columns, rows))

    def _show_alike(self) -> None:
        alpha = self.material.rules.alpha
        one = self.alike
        click.echo(
            f"False alarms, sides swapped by blocks of {self.material.rules.block_pairs} pairs so that they are alike: "
            f"{rate(one.rollback)} rolled back (promised: at most {alpha:.2%}), {rate(one.promotion)} promoted."
        )
        if self.left_out:
            click.echo(f"Not tried, since it cannot be by swapping sides: {', '.join(self.left_out)}.")

    def _show_sensitivities(self) -> None:
        from haldane.cli.shown import console, quantity, table

        rows = []
        for one in self.sensitivities:
            found = "none in reach" if one.found is None else quantity(one.found, one.unit)
            when = f"{one.pairs:,.0f} pairs" if one.pairs is not None else "-"
            promoted = rate(one.edge.promotion) if one.role == "objective" else "-"
            rows.append([one.metric, quantity(one.margin, one.unit), rate(one.edge.rollback), promoted, found, when])
        rules = self.material.rules
        columns = (
            "metric",
            "margin",
            f"rolled back on it (≤ {rules.alpha:.2%})",
            f"promoted on it (≤ {rules.beta:.2%})",
            "smallest harm found",
            "after",
        )
        if missing := self.without_harm():
            click.echo(f"No harm could be put into {', '.join(missing)}: there are no data of it, or no way to.")
        title = f"harm put in, in streams of {self.stream_pairs:,} pairs drawn in stretches of {self.stretch_pairs}"
        console().print(table(title, columns, rows))

    def as_dict(self) -> dict[str, Any]:
        """The same for programs."""
        from haldane.web.jsonform import as_json

        material = self.material
        return {
            "policy": material.rules.digest,
            "alpha": material.rules.alpha,
            "beta": material.rules.beta,
            "evidence": [
                {"name": name, "recorded": recorded or None, "decided": as_json(one.decided), "end": as_json(one.end)}
                for name, recorded, one in zip(material.names, material.recorded, material.opinions, strict=True)
            ],
            "alike": _tally(self.alike),
            "left_out": list(self.left_out),
            "without_harm": self.without_harm(),
            "metrics": [
                {
                    **as_json(one),
                    "edge": _tally(one.edge),
                    "power": None if one.power is None else _rate(one.power),
                }
                for one in self.sensitivities
            ],
            "stretch_pairs": self.stretch_pairs,
            "stream_pairs": self.stream_pairs,
            "broken": self.broken(),
        }


def _tally(one: "Tally") -> dict[str, Any]:
    return {"rollback": _rate(one.rollback), "promotion": _rate(one.promotion), "pairs": one.pairs}


def _rate(one: "Rate") -> dict[str, Any]:
    return {"hits": one.hits, "trials": one.trials, "share": one.share, "low": one.low, "high": one.high}


def rate(one: "Rate") -> str:
    """A share with its interval, for people."""
    return f"{one.share or 0.0:.1%} ({one.low:.1%} to {one.high:.1%})"


def run_trials(material: "Material", *, streams: int, seed: int) -> Found:
    """All trials of the material, with the progress on standard error; leaves where there is too little data."""
    import numpy as np

    from haldane.judge.backtest import alike, length, sensitivities, tally
    from haldane.judge.resample import comparable, noise

    try:
        rules, left_out = comparable(material.rules)
    except ValueError as error:
        leave(USAGE, str(error))
    tables = [table for table in material.tables if len(table)]
    try:
        source = noise(tables, rules)
    except ValueError as error:
        leave(INCONCLUSIVE, f"no data: {error}")
    rng = np.random.default_rng(seed)
    with _progress() as progress:
        outcomes = []
        for outcome in alike(rules, tables, times=streams, rng=rng):
            outcomes.append(outcome)
            progress.tick()
        found = tuple(sensitivities(rules, source, times=streams, rng=rng, tick=progress.tick))
    return Found(material, left_out, tally(outcomes), found, source.stretch, length(rules, source))


@dataclass
class _Progress:
    """A count on standard error, where somebody sees it."""

    seen: bool
    count: int = 0

    def tick(self) -> None:
        self.count += 1
        if self.seen and self.count % 5 == 0:
            click.echo(f"\r{self.count:,} streams judged", nl=False, err=True)


@contextmanager
def _progress() -> Iterator[_Progress]:
    progress = _Progress(sys.stderr.isatty())
    yield progress
    if progress.seen:
        click.echo("\r" + " " * 40 + "\r", nl=False, err=True)
