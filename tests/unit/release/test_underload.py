"""Callers at once: how many calls there are, who fails, and what the quantiles mean."""

import threading

import pytest

from haldane.release.underload import nearest_rank, under_load


def test_callers_are_there_at_once_and_each_makes_one_call_however_long_it_takes():
    together = threading.Barrier(4)
    found = under_load([together.wait], callers=4, seconds=0.0)
    assert (found.callers, found.calls) == (4, 4)
    assert 0 < found.p50_seconds <= found.p99_seconds <= found.seconds
    assert found.per_second == pytest.approx(4 / found.seconds)


def test_the_calls_are_made_in_turn():
    made = []
    calls = [lambda one=one: made.append(one) for one in "abc"]
    found = under_load(calls, callers=2, seconds=0.02)
    assert set(made) == set("abc")
    assert found.calls == len(made) > 2


def test_what_a_call_raises_is_raised():
    def fails():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        under_load([fails], callers=3, seconds=0.01)


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_the_nearest_rank_is_a_value_that_was_seen(share, value):
    assert nearest_rank(range(1, 101), share) == value
    assert nearest_rank([7.0], share) == 7.0
