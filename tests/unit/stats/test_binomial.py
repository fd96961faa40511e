"""Exact intervals of counted shares."""

import pytest
from scipy.stats import binomtest

from haldane.stats.binomial import Rate


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (0, 200), (3, 200), (100, 200), (199, 200), (200, 200), (1, 1)])
def test_the_interval_is_clopper_and_pearsons(hits: int, trials: int) -> None:
    known = binomtest(hits, trials).proportion_ci(0.95, method="exact")
    found = Rate(hits, trials)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-9)
    assert found.share == hits / trials


def test_without_trials_nothing_is_known() -> None:
    assert (Rate(0, 0).share, Rate(0, 0).low, Rate(0, 0).high) == (None, 0.0, 1.0)


@pytest.mark.parametrize(("hits", "trials"), [(3, 2), (-1, 2)])
def test_more_hits_than_trials_are_no_share(hits: int, trials: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        Rate(hits, trials)
