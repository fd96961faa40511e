"""What is shown of latency as a distribution holds at all looks together, if noise lasts no longer than declared."""

import math

import numpy as np
import pytest

from haldane.stats.betting import Floats
from haldane.stats.order import Order
from haldane.stats.quantiles import Quantiles
from haldane.testing.chance import most

TRIALS, PAIRS, LOOK_EVERY = 300, 4000, 400
SHARES = np.array([0.5, 0.9, 0.95, 0.99])
NORMAL = np.array([0.0, 1.281552, 1.644854, 2.326348])  # quantiles of the standard normal distribution
SPREAD = 0.3
LEVEL = 0.025


def lasting(rng: np.random.Generator, memory: int) -> Floats:
    """Log-normal latencies of two sides, each autoregressive by itself with this memory (0: independent)."""
    shocks = rng.normal(0, 1, (2, PAIRS))
    keep = math.exp(-1 / memory) if memory else 0.0
    shocks[:, 1:] *= math.sqrt(1 - keep**2)
    for i in range(1, PAIRS):
        shocks[:, i] += keep * shocks[:, i - 1]
    return 0.01 * np.exp(SPREAD * shocks)


@pytest.mark.parametrize(("memory", "declared"), [(0, 1), (10, 40)], ids=["independent", "as declared"])
def test_every_quantile_lies_within_its_interval_at_all_looks(memory: int, declared: int) -> None:
    missed = np.zeros((2, len(SHARES), 2))
    for trial in range(TRIALS):
        quantiles, readings = Quantiles(lasting=declared), lasting(np.random.default_rng([1, trial]), memory)
        ever = np.zeros((2, len(SHARES), 2), bool)
        for part in np.split(readings, range(LOOK_EVERY, PAIRS, LOOK_EVERY), axis=1):
            quantiles.fold(*part)
            ends = quantiles.interval(SHARES, LEVEL)
            truth = 0.01 * np.exp(SPREAD * NORMAL)
            ever |= np.stack([ends[..., 0] > truth, ends[..., 1] < truth], axis=-1)
        missed += ever
    assert missed.max() <= most(LEVEL), missed


@pytest.mark.parametrize(("memory", "block_pairs"), [(0, 4), (10, 40)], ids=["independent", "as declared"])
def test_of_equal_sides_neither_is_shown_to_be_slower(memory: int, block_pairs: int) -> None:
    shown = 0
    for trial in range(TRIALS):
        order, readings = Order(block_pairs=block_pairs), lasting(np.random.default_rng([2, trial]), memory)
        ever = False
        for part in np.split(readings, range(LOOK_EVERY, PAIRS, LOOK_EVERY), axis=1):
            order.fold(*part)
            found = order.clearest(LEVEL)
            ever |= found is not None and found.proven != 0.0
        shown += ever
    assert shown <= most(2 * LEVEL)
