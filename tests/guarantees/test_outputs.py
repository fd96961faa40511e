"""What is shown of outputs keeps its promises: agreement beyond the noise floor, and drift.

On the margin, and where the traffic is at its worst: hard inputs that come in
runs, a canary and a stable that are only alike on average. Seeds are fixed.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest

from haldane.stats.betting import LATE_STARTS, Floats
from haldane.stats.drift import DriftEvidence
from haldane.stats.floor import FloorEvidence
from haldane.testing.chance import most

TRIALS = 300
PAIRS, LOOK_EVERY = 6000, 200
MARGIN = 0.05
ALPHA, BETA = 0.01, 0.05

Readings = tuple[Floats, Floats]
Draw = Callable[[np.random.Generator], Readings]


def looked_at(evidence: FloorEvidence | DriftEvidence, readings: Readings, truth: float) -> tuple[bool, bool, bool]:
    """Over all looks: harm was ever shown, harmlessness was ever shown, the interval ever missed the truth."""
    harm = harmless = missed = False
    every = PAIRS // LOOK_EVERY
    for look, (stable, canary) in enumerate(zip(*(np.split(side, every) for side in readings), strict=True)):
        evidence.fold(stable, canary)
        if look < LATE_STARTS and look % 2:
            evidence.start()
        harm |= evidence.log_harm() >= math.log(1 / ALPHA)
        harmless |= evidence.log_harmless() >= math.log(1 / BETA)
        if look % 6 == 5:
            low, high = evidence.interval(0.025)
            missed |= (low is not None and low > truth + 1e-9) or (high is not None and high < truth - 1e-9)
    return harm, harmless, missed


def runs(rng: np.random.Generator) -> Floats:
    """How hard each input is, 0 or 1: half of them, in runs of 60 on average."""
    switches = np.cumsum(rng.random(PAIRS) < 1 / 60) + rng.integers(2)
    return (switches % 2).astype(float)


def agreement(rng: np.random.Generator, floor: Floats | float, canary: Floats | float, share: float) -> Readings:
    alone = rng.random(PAIRS) < share
    differs = (rng.random(PAIRS) < np.where(alone, floor, canary)).astype(float)
    return np.where(alone, differs, np.nan), np.where(alone, np.nan, differs)


def hard_inputs_in_runs(rng: np.random.Generator) -> Readings:
    hard = runs(rng)
    return agreement(rng, 0.4 * hard, 0.4 * hard + MARGIN, 0.1)


FLOOR_ON_MARGIN: dict[str, Draw] = {
    "a small floor": lambda rng: agreement(rng, 0.01, 0.01 + MARGIN, 0.05),
    "a large floor": lambda rng: agreement(rng, 0.3, 0.3 + MARGIN, 0.2),
    "hard inputs in runs": hard_inputs_in_runs,
    "no floor at all": lambda rng: agreement(rng, 0.0, MARGIN, 0.1),
}


@pytest.mark.parametrize("draw", FLOOR_ON_MARGIN.values(), ids=FLOOR_ON_MARGIN.keys())
def test_on_the_margin_above_the_floor_both_verdicts_are_as_rare_as_promised(draw: Draw) -> None:
    found = [
        looked_at(FloorEvidence(margin=MARGIN), draw(np.random.default_rng([1, trial])), MARGIN)
        for trial in range(TRIALS)
    ]
    harm, harmless, missed = (sum(each) for each in zip(*found, strict=True))
    assert harm <= most(ALPHA)
    assert harmless <= most(BETA)
    assert missed <= most(0.05)


def shifted(rng: np.random.Generator, shift: float) -> Readings:
    """Uniform outputs, in three of ten pairs unrelated; the canary's are higher by `shift` at every threshold."""
    stable, other = rng.random((2, PAIRS))
    return stable, np.where(rng.random(PAIRS) < 0.3, other, stable) + shift


def one_class_grows(rng: np.random.Generator) -> Readings:
    """Independent answers: the third class is chosen oftener by the margin, at the cost of the first."""
    before, after = [0.5, 0.3, 0.2], [0.5 - MARGIN, 0.3, 0.2 + MARGIN]
    return rng.choice(3, PAIRS, p=before).astype(float), rng.choice(3, PAIRS, p=after).astype(float)


def a_constant_moves(rng: np.random.Generator) -> Readings:
    return np.full(PAIRS, 0.5), np.where(rng.random(PAIRS) < MARGIN, 0.4, 0.5)


DRIFT_ON_MARGIN: dict[str, tuple[bool, Draw]] = {
    "every threshold": (False, lambda rng: shifted(rng, MARGIN)),
    "two classes": (True, one_class_grows),
    "a constant": (False, a_constant_moves),
}


@pytest.mark.parametrize(("classes", "draw"), DRIFT_ON_MARGIN.values(), ids=DRIFT_ON_MARGIN.keys())
def test_on_the_margin_of_drift_both_verdicts_are_as_rare_as_promised(classes: bool, draw: Draw) -> None:
    found = [
        looked_at(DriftEvidence(margin=MARGIN, classes=classes), draw(np.random.default_rng([2, trial])), MARGIN)
        for trial in range(TRIALS)
    ]
    harm, harmless, missed = (sum(each) for each in zip(*found, strict=True))
    assert harm <= most(ALPHA)
    assert harmless <= most(BETA)
    assert missed <= most(0.05)


def test_drift_of_three_margins_is_found_and_none_is_cleared() -> None:
    found = 0
    for trial in range(60):
        evidence = DriftEvidence(margin=MARGIN)
        harm, harmless, _ = looked_at(evidence, shifted(np.random.default_rng([3, trial]), 3 * MARGIN), 3 * MARGIN)
        found += harm and not harmless
    assert found >= 57


def test_a_noisy_stable_whose_canary_is_as_noisy_is_cleared_and_never_blamed() -> None:
    cleared = 0
    for trial in range(60):
        readings = agreement(np.random.default_rng([4, trial]), 0.1, 0.1, 0.2)
        harm, harmless, _ = looked_at(FloorEvidence(margin=MARGIN), readings, 0.0)
        assert not harm
        cleared += harmless
    assert cleared >= 50
