"""Where one side is slower: proven by blocks, so that a burst on one side is one reading."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.stats.betting import Floats
from haldane.stats.order import LEARNING_PAIRS, Order


def latencies(n: int, slower: float = 1.0, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return 0.01 * np.exp(rng.normal(0, 0.3, (2, n))) * np.array([[1.0], [slower]])


def folded(readings: Floats, block_pairs: int = 4) -> Order:
    order = Order(block_pairs=block_pairs)
    order.fold(*readings)
    return order


def test_nothing_is_said_before_the_thresholds_are_fixed() -> None:
    assert folded(latencies(LEARNING_PAIRS)).clearest(0.025) is None


@pytest.mark.parametrize(("slower", "sign"), [(1.3, 1), (1 / 1.3, -1)])
def test_the_slower_side_is_proven_to_exceed_more_often(slower: float, sign: int) -> None:
    found = folded(latencies(6000, slower)).clearest(0.025)
    assert found is not None
    gap = found.canary - found.stable
    assert np.sign(found.proven) == np.sign(gap) == sign
    assert 0.15 < abs(found.proven) < abs(gap)


def test_of_equal_sides_nothing_is_proven() -> None:
    found = folded(latencies(6000)).clearest(0.025)
    assert found is not None
    assert found.proven == 0.0


def test_a_burst_on_one_side_is_one_reading() -> None:
    """A pause of 200 canary answers proves something pair by pair, and nothing in blocks as long as itself."""
    readings = latencies(2000)
    readings[1, 800:1000] *= 10
    short, long = folded(readings, 4).clearest(0.025), folded(readings, 200).clearest(0.025)
    assert short is not None and short.proven > 0
    assert long is not None and long.proven == 0.0


def test_a_tail_that_only_canary_has_is_named_by_its_threshold() -> None:
    readings = latencies(20_000)
    readings[1] = np.where(np.random.default_rng(1).random(20_000) < 0.1, 0.05, readings[1])
    found = folded(readings).clearest(0.025)
    assert found is not None
    assert found.threshold > 0.012 and 0.04 < found.proven < 0.1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 600), max_size=6))
def test_batch_borders_change_nothing(cuts: list[int]) -> None:
    readings = latencies(600, 1.2)
    whole, parts = folded(readings, 7), Order(block_pairs=7)
    for part in np.split(readings, sorted(cuts), axis=1):
        parts.fold(*part)
    assert np.allclose(parts.histogram, whole.histogram)
    assert parts.clearest(0.025) == whole.clearest(0.025)


def test_the_state_is_small_and_does_not_grow() -> None:
    few, many = folded(latencies(500)), folded(latencies(50_000))
    assert len(pickle.dumps(many)) <= len(pickle.dumps(few)) + 64 < 4000
