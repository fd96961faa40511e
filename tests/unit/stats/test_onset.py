"""A share above its limit is seen soon, and so is its recovery."""

import numpy as np
import pytest

from haldane.stats.onset import Onset


def test_five_failures_in_a_row_are_enough_and_thirty_good_readings_end_it() -> None:
    onset = Onset(0.1)
    onset.fold(np.zeros(1000, bool))
    onset.fold(np.ones(5, bool))
    assert onset.above
    assert (onset.events, onset.readings) == (5, 5)
    onset.fold(np.zeros(60, bool))
    assert not onset.above


def test_a_long_illness_is_not_held_against_it() -> None:
    onset = Onset(0.1)
    onset.fold(np.ones(5000, bool))
    onset.fold(np.zeros(60, bool))
    assert not onset.above


@pytest.mark.parametrize("share", [0.16, 0.3, 1.0])
def test_any_share_above_the_limit_is_found(share: float) -> None:
    onset = Onset(0.1)
    onset.fold(np.random.default_rng(1).random(4000) < share)
    assert onset.above


def test_shares_below_the_limit_hardly_ever_raise_it() -> None:
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(100):
        onset = Onset(0.1)
        for batch in np.split(rng.random(2000) < 0.07, 20):
            onset.fold(batch)
            alarms += onset.above
    assert alarms == 0


def test_batch_borders_change_nothing() -> None:
    happened = np.random.default_rng(3).random(500) < 0.15
    whole, parts = Onset(0.1), Onset(0.1)
    whole.fold(happened)
    for part in np.array_split(happened, 37):
        parts.fold(part)
    np.testing.assert_allclose(whole._log_wealth, parts._log_wealth)
    assert (whole.events, whole.readings) == (parts.events, parts.readings)


@pytest.mark.parametrize("limit", [0.0, 1.0, float("nan"), -0.1])
def test_a_limit_that_is_none_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Onset(limit)
