"""Trials run and counted."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from .baselines import make
from .scenario import Scenario

CHUNK = 25  # trials in one task of the pool
RIGHT = {"good": "promote", "bad": "rollback", "edge": None}

Ending = tuple[str, int]  # last word of the judge, and pairs seen by then


@dataclass(frozen=True, slots=True)
class Result:
    """What one judge did in the trials of one scenario and seed. Counts are of trials."""

    scenario: str
    truth: str
    judge: str
    seed: int
    trials: int
    rollbacks: int
    promotions: int
    early_promotions: int  # before the least pairs
    early_rollbacks: int  # before the change
    median: float | None  # pairs to the right verdict, after the change; None: half the trials had none
    p90: float | None
    floor: float | None

    @property
    def ratio(self) -> float | None:
        """Median pairs over the floor."""
        return self.median / self.floor if self.median is not None and self.floor else None

    @property
    def rollback_ratio(self) -> float:
        return self.rollbacks / self.trials

    @property
    def promotion_ratio(self) -> float:
        return self.promotions / self.trials


def endings(scenario: Scenario, judges: Sequence[str], trials: Iterable[int], seed: int) -> dict[str, list[Ending]]:
    """How each trial ended for each judge; a judge that does not apply has none."""
    found: dict[str, list[Ending]] = {judge: [] for judge in judges}
    for trial in trials:
        live = {name: judge for name in judges if (judge := make(name, scenario)) is not None}
        pairs = 0
        for batch in scenario.batches(trial, seed):
            pairs += int(batch["n"])
            for name in list(live):
                word = live[name].update(batch)
                if word != "continue":
                    found[name].append((word, pairs))
                    del live[name]
            if not live:
                break
        for name in live:
            found[name].append(("inconclusive", pairs))
    return found


def evaluate(scenario: Scenario, judge: str, seed: int, ended: Sequence[Ending]) -> Result:
    """Counts, and quantiles in which a trial without the right verdict is infinitely long."""
    right, onset = RIGHT[scenario.truth], scenario.onset_pairs
    lengths = np.array([pairs - onset if word == right else np.inf for word, pairs in ended])

    def quantile(share: float) -> float | None:
        found = float(np.quantile(lengths, share, method="higher"))
        return found if np.isfinite(found) else None

    return Result(
        scenario=scenario.name,
        truth=scenario.truth,
        judge=judge,
        seed=seed,
        trials=len(ended),
        rollbacks=sum(word == "rollback" for word, _ in ended),
        promotions=sum(word == "promote" for word, _ in ended),
        early_promotions=sum(word == "promote" and pairs < scenario.min_pairs for word, pairs in ended),
        early_rollbacks=sum(word == "rollback" and pairs <= onset for word, pairs in ended),
        median=quantile(0.5),
        p90=quantile(0.9),
        floor=scenario.floor(),
    )


def run(
    scenarios: Iterable[Scenario],
    plan: Callable[[Scenario], Iterable[tuple[Sequence[str], int]]],
    *,
    seeds: Sequence[int],
    jobs: int,
    tell: Callable[[Result], None],
) -> list[Result]:
    """Run every scenario with each seed; `plan` gives judges that share their draws, and for how many trials."""
    results = []
    with ProcessPoolExecutor(jobs) if jobs > 1 else nullcontext() as pool:
        for scenario in scenarios:
            for seed in seeds:
                for judges, trials in plan(scenario):
                    ended = _gather(pool, scenario, judges, trials, seed)
                    found = [evaluate(scenario, judge, seed, ended[judge]) for judge in judges if ended[judge]]
                    for result in found:
                        tell(result)
                    results += found
    return results


def _gather(
    pool: Executor | None, scenario: Scenario, judges: Sequence[str], trials: int, seed: int
) -> dict[str, list[Ending]]:
    chunks = [range(begin, min(begin + CHUNK, trials)) for begin in range(0, trials, CHUNK)]
    if pool is None:
        parts = [endings(scenario, judges, chunk, seed) for chunk in chunks]
    else:
        waiting = [pool.submit(endings, scenario, judges, chunk, seed) for chunk in chunks]
        parts = [each.result() for each in waiting]
    return {judge: [ending for part in parts for ending in part[judge]] for judge in judges}
