import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.stats.betting import Floats
from haldane.stats.tail import TAILS_SHARE, LatencyEvidence, TailEvidence


def latencies(seed: int, n: int, *, tail: float = 1.0, slow_share: float = 0.05) -> tuple[Floats, Floats]:
    """Lognormal latencies with a slow share; the canary's slow ones are `tail` times slower."""
    rng = np.random.default_rng(seed)
    slow = rng.random((2, n)) < slow_share
    stable, canary = np.exp(rng.normal(0, 0.2, (2, n)) + slow * rng.exponential(0.5, (2, n)))
    return stable, canary * np.where(slow[1], tail, 1.0)


def evidence(tail_margin: float = 0.15) -> LatencyEvidence:
    return LatencyEvidence(margin=0.1, block_pairs=4, horizon_pairs=20_000, tails=[(0.95, tail_margin)])


def test_no_data_is_evidence_of_one_to_one() -> None:
    one = evidence()
    one.fold(np.empty(0), np.empty(0))
    assert one.log_harm() == pytest.approx(0.0)
    assert one.tails[0.95].log_harm() == pytest.approx(0.0)
    assert not one.holds()


def test_a_slower_tail_is_found_where_the_typical_ratio_sees_nothing() -> None:
    one = evidence()
    one.fold(*latencies(1, 20_000, tail=3.0))
    assert one.log_harm() > math.log(100)
    assert abs(one.estimate() or 1.0) < 0.05
    assert "tail votes for canary being slower" in one.detail()


def test_an_equal_tail_is_not_blamed() -> None:
    found = [evidence() for _ in range(20)]
    for seed, one in enumerate(found):
        one.fold(*latencies(seed, 10_000))
    assert max(one.tails[0.95].log_harm() for one in found) < math.log(20)


def test_a_suspicion_about_the_tail_holds_a_promotion() -> None:
    one = evidence()
    one.fold(*latencies(2, 20_000, tail=3.0))
    assert one.log_harmless() > math.log(20)
    assert one.holds()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 2999), max_size=6), st.integers(1, 300))
def test_batch_borders_and_restoring_change_nothing(cuts: list[int], size: int) -> None:
    stable, canary = np.log(latencies(3, 3000, tail=1.5))
    whole, parts = TailEvidence(quantile=0.95, margin=0.15), TailEvidence(quantile=0.95, margin=0.15)
    whole.fold(stable, canary, block_pairs=size)
    for s, c in zip(np.split(stable, sorted(cuts)), np.split(canary, sorted(cuts)), strict=True):
        parts = pickle.loads(pickle.dumps(parts))
        parts.fold(s, c, block_pairs=size)
    assert (whole.ledger.total == parts.ledger.total).all()
    assert (whole.histogram == parts.histogram).all()


def test_swapping_the_arms_swaps_the_votes_at_margin_zero() -> None:
    stable, canary = np.log(latencies(4, 3000, tail=1.5))
    one, other = TailEvidence(quantile=0.95, margin=0.0), TailEvidence(quantile=0.95, margin=0.0)
    one.fold(stable, canary, block_pairs=10)
    other.fold(canary, stable, block_pairs=10)
    np.testing.assert_array_equal(one.ledger.total, np.roll(other.ledger.total, 3))


def test_a_cluster_of_slow_requests_counts_once() -> None:
    stable, canary = np.log(latencies(5, 1000))
    canary[600:700] += 3.0
    one = TailEvidence(quantile=0.95, margin=0.15)
    one.fold(stable[:600], canary[:600], block_pairs=100)
    before = one.ledger.total[:3].copy()
    one.fold(stable[600:700], canary[600:700], block_pairs=100)
    assert (one.ledger.total[:3] - before <= 1).all()


@pytest.mark.parametrize("value", [1.0, 1e-300, 1e300])
def test_constant_and_extreme_readings_are_no_trouble(value: float) -> None:
    one = evidence()
    one.fold(np.full(1000, 1.0), np.full(1000, value))
    assert math.isfinite(one.log_harm())


def test_the_state_does_not_grow_with_the_pairs() -> None:
    one = evidence()
    for seed in range(100):
        one.fold(*latencies(seed, 300))
        one.start()
    assert len(pickle.dumps(one)) < 28_000


@pytest.mark.parametrize(("quantile", "margin"), [(0.5, 0.1), (1.0, 0.1), (0.9, -1.0), (float("nan"), 0.1)])
def test_a_watch_that_makes_no_sense_is_refused(quantile: float, margin: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        TailEvidence(quantile=quantile, margin=margin)


def test_several_tails_share_the_stake_of_one() -> None:
    """What only the slowest one in a hundred show is found by the watch that looks there."""
    slow = np.random.default_rng(5).random(40_000) < 0.02
    stable, canary = latencies(5, 40_000)
    canary = np.where(slow, 3 * canary, canary)
    several = LatencyEvidence(margin=0.1, block_pairs=4, horizon_pairs=None, tails=[(0.98, 0.15), (0.6, 0.15)])
    several.fold(stable, canary)
    each = [tail.log_harm() for tail in several.tails.values()]
    assert list(several.tails) == [0.6, 0.98]
    assert each[1] > each[0]
    assert several.log_harm() == pytest.approx(each[1] + math.log(TAILS_SHARE / 2), abs=0.1)
    assert "p60: " in several.detail() and "p98: " in several.detail()
