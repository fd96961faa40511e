"""Shares as whole weights: what is reached, kept and refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.adapters.haproxy import MOST_WEIGHT, TOLERANCE, weights

FLEETS = st.dictionaries(st.text(min_size=1), st.integers(1, MOST_WEIGHT), min_size=1, max_size=20)


def share_of(found: dict[str, int], canary: list[str]) -> float:
    return sum(found[name] for name in canary) / sum(found.values())


@settings(deadline=None)
@given(FLEETS, st.integers(1, 5), st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.5, 0.9]))
def test_a_share_is_reached_or_refused(configured: dict[str, int], servers: int, share: float) -> None:
    canary = [f"canary {i} of {configured!r}" for i in range(servers)]
    try:
        found = weights(share, canary, configured)
    except ValueError as error:
        assert "leave that step out" in str(error)
        return
    assert share_of(found, canary) == pytest.approx(share, rel=TOLERANCE)
    assert all(1 <= weight <= MOST_WEIGHT for weight in found.values())
    assert len({found[name] for name in canary}) == 1


@pytest.mark.parametrize("others", [1, 2, 4, 10, 50])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.25, 0.5, 1.0])
def test_the_default_steps_are_reached_with_one_canary_server(others: int, share: float) -> None:
    found = weights(share, ["c"], {f"r{i}": 100 for i in range(others)})
    assert share_of(found, ["c"]) == pytest.approx(share, rel=TOLERANCE)


def test_at_rest_the_others_have_what_they_were_configured_with() -> None:
    assert weights(0.0, ["c"], {"a": 100, "b": 7}) == {"c": 0, "a": 100, "b": 7}


def test_at_a_hundred_percent_the_others_get_nothing() -> None:
    found = weights(1.0, ["c", "d"], {"a": 100})
    assert found["a"] == 0
    assert found["c"] == found["d"] > 0


def test_the_ratios_of_the_others_are_kept() -> None:
    found = weights(0.5, ["c"], {"a": 200, "b": 100})
    assert found["a"] == pytest.approx(2 * found["b"], abs=1)


def test_one_that_is_drained_on_purpose_stays_so() -> None:
    assert weights(0.1, ["c"], {"a": 100, "b": 0})["b"] == 0


def test_too_fine_a_share_for_many_canary_servers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"do not give 1.00% to 10 of 11 servers; leave that step out"):
        weights(0.01, [f"c{i}" for i in range(10)], {"a": 100})
