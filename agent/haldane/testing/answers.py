"""Made-up answers of two sides on the margin of what is judged of them without a right one, and what was said.

The traffic is at its worst: hard inputs come in runs, both sides are alike
on average only, or the answers are all the same but for the drift.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haldane.stats.betting import LATE_STARTS, Floats
from haldane.stats.drift import DriftEvidence
from haldane.stats.floor import FloorEvidence

MARGIN = 0.05
LOOK_EVERY = 200
INTERVAL_EVERY = 6  # looks: an interval costs as much as many

Answers = tuple[Floats, Floats]
Chance = NDArray[np.floating[Any]] | float
Evidence = FloorEvidence | DriftEvidence


@dataclass(frozen=True, slots=True)
class Edge:
    """Answers whose harm is the margin itself, so that neither verdict may come but by chance."""

    evidence: Callable[[], Evidence]
    draw: Callable[[np.random.Generator, int], Answers]


@dataclass(frozen=True, slots=True)
class Said:
    """What was ever said over all looks of a run."""

    harmful: bool
    harmless: bool
    missed: bool  # an interval did not hold the truth


def said(evidence: Evidence, answers: Answers, *, truth: float, alpha: float, beta: float, intervals: bool) -> Said:
    """Look after every 200 pairs, opening a late start at every second look."""
    harmful = harmless = missed = False
    looks = range(LOOK_EVERY, len(answers[0]), LOOK_EVERY)
    for look, (stable, canary) in enumerate(zip(*(np.split(side, looks) for side in answers), strict=True)):
        evidence.fold(stable, canary)
        if look % 2 and look < 2 * LATE_STARTS:
            evidence.start()
        harmful |= evidence.log_harm() >= -np.log(alpha)
        harmless |= evidence.log_harmless() >= -np.log(beta)
        if intervals and look % INTERVAL_EVERY == INTERVAL_EVERY - 1:
            low, high = evidence.interval(0.025)
            missed |= (low is not None and low > truth + 1e-9) or (high is not None and high < truth - 1e-9)
    return Said(bool(harmful), bool(harmless), missed)


def agreement(rng: np.random.Generator, n: int, floor: Chance, canary: Chance, share: float) -> Answers:
    """Disagreements of n pairs, `share` of them of stable with itself."""
    alone = rng.random(n) < share
    differs = (rng.random(n) < np.where(alone, floor, canary)).astype(np.float64)
    return np.where(alone, differs, np.nan), np.where(alone, np.nan, differs)


def hard_inputs_in_runs(rng: np.random.Generator, n: int) -> Answers:
    """Half of the inputs are hard, in runs of 60 on average; on those both versions waver."""
    hard = (np.cumsum(rng.random(n) < 1 / 60) + rng.integers(2)) % 2
    return agreement(rng, n, 0.4 * hard, 0.4 * hard + MARGIN, 0.1)


def shifted(rng: np.random.Generator, n: int, shift: float) -> Answers:
    """Uniform outputs, in three of ten pairs unrelated; the canary's are higher by `shift` at every threshold."""
    stable, other = rng.random((2, n))
    return stable, np.where(rng.random(n) < 0.3, other, stable) + shift


def one_class_grows(rng: np.random.Generator, n: int) -> Answers:
    """Independent answers: the third class is chosen oftener by the margin, at the cost of the first."""
    before, after = [0.5, 0.3, 0.2], [0.5 - MARGIN, 0.3, 0.2 + MARGIN]
    return rng.choice(3, n, p=before).astype(np.float64), rng.choice(3, n, p=after).astype(np.float64)


def a_constant_moves(rng: np.random.Generator, n: int) -> Answers:
    return np.full(n, 0.5), np.where(rng.random(n) < MARGIN, 0.4, 0.5)


def _floor() -> FloorEvidence:
    return FloorEvidence(margin=MARGIN)


def _drift() -> DriftEvidence:
    return DriftEvidence(margin=MARGIN)


EDGES: Mapping[str, Edge] = {
    "disagreement, no floor": Edge(_floor, lambda rng, n: agreement(rng, n, 0.0, MARGIN, 0.1)),
    "disagreement, a floor of 1 %": Edge(_floor, lambda rng, n: agreement(rng, n, 0.01, 0.01 + MARGIN, 0.05)),
    "disagreement, a floor of 30 %": Edge(_floor, lambda rng, n: agreement(rng, n, 0.3, 0.3 + MARGIN, 0.2)),
    "disagreement, hard inputs in runs": Edge(_floor, hard_inputs_in_runs),
    "drift at every threshold": Edge(_drift, lambda rng, n: shifted(rng, n, MARGIN)),
    "drift of two classes": Edge(lambda: DriftEvidence(margin=MARGIN, classes=True), one_class_grows),
    "drift of a constant": Edge(_drift, a_constant_moves),
}
