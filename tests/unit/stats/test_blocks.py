import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.stats.blocks import OPENING_HARMLESS, Ladder, RatioEvidence, block_length, trimmed_means


def test_a_block_is_three_and_a_half_times_the_declared_noise() -> None:
    assert block_length(dependence_seconds=0.0, pairs_per_second=100.0) == 3
    assert block_length(dependence_seconds=2.0, pairs_per_second=20.0) == 140


@pytest.mark.parametrize(("noise", "rate"), [(-1.0, 1.0), (np.nan, 1.0), (np.inf, 1.0), (1.0, 0.0), (1.0, np.nan)])
def test_a_block_of_noise_or_traffic_that_cannot_be_is_refused(noise: float, rate: float) -> None:
    with pytest.raises(ValueError, match="noise must last"):
        block_length(dependence_seconds=noise, pairs_per_second=rate)


def test_a_burst_shorter_than_a_fifth_of_a_block_has_no_effect() -> None:
    calm, burst = np.zeros((1, 20)), np.zeros((1, 20))
    burst[0, 5:9] = 100.0
    assert trimmed_means(burst) == trimmed_means(calm)


def blocks_needed(direction: float, level: float, *, opening: bool) -> int:
    """Blocks until the evidence reaches `level` when all of them lie on one side."""
    evidence = RatioEvidence(margin=0.1, block_pairs=4, opening=opening)
    for count in range(1, 100):
        evidence.fold(np.ones(4), np.full(4, 1.1 * direction))
        if max(evidence.log_harm(), evidence.log_harmless()) >= np.log(1 / level):
            return count
    raise AssertionError("never reached")


def test_nine_blocks_of_the_same_sign_show_harm_and_eight_show_harmlessness() -> None:
    assert blocks_needed(1.5, 0.01, opening=False) == 9
    assert blocks_needed(0.7, 0.05, opening=False) == 8


def test_in_the_opening_blocks_count_in_part_for_harm_and_not_for_harmlessness() -> None:
    assert blocks_needed(1.5, 0.01, opening=True) == 12
    assert blocks_needed(0.7, 0.05, opening=True) == OPENING_HARMLESS + 8


def test_a_partial_block_is_not_scored() -> None:
    evidence = RatioEvidence(margin=0.1, block_pairs=100)
    evidence.fold(np.ones(99), np.full(99, 9.0))
    assert evidence.pairs == 99
    assert evidence.estimate() is None


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.3, 4.0])
def test_the_estimate_is_the_typical_ratio(ratio: float) -> None:
    rng = np.random.default_rng(4)
    stable, canary = np.exp(rng.normal(0, 0.2, (2, 4000)))
    evidence = RatioEvidence(margin=0.1)
    evidence.fold(stable, ratio * canary)
    assert evidence.estimate() == pytest.approx(ratio - 1, abs=0.03 * ratio)
    low, high = evidence.interval(0.025)
    assert low is not None and high is not None and low < ratio - 1 < high


def test_constant_readings_are_no_trouble() -> None:
    evidence = RatioEvidence(margin=0.1)
    evidence.fold(np.ones(4000), np.ones(4000))
    assert evidence.log_harmless() > np.log(20)
    assert evidence.estimate() == pytest.approx(0.0, abs=0.002)


def test_extreme_readings_do_not_overflow() -> None:
    evidence = RatioEvidence(margin=0.1)
    evidence.fold(np.full(400, 1e-300), np.full(400, 1e300))
    assert evidence.log_harm() > np.log(100)
    assert evidence.estimate() is not None


def test_blocks_grow_under_noise_that_lasts_longer_than_declared() -> None:
    rng = np.random.default_rng(6)
    slow = np.repeat(rng.normal(0, 0.5, 100), 100)
    evidence = RatioEvidence(margin=0.1, horizon_pairs=100_000)
    evidence.fold(np.ones(10_000), np.exp(slow + rng.normal(0, 0.1, 10_000)))
    assert evidence.block_pairs >= 100


def test_blocks_do_not_grow_past_the_horizon() -> None:
    rng = np.random.default_rng(6)
    slow = np.repeat(rng.normal(0, 0.5, 10), 1000)
    evidence = RatioEvidence(margin=0.1, horizon_pairs=2400)
    evidence.fold(np.ones(10_000), np.exp(slow))
    assert evidence.block_pairs <= 100


def test_a_level_shift_does_not_pass_for_dependence() -> None:
    rng = np.random.default_rng(7)
    ladder = Ladder()
    for mean in np.concatenate([rng.normal(0, 0.1, 500), rng.normal(0.3, 0.1, 500)]).tolist():
        ladder.add(mean)
    assert not ladder.too_short(0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 1499), max_size=6))
def test_batch_borders_and_restoring_change_nothing(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    stable, canary = np.exp(rng.normal(0, 0.4, (2, 1500)))
    whole, parts = RatioEvidence(margin=0.1), RatioEvidence(margin=0.1)
    whole.fold(stable, canary)
    for s, c in zip(np.split(stable, sorted(cuts)), np.split(canary, sorted(cuts)), strict=True):
        parts = pickle.loads(pickle.dumps(parts))
        parts.fold(s, c)
    assert (whole.histogram == parts.histogram).all()
    np.testing.assert_allclose(whole.ledger.total, parts.ledger.total, atol=1e-9)


def test_the_state_does_not_grow_with_the_pairs() -> None:
    rng = np.random.default_rng(8)
    evidence = RatioEvidence(margin=0.1, block_pairs=40)
    for _ in range(200):
        evidence.fold(*np.exp(rng.normal(0, 0.3, (2, 100))))
        evidence.start()
    assert len(pickle.dumps(evidence)) < 8_000


@pytest.mark.parametrize(("margin", "size"), [(-1.0, 4), (float("nan"), 4), (0.1, 0)])
def test_blocks_that_make_no_sense_are_refused(margin: float, size: int) -> None:
    with pytest.raises(ValueError, match="margin"):
        RatioEvidence(margin=margin, block_pairs=size)
