import pytest

from haldane.engine.shedding import Pace, Throttle


def a_throttle():
    return Throttle(slowdown=3.0, slack_seconds=0.010)


def feed(throttle, *, start, seconds, latency, failed=False, per_second=200):
    """Stable answers evenly for so long, as far as turns are given; returns the turns used."""
    used = 0
    for step in range(int(seconds * per_second)):
        now = start + step / per_second
        if throttle.turn(now) is None:
            used += 1
            throttle.note(now, seconds=latency, failed=failed)
    return used


def test_a_healthy_stable_uses_every_turn():
    throttle = a_throttle()
    assert feed(throttle, start=0, seconds=5, latency=0.002) == 1000
    assert throttle.shed_for == ""


@pytest.mark.parametrize(("latency", "failed", "reason"), [(0.05, False, "slow"), (0.002, True, "errors")])
def test_shadowing_is_at_zero_within_a_second_of_stable_slowing_or_failing(latency, failed, reason):
    throttle = a_throttle()
    feed(throttle, start=0, seconds=5, latency=0.002)
    feed(throttle, start=5, seconds=0.9, latency=latency, failed=failed)
    assert throttle.turn(5.95) == reason


def test_a_slower_answer_within_the_slack_is_no_slowdown():
    throttle = a_throttle()
    feed(throttle, start=0, seconds=2, latency=0.001)
    assert feed(throttle, start=2, seconds=2, latency=0.009) == 400


def test_one_long_pause_is_no_slowdown():
    throttle = a_throttle()
    feed(throttle, start=0, seconds=2, latency=0.002)
    for _ in range(8):
        throttle.note(2.0, seconds=0.3, failed=False)
    assert feed(throttle, start=2.01, seconds=1, latency=0.002) == 200


def test_shadowing_returns_slowly_and_then_fully():
    throttle = a_throttle()
    feed(throttle, start=0, seconds=2, latency=0.002)
    feed(throttle, start=2, seconds=1, latency=0.5)
    soon = feed(throttle, start=4, seconds=1, latency=0.002)
    assert 1 <= soon <= 40  # of 200
    feed(throttle, start=5, seconds=15, latency=0.002)
    assert feed(throttle, start=20, seconds=1, latency=0.002) == 200
    assert throttle.shed_for == ""


def test_a_crowded_server_gets_no_turn_and_then_slowly_all_again():
    throttle = a_throttle()
    feed(throttle, start=0, seconds=2, latency=0.002)
    assert {throttle.turn(2 + step / 200, crowded=True) for step in range(200)} == {"batching"}
    soon = feed(throttle, start=3, seconds=1, latency=0.002)
    assert 1 <= soon <= 40  # of 200
    feed(throttle, start=4, seconds=15, latency=0.002)
    assert feed(throttle, start=19, seconds=1, latency=0.002) == 200
    assert throttle.shed_for == ""


def test_a_stable_that_stays_slow_is_tried_ever_more_rarely():
    throttle = a_throttle()
    feed(throttle, start=0, seconds=2, latency=0.002)
    used = [feed(throttle, start=2 + 10 * part, seconds=10, latency=0.5) for part in range(6)]
    assert max(used[1:]) <= 40  # of 2000
    assert used[-1] < used[0]


def test_turns_come_at_the_rate_with_little_saved_up():
    pace, now, taken = Pace(100.0), 0.0, 0
    while now < 1.0:
        now += pace.wait_seconds(now)
        taken += 1
    assert taken == pytest.approx(106, abs=2)
    assert sum(pace.wait_seconds(50.0) == 0 for _ in range(100)) <= 7


def test_at_a_low_rate_shadowing_returns_after_a_failure_too() -> None:
    """A few good answers a second are all there is: waiting for more readings would close it for ever."""
    throttle, now = Throttle(slowdown=3.0, slack_seconds=0.01), 0.0
    while not throttle.shed_for:
        throttle.note(now, seconds=0.002, failed=True)
        now += 0.1
    for _ in range(1200):  # two minutes at ten turns a second
        now += 0.1
        if throttle.turn(now) is None:
            throttle.note(now, seconds=0.002, failed=False)
    assert throttle.level == 1.0
