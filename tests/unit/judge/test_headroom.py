"""A version is loaded only where there is room for it, and what is not known is said."""

import pytest

from haldane.domain.fleet import ServerName
from haldane.domain.release import Profile
from haldane.judge.headroom import Earlier, Need, Room, headroom, need_of

R0, R1 = ServerName("r0"), ServerName("r1")
MEASURED = Need(500e6, "measured")


def test_what_was_measured_counts_more_than_the_size_of_its_files() -> None:
    need = need_of(Profile(1.0, 300_000_000), 100_000_000)
    assert need is not None
    assert (need.size, "measured" in need.how) == (300e6, True)


@pytest.mark.parametrize("profile", [None, Profile(1.0, 0)])
def test_without_a_measurement_servings_own_estimate_counts(profile: Profile | None) -> None:
    need = need_of(profile, 100_000_000)
    assert need is not None
    assert need.size == pytest.approx(120e6)
    assert need_of(profile, None) is None


@pytest.mark.parametrize(
    ("size", "need"),
    [(100e6, 300e6), (50e6, 150e6), (200e6, 600e6), (49e6, 1.2 * 49e6), (201e6, 1.2 * 201e6)],
)
def test_without_a_measurement_it_is_as_an_earlier_version_of_about_its_size(size: float, need: float) -> None:
    found = need_of(None, int(size), Earlier(4, 300_000_000, 100_000_000))
    assert found is not None
    assert found.size == pytest.approx(need)
    assert ("version 4" in found.how) == (need == 3 * size)


@pytest.mark.parametrize(("used", "fits"), [(0.0, True), (499e6, True), (500e6, True), (501e6, False), (2e9, False)])
def test_it_fits_as_long_as_the_limit_is_not_passed(used: float, fits: bool) -> None:
    short, told = headroom(7, MEASURED, {R0: Room(1e9, used)})
    assert (short == [], told == []) == (fits, not fits)


def test_each_server_is_told_with_what_is_free_there() -> None:
    short, told = headroom(7, MEASURED, {R0: Room(1e9, 0.9e9), R1: Room(1e9, 0.2e9)})
    assert short == ["r0: version 7 needs 500 MB (measured), 100 MB of 1 GB are free"]
    assert told == ["r1: version 7 needs 500 MB (measured), 800 MB of 1 GB are free"]


def test_what_a_server_uses_and_nobody_tells_is_no_data_and_no_refusal() -> None:
    assert headroom(7, MEASURED, {R0: Room(1e9, None, "down")}) == ([], ["r0: no data: down"])
