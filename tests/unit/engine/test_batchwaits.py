"""A server whose calls wait too long for a batch is not shadowed, by what its page says between two scrapes."""

import math

import pytest

from haldane.domain.fleet import ServerName
from haldane.engine.batchwaits import BatchWaits, median_wait

R0, R1 = ServerName("r0"), ServerName("r1")
BOUNDS = (0.001, 0.002, 0.01, 0.1, math.inf)


def counts(*each: int) -> dict[float, float]:
    """Cumulative, from how many calls ended in each bucket."""
    return {bound: float(sum(each[: place + 1])) for place, bound in enumerate(BOUNDS)}


class Scraped:
    """Waits of one server, scraped every 15 s; `calls` are those of one bucket since the last scrape."""

    def __init__(self, longest: float | None = None) -> None:
        self.at = 0.0
        self.waits = BatchWaits(longest, now=lambda: self.at)
        self._each = [0] * len(BOUNDS)
        self.waits.on_scrape(R0, counts(*self._each))

    def scrape(self, bucket: int, calls: int = 100) -> bool:
        self.at += 15.0
        self._each[bucket] += calls
        self.waits.on_scrape(R0, counts(*self._each))
        return self.waits.crowded(R0)


@pytest.mark.parametrize(
    ("before", "now", "median"),
    [
        (counts(10, 0, 0, 0, 0), counts(10, 5, 5, 0, 0), 0.002),
        (counts(10, 0, 0, 0, 0), counts(10, 4, 0, 6, 0), 0.1),
        (counts(10, 0, 0, 0, 0), counts(10, 0, 0, 0, 9), 0.1),  # beyond the last bound: at least that
        (counts(10, 0, 0, 0, 0), counts(17, 0, 0, 0, 0), None),  # too few
        (counts(10, 0, 0, 0, 0), counts(0, 9, 0, 0, 0), 0.002),  # another process
        (counts(10, 0, 0, 0, 0), {}, None),  # one that does not batch
        ({}, counts(0, 0, 8, 0, 0), 0.01),
        ({}, {}, None),
    ],
)
def test_the_median_is_of_what_came_between_two_scrapes(before, now, median):
    assert median_wait(before, now) == median


def test_a_wait_three_times_the_shortest_and_ten_milliseconds_longer_is_too_long():
    server = Scraped()
    assert not server.scrape(bucket=1)
    assert not server.scrape(bucket=2)  # five times, but only 8 ms more
    assert server.scrape(bucket=3)
    assert not server.scrape(bucket=1)


def test_a_server_that_always_waits_long_for_a_batch_is_shadowed():
    server = Scraped()
    assert not any(server.scrape(bucket=3) for _ in range(20))


def test_a_bound_that_was_set_is_the_bound():
    server = Scraped(longest=0.005)
    assert not server.scrape(bucket=1)
    assert server.scrape(bucket=2)


def test_a_server_without_traffic_or_whose_page_is_gone_is_not_left_alone_for_ever():
    server = Scraped()
    server.scrape(bucket=1)
    assert server.scrape(bucket=3)
    server.at += 59.0
    assert server.waits.crowded(R0)
    server.at += 1.0
    assert not server.waits.crowded(R0)
    assert server.scrape(bucket=3)
    assert not server.scrape(bucket=3, calls=0)


def test_servers_are_told_apart_and_one_that_left_is_forgotten():
    server = Scraped(longest=0.005)
    assert server.scrape(bucket=3)
    assert not server.waits.crowded(R1)
    server.waits.drop(R0)
    assert not server.waits.crowded(R0)
