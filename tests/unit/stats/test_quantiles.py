"""Quantiles of both sides: near what numpy says of all readings, and bounded only where there is evidence."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.stats.betting import Floats
from haldane.stats.quantiles import CELL, Quantiles, most_that_reject

SHARES = np.array([0.5, 0.95, 0.99])


def latencies(n: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return 0.01 * np.exp(rng.normal(0, 0.3, (2, n)) + np.array([[0.0], [0.2]]))


def folded(readings: Floats, *, lasting: int = 1) -> Quantiles:
    quantiles = Quantiles(lasting=lasting)
    quantiles.fold(*readings)
    return quantiles


def test_without_readings_nothing_is_known() -> None:
    quantiles = Quantiles()
    quantiles.fold(np.empty(0), np.empty(0))
    assert np.isnan(quantiles.estimates(SHARES)).all()
    assert (quantiles.interval(SHARES, 0.025) == [0.0, math.inf]).all()


def test_estimates_are_those_of_all_readings_up_to_a_cell() -> None:
    readings = latencies(5000)
    found = folded(readings).estimates(SHARES)
    assert np.allclose(np.log(found), np.log(np.quantile(readings, SHARES, axis=1).T), atol=CELL)


def test_intervals_close_in_and_hold_the_truth() -> None:
    truth = 0.01 * np.exp(0.3 * np.array([0.0, 1.6449, 2.3263]))
    widths = []
    for n in (500, 5000, 50_000):
        low, high = folded(latencies(n)).interval(SHARES, 0.025)[0].T
        assert (low <= truth).all() and (truth <= high).all()
        widths.append(np.log(high / low))
    assert (widths[0] > widths[1]).all() and (widths[1] > widths[2]).all()
    assert widths[2][0] < 0.1


def test_a_rare_quantile_has_no_upper_end_before_anything_can_be_seen_beyond_it() -> None:
    """Of 100 readings below it, a quantile of 99 % may well lie above: 0.99**100 is a third."""
    low, high = folded(latencies(100)).interval(SHARES, 0.025)[0].T
    assert math.isinf(high[2]) and math.isfinite(high[0])
    assert low[2] > 0


def test_noise_that_lasts_makes_every_reading_count_for_less() -> None:
    readings = latencies(8000)
    plain, lasting = folded(readings).interval(SHARES, 0.025), folded(readings, lasting=40).interval(SHARES, 0.025)
    assert (lasting[..., 0] < plain[..., 0]).all() and (lasting[..., 1] > plain[..., 1]).all()
    assert np.allclose(lasting[:, 0], folded(readings[:, ::40]).interval(SHARES, 0.025)[:, 0], rtol=0.25)


def test_constant_readings_have_one_quantile() -> None:
    quantiles = folded(np.full((2, 1000), 0.01))
    low, high = quantiles.interval(SHARES[:2], 0.025)[0].T
    assert (low <= 0.01).all() and (high >= 0.01).all()
    assert np.allclose(high / low, math.exp(CELL))


@pytest.mark.parametrize("extreme", [1e-300, 1e300])
def test_readings_beyond_the_cells_count_at_the_ends_and_take_no_room(extreme: float) -> None:
    readings = latencies(1000)
    readings[:, 0] = extreme
    quantiles = folded(readings)
    assert quantiles.pairs == 1000
    assert np.allclose(np.log(quantiles.estimates(SHARES)[0, 0]), math.log(0.01), atol=2 * CELL)
    assert len(pickle.dumps(quantiles)) < 12_000


def test_the_rejecting_count_is_the_largest_there_is() -> None:
    counts = most_that_reject(1000, SHARES, level=0.025)
    assert (counts < 1000 * SHARES).all()
    one_more = counts + 1
    stricter = most_that_reject(1000, SHARES, level=0.001)
    assert (stricter < counts).all()
    assert (most_that_reject(1001, SHARES, level=0.025) <= one_more).all()
    assert most_that_reject(3, np.array([0.01]), level=0.025).tolist() == [-1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 600), max_size=6))
def test_batches_and_shards_add_up(cuts: list[int]) -> None:
    readings = latencies(600)
    whole, parts, shards = folded(readings), Quantiles(), Quantiles()
    for part in np.split(readings, sorted(cuts), axis=1):
        parts.fold(*part)
        shards.merge(folded(part))
    for other in (parts, shards):
        assert np.array_equal(other.estimates(SHARES), whole.estimates(SHARES))
        assert np.array_equal(other.interval(SHARES, 0.025), whole.interval(SHARES, 0.025))
