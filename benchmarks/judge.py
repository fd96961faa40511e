#!/usr/bin/env python3
"""How often the judge errs, and how near its pace is to the least data any test could do with.

    python benchmarks/judge.py --trials 20 --only acc
    python benchmarks/judge.py --seed 0 --seed fresh --jobs 2 --json build/judge-trials.json --table docs/benchmarks.md

Runs the product's judge on simulated pairs whose truth is known, beside rules
of peers, and prints a line for each as it ends. Without --trials the counts
are those that the goals ask for: 2,000 on a margin, 3,000 with identical
versions, 400 elsewhere, 200 of the other rules. Exits 1 when the judge misses
a goal (trials/goals.py), 2 on wrong usage.
"""

import argparse
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from trials import goals
from trials.baselines import BASELINES, make
from trials.page import Block
from trials.run import Result, run
from trials.scenario import Scenario
from trials.scenarios import SCENARIOS
from trials.tables import HEAD, Tables, by_name, line

PRODUCT = "haldane.testing.trials:judge"


def seed(text: str) -> int:
    return secrets.randbelow(10**8) if text == "fresh" else int(text)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, help="at most this many trials of a scenario and seed")
    parser.add_argument("--only", action="append", default=[], help="scenarios whose name contains this; repeatable")
    parser.add_argument("--truth", choices=("good", "bad", "edge"), help="only scenarios of this kind")
    parser.add_argument(
        "--seed", type=seed, action="append", help='a number (0 if none is given), or "fresh"; repeatable'
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--judge", default=PRODUCT, help="module:factory to hold to the goals (%(default)s)")
    parser.add_argument("--no-baselines", action="store_true", help="this judge alone")
    parser.add_argument("--json", type=Path, help="keep results here; rows that are run again replace the old ones")
    parser.add_argument("--table", type=Path, help="page whose tables to write anew")
    options = parser.parse_args(argv)
    try:
        if options.trials is not None and options.trials < 1:
            raise ValueError(f"--trials must be at least 1, got {options.trials}")
        options.scenarios = chosen(options)
        make(options.judge, options.scenarios[0])
        options.block = Block(options.table, "judge trials") if options.table else None
    except ValueError as error:
        parser.error(str(error))
    return options


def chosen(options: argparse.Namespace) -> list[Scenario]:
    found = [
        scenario
        for scenario in SCENARIOS
        if options.truth in (None, scenario.truth)
        and (not options.only or any(part in scenario.name for part in options.only))
    ]
    if not found:
        raise ValueError(f"no scenario fits; there are: {', '.join(scenario.name for scenario in SCENARIOS)}")
    return found


def plan(scenario: Scenario, options: argparse.Namespace) -> Iterator[tuple[Sequence[str], int]]:
    most = options.trials or goals.IDENTICAL_TRIALS
    yield [options.judge], min(most, goals.trials(scenario))
    if not options.no_baselines:
        yield list(BASELINES), min(most, goals.BASELINE_TRIALS)


class Kept:
    """Results by scenario, judge and seed; with a file, those of earlier runs as well, as far as not run again."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        earlier = [Result(**row) for row in json.loads(file.read_text())] if file and file.exists() else []
        self.rows = {_key(row): row for row in earlier}

    def add(self, result: Result) -> None:
        """Written at once: a run of hours may be cut short."""
        self.rows[_key(result)] = result
        if self.file:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(json.dumps([asdict(row) for row in self.rows.values()], indent=1) + "\n")


def _key(result: Result) -> tuple[str, str, int]:
    return result.scenario, result.judge, result.seed


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    kept, began = Kept(options.json), time.monotonic()

    def tell(result: Result) -> None:
        print(line(result, options.judge), flush=True)
        kept.add(result)

    print(HEAD, flush=True)
    results = run(
        options.scenarios, lambda each: plan(each, options), seeds=options.seed or [0], jobs=options.jobs, tell=tell
    )
    print(f"{time.monotonic() - began:.0f} s; median and p90 in pairs, after the change where there is one")
    if options.block:
        options.block.write(Tables(list(kept.rows.values()), options.judge).whole())
    ours = [(by_name(result.scenario), result) for result in results if result.judge == options.judge]
    misses = [
        f"{scenario.name}, seed {result.seed}: {miss}"
        for scenario, result in ours
        for miss in goals.missed(scenario, result)
    ]
    print("\n".join(["goals missed:", *misses]) if misses else "every goal is met")
    return 1 if misses else 0


if __name__ == "__main__":
    raise SystemExit(main())
