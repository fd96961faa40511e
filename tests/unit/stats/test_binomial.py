"""Exact intervals of counted shares."""

import pytest
from scipy.stats import binomtest

from haldane.stats.binomial import Rate, chance_beyond


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


@pytest.mark.parametrize(
    ("hits", "trials", "share"), [(100, 1000, 0.1), (140, 1000, 0.1), (60, 1000, 0.1), (0, 50, 0.2)]
)
def test_the_chance_of_a_count_is_twice_its_nearer_tail(hits: int, trials: int, share: float) -> None:
    tails = [binomtest(hits, trials, share, alternative=side).pvalue for side in ("greater", "less")]
    assert chance_beyond(hits, trials, share) == pytest.approx(min(1.0, 2 * min(tails)))


def test_a_share_of_none_or_all_leaves_nothing_to_chance() -> None:
    with pytest.raises(ValueError, match="must lie in"):
        chance_beyond(0, 10, 0.0)
