"""Callers at once: how many calls there are, who fails, and what the quantiles mean."""

import threading
from itertools import count
from types import SimpleNamespace

import pytest

from haldane.release.underload import under_load


def test_callers_are_there_at_once_and_each_makes_one_call_however_long_it_takes():
    together = threading.Barrier(4)
    found = under_load([together.wait], callers=4, seconds=0.0)
    assert (found.callers, found.calls) == (4, 4)
    assert 0 < found.p50_seconds <= found.p99_seconds <= found.seconds
    assert found.per_second == pytest.approx(4 / found.seconds)


def test_the_calls_are_made_in_turn():
    made = []
    calls = [lambda one=one: made.append(one) for one in "abc"]
    assert under_load(calls, callers=5, seconds=0.0).calls == 5
    assert sorted(made) == ["a", "a", "b", "b", "c"], "each caller begins one further"


def test_none_begins_once_the_time_is_over(monkeypatch):
    clock = count()  # a second each time that somebody looks
    monkeypatch.setattr("haldane.release.underload.time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    made = []
    calls = [lambda one=one: made.append(one) for one in "abc"]
    found = under_load(calls, callers=1, seconds=10.0)
    assert "".join(made) == "abcab"
    assert (found.calls, found.seconds, found.p50_seconds, found.p99_seconds) == (5, 11.0, 1.0, 1.0)


def test_what_a_call_raises_is_raised():
    def fails():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        under_load([fails], callers=3, seconds=0.01)


def test_quantiles_are_what_calls_took(monkeypatch):
    """Of 100 calls that take 1 to 100 s: the 50th and the 99th."""
    now = [0.0]
    monkeypatch.setattr("haldane.release.underload.time", SimpleNamespace(perf_counter=lambda: now[0]))
    took = iter(range(1, 101))

    def call():
        now[0] += next(took)

    found = under_load([call], callers=1, seconds=5050.0)
    assert (found.calls, found.p50_seconds, found.p99_seconds) == (100, 50.0, 99.0)
