"""Drift shows where the outputs of two sides part, and says nothing where they do not."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.stats.betting import LATE_STARTS, Floats
from haldane.stats.drift import LEARNING_PAIRS, PLACES, DriftEvidence


def folded(stable: Floats, canary: Floats, *, margin: float = 0.05, classes: bool = False) -> DriftEvidence:
    evidence = DriftEvidence(margin=margin, classes=classes)
    evidence.fold(np.asarray(stable, float), np.asarray(canary, float))
    return evidence


def probabilities(n: int, *, shift: float = 0.0, seed: int = 0) -> tuple[Floats, Floats]:
    """Outputs of two models that agree up to noise; the canary's log-odds are shifted."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(0, 1.5, n)
    stable, canary = middle + rng.normal(0, 0.1, (2, n))
    return 1 / (1 + np.exp(-stable)), 1 / (1 + np.exp(-canary - shift))


def test_without_pairs_there_is_no_evidence() -> None:
    evidence = DriftEvidence(margin=0.05)
    assert (evidence.pairs, evidence.estimate()) == (0, None)
    assert (evidence.log_harm(), evidence.log_harmless()) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert evidence.interval(0.025) == (None, None)
    assert "first 200 pairs" in evidence.detail()


def test_the_pairs_that_fix_the_thresholds_are_not_counted() -> None:
    evidence = folded(*probabilities(LEARNING_PAIRS))
    assert evidence.estimate() is None
    assert evidence.places is not None and len(evidence.places) == 9
    assert evidence.ledger.total[0] == 0


def test_the_same_distribution_is_shown_to_be_the_same() -> None:
    evidence = folded(*probabilities(6000))
    assert evidence.log_harm() < 0.0
    assert evidence.log_harmless() > math.log(20)
    low, high = evidence.interval(0.025)
    assert low == 0.0 and high < 0.05  # type: ignore[operator]


def test_a_shift_is_found_and_the_widest_place_named() -> None:
    evidence = folded(*probabilities(6000, shift=0.6))
    assert evidence.log_harm() > math.log(100)
    assert evidence.holds()
    low, high = evidence.interval(0.025)
    assert 0.05 < low < evidence.estimate() < high < 0.3  # type: ignore[operator]
    assert evidence.detail().startswith("outputs above 0.")


def test_the_margin_is_excluded_by_the_interval_exactly_when_the_evidence_says_so() -> None:
    stable, canary = probabilities(3000, shift=0.1)
    level = math.exp(-folded(stable, canary, margin=0.08).log_harmless())
    _, high = folded(stable, canary).interval(level)
    assert high == pytest.approx(0.08, abs=1e-4)


@pytest.mark.parametrize("canary", [0.4, 0.6, math.inf])
def test_a_constant_output_that_becomes_another_constant_is_found_either_way(canary: float) -> None:
    evidence = folded(np.full(600, 0.5), np.full(600, canary))
    assert evidence.log_harm() > math.log(100)
    assert evidence.estimate() == 1.0


def test_ties_everywhere_are_no_drift() -> None:
    evidence = folded(np.full(2000, 0.5), np.full(2000, 0.5))
    assert evidence.log_harmless() > math.log(20)
    assert evidence.estimate() == 0.0


def test_a_canary_that_answers_no_number_has_drifted() -> None:
    stable, canary = probabilities(3000)
    broken = np.where(np.arange(3000) % 5 == 0, math.inf, canary)
    assert folded(stable, broken).log_harm() > math.log(100)


def test_a_stable_that_mostly_answers_no_number_is_no_crash() -> None:
    evidence = folded(np.full(1000, math.inf), np.full(1000, math.inf))
    assert evidence.estimate() == 0.0
    assert folded(np.full(1000, math.inf), np.full(1000, 0.5)).log_harm() > math.log(100)


def classes(n: int, shares: list[float], seed: int) -> Floats:
    return np.random.default_rng(seed).choice(len(shares), n, p=shares).astype(float)


def test_of_classes_the_shares_are_compared_not_their_order() -> None:
    """Two classes change places: the middle one keeps every share above it, yet the outputs are others."""
    before, after = [0.4, 0.2, 0.4], [0.4, 0.4, 0.2]
    evidence = folded(classes(6000, before, 0), classes(6000, after, 1), classes=True)
    assert evidence.log_harm() > math.log(100)
    assert evidence.estimate() == pytest.approx(0.2, abs=0.03)
    assert evidence.detail().startswith("class ")


def test_a_class_that_stable_never_chose_is_among_the_others() -> None:
    canary = np.where(np.arange(3000) % 5 == 0, 9.0, classes(3000, [0.5, 0.5], 0))
    evidence = folded(classes(3000, [0.5, 0.5], 0), canary, classes=True)
    assert evidence.log_harm() > math.log(100)
    assert evidence.detail() == "other classes: 0.0 % stable, 20.0 % canary"


def test_many_classes_take_no_more_places() -> None:
    evidence = folded(np.arange(3000) % 40, np.arange(3000) % 40, classes=True)
    assert evidence.places is not None and len(evidence.places) == PLACES - 1
    assert evidence.log_harm() < 0.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 600), max_size=6))
def test_batch_borders_change_nothing(cuts: list[int]) -> None:
    stable, canary = probabilities(600, shift=0.5)
    whole, parts = folded(stable, canary), DriftEvidence(margin=0.05)
    for old, new in zip(np.split(stable, sorted(cuts)), np.split(canary, sorted(cuts)), strict=True):
        parts.fold(old, new)
    assert np.array_equal(parts.ledger.total, whole.ledger.total)


def test_shards_of_the_same_places_add_up_and_others_are_refused() -> None:
    whole, shard = folded(*probabilities(1000)), folded(*probabilities(1000))
    other = pickle.loads(pickle.dumps(shard))
    shard.merge(other)
    assert np.array_equal(shard.ledger.total, 2 * whole.ledger.total)
    with pytest.raises(ValueError, match="different places"):
        shard.merge(folded(*probabilities(1000, seed=3)))


def test_the_state_stays_below_8_kb_however_many_pairs() -> None:
    evidence = folded(*probabilities(5000))
    for _ in range(LATE_STARTS):
        evidence.start()
    assert len(pickle.dumps(evidence)) < 8000
