"""What is shown of outputs keeps its promises: agreement beyond the noise floor, and drift.

Seeds are fixed, so a run is repeatable. Thousands of trials belong to `benchmarks/answers.py`.
"""

import numpy as np
import pytest

from haldane.stats.drift import DriftEvidence
from haldane.stats.floor import FloorEvidence
from haldane.testing.answers import EDGES, MARGIN, Answers, Edge, Evidence, Said, agreement, said, shifted
from haldane.testing.chance import most

TRIALS, PAIRS = 300, 6000
ALPHA, BETA = 0.01, 0.05


def tried(evidence: Evidence, answers: Answers, *, truth: float) -> Said:
    return said(evidence, answers, truth=truth, alpha=ALPHA, beta=BETA, intervals=True)


@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES.keys())
def test_on_the_margin_both_verdicts_are_as_rare_as_promised(edge: Edge) -> None:
    draws = (edge.draw(np.random.default_rng([1, trial]), PAIRS) for trial in range(TRIALS))
    found = [tried(edge.evidence(), answers, truth=MARGIN) for answers in draws]
    assert sum(one.harmful for one in found) <= most(ALPHA)
    assert sum(one.harmless for one in found) <= most(BETA)
    assert sum(one.missed for one in found) <= most(0.05)


def test_drift_of_three_margins_is_found_and_none_is_cleared() -> None:
    draws = (shifted(np.random.default_rng([3, trial]), PAIRS, 3 * MARGIN) for trial in range(60))
    found = [tried(DriftEvidence(margin=MARGIN), answers, truth=3 * MARGIN) for answers in draws]
    assert sum(one.harmful and not one.harmless for one in found) >= 57


def test_a_noisy_stable_whose_canary_is_as_noisy_is_cleared_and_never_blamed() -> None:
    draws = (agreement(np.random.default_rng([4, trial]), PAIRS, 0.1, 0.1, 0.2) for trial in range(60))
    found = [tried(FloorEvidence(margin=MARGIN), answers, truth=0.0) for answers in draws]
    assert not any(one.harmful for one in found)
    assert sum(one.harmless for one in found) >= 50
