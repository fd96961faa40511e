"""Disagreement is held against what stable disagrees with itself, when that is measured."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.stats.betting import Floats
from haldane.stats.floor import ROUND_PAIRS, FloorEvidence

NAN = math.nan


def mixed(n: int, *, canary: float, floor: float, share: float = 0.1, seed: int = 0) -> tuple[Floats, Floats]:
    """Disagreements of n pairs, `share` of them of stable with itself."""
    rng = np.random.default_rng(seed)
    alone = rng.random(n) < share
    differs = (rng.random(n) < np.where(alone, floor, canary)) * 1.0
    return np.where(alone, differs, NAN), np.where(alone, NAN, differs)


def folded(*columns: Floats, margin: float = 0.05) -> FloorEvidence:
    evidence = FloorEvidence(margin=margin)
    evidence.fold(*columns)
    return evidence


def test_without_pairs_there_is_no_evidence() -> None:
    evidence = FloorEvidence(margin=0.05)
    assert (evidence.pairs, evidence.estimate()) == (0, None)
    assert (evidence.log_harm(), evidence.log_harmless()) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert evidence.interval(0.025) == (-1.0, 1.0)


def test_a_model_that_disagrees_with_itself_does_not_blame_its_canary() -> None:
    evidence = folded(*mixed(20_000, canary=0.2, floor=0.2))
    assert evidence.log_harm() < math.log(5)
    assert evidence.log_harmless() > math.log(20)
    assert evidence.estimate() == pytest.approx(0.0, abs=0.02)
    low, high = evidence.interval(0.025)
    assert low < 0.0 < high < 0.05  # type: ignore[operator]


def test_disagreement_beyond_the_floor_is_harm() -> None:
    evidence = folded(*mixed(20_000, canary=0.4, floor=0.2))
    assert evidence.log_harm() > math.log(100)
    assert evidence.holds()
    low, high = evidence.interval(0.025)
    assert 0.05 < low < 0.2 < high  # type: ignore[operator]


def test_where_stable_agrees_with_itself_a_canary_is_cleared_by_counting_alone() -> None:
    """Every pair counts, not every round: for about `log(2/beta) / margin` pairs."""
    evidence = folded(*mixed(120, canary=0.0, floor=0.0))
    assert evidence.log_harmless() > math.log(20)


def test_without_a_pair_of_stable_alone_nothing_is_harm_and_the_floor_is_said_to_be_unknown() -> None:
    evidence = folded(np.full(1000, NAN), np.ones(1000))
    assert evidence.log_harm() == pytest.approx(0.0, abs=1e-9)
    assert "floor is not known" in evidence.detail()
    assert evidence.estimate() == 1.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=6))
def test_batch_borders_change_nothing(cuts: list[int]) -> None:
    columns = mixed(400, canary=0.3, floor=0.1)
    whole, parts = folded(*columns), FloorEvidence(margin=0.05)
    for old, new in zip(*(np.split(column, sorted(cuts)) for column in columns), strict=True):
        parts.fold(old, new)
    assert np.allclose(parts.ledger.total, whole.ledger.total)
    assert np.allclose(parts.histogram, whole.histogram)


def test_an_open_round_is_not_scored() -> None:
    columns = mixed(ROUND_PAIRS - 1, canary=1.0, floor=0.0, share=0.4)
    evidence = folded(*columns)
    assert not evidence.ledger.total[: evidence._own].any()


def test_shards_add_up() -> None:
    one, other = mixed(1000, canary=0.3, floor=0.1), mixed(1000, canary=0.3, floor=0.1, seed=1)
    both = folded(*(np.concatenate([a, b]) for a, b in zip(one, other, strict=True)))
    merged = folded(*one)
    merged.merge(folded(*other))
    assert np.allclose(merged.ledger.total, both.ledger.total)
    assert merged.interval(0.025) == pytest.approx(both.interval(0.025))


@pytest.mark.parametrize("margin", [-0.1, 1.0, NAN])
def test_a_margin_that_allows_everything_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        FloorEvidence(margin=margin)
