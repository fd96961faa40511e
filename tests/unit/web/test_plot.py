"""Ticks are round, lines leave the plot where they leave its range."""

import pytest

from haldane.web.plot import Line, Plot, draw, interval, round_steps, short_time, thin, time_steps


@pytest.mark.parametrize(
    ("low", "high", "steps"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (-0.013, 0.021, [-0.01, 0, 0.01, 0.02]), (0, 0, [0])],
)
def test_ticks_are_round_numbers(low, high, steps):
    assert round_steps(low, high, 5) == pytest.approx(steps)


@pytest.mark.parametrize(
    ("high", "labels"),
    [
        (5, ["0 s", "1 s", "2 s", "3 s", "4 s", "5 s"]),
        (80, ["0 s", "20 s", "40 s", "1 min", "80 s"]),
        (3600, ["0 s", "10 min", "20 min", "30 min", "40 min", "50 min", "60 min"]),
        (90_000, ["0 s", "4 h", "8 h", "12 h", "16 h", "20 h", "24 h"]),
    ],
)
def test_time_ticks_are_round_times(high, labels):
    assert [short_time(value) for value in time_steps(0, high)] == labels


def test_thinning_keeps_the_last_point():
    points = [(float(i), i * 2.0) for i in range(1000)]
    assert thin(points)[-1] == points[-1]
    assert len(thin(points)) <= 301
    assert thin([]) == []


def test_a_line_beyond_the_range_is_cut_and_never_a_huge_number():
    svg = draw(Plot(title="t", x=(0, 10), y=(0, 1), ticks=[], lines=[Line("l", "m-all", [(0, 0), (10, 1e300)])]))
    assert "e+" not in svg
    assert "inf" not in svg


def test_titles_are_escaped():
    assert '"<' not in draw(Plot(title='"><script>', x=(0, 1), y=(0, 1), ticks=[]))


def test_an_interval_on_one_point_is_still_seen():
    svg = interval(estimate=0.0, lower=0.0, upper=0.0, margin=0.01, look="m-all", words="w")
    assert 'class="span m-all"' in svg
