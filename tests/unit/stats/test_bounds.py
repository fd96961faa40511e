import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.stats.bounds import bounded_interval, count_interval, count_ratio_interval, log_e_signs
from haldane.stats.means import BoundedEvidence, CountEvidence

counts = st.tuples(*[st.integers(0, 2000)] * 4)


@settings(max_examples=50, deadline=None)
@given(counts)
def test_the_interval_holds_the_estimate_and_lies_in_range(cells: tuple[int, int, int, int]) -> None:
    low, high = count_interval(np.array(cells, float), level=0.025)
    assert -1.0 <= low <= high <= 1.0
    if sum(cells):
        assert low <= (cells[1] - cells[2]) / sum(cells) <= high


@settings(max_examples=50, deadline=None)
@given(counts, st.sampled_from([0.01, 0.05, 0.2]), st.booleans())
def test_the_interval_excludes_a_margin_exactly_when_the_evidence_does(
    cells: tuple[int, int, int, int], margin: float, rare: bool
) -> None:
    evidence = CountEvidence(absolute=margin, rare=rare)
    evidence.ledger.total[:] = cells
    low, high = evidence.interval(0.05)
    harm = evidence._by_start()[0]  # without the late starts, which the interval does not use
    assert (low > margin) == (harm >= math.log(20)) or abs(low - margin) < 1e-5  # type: ignore[operator]
    assert (high < margin) == (evidence.log_harmless() >= math.log(20)) or abs(high - margin) < 1e-5  # type: ignore[operator]


def test_no_data_excludes_nothing() -> None:
    assert count_interval(np.zeros(4), level=0.025) == (-1.0, 1.0)
    assert count_ratio_interval(np.zeros(4), absolute=0.0, level=0.025) == (None, None)
    assert BoundedEvidence().interval(0.025) == (-1.0, 1.0)


def test_a_ratio_is_bounded_on_both_sides_once_stable_has_failed_enough() -> None:
    low, high = count_ratio_interval(np.array([10.0, 190, 90, 9710]), absolute=0.0, level=0.025)
    assert low is not None and high is not None
    assert 0.3 < low < 1.0 < high < 2.5


def test_a_canary_that_never_fails_has_no_lower_bound() -> None:
    low, high = count_ratio_interval(np.array([0.0, 0, 100, 9900]), absolute=0.0, level=0.025)
    assert low is None
    assert high is not None and high < -0.7


def test_the_histogram_of_losses_is_nearly_as_narrow_as_the_losses() -> None:
    rng = np.random.default_rng(5)
    stable = rng.random(3000)
    canary = np.clip(stable + rng.normal(0.02, 0.1, 3000), 0, 1)
    evidence = BoundedEvidence(absolute=0.01)
    evidence.fold(stable, canary)
    exact = bounded_interval(np.sort(canary - stable), np.ones(3000), level=0.025)
    with_nodes = evidence.interval(0.025)
    # every difference is exact here up to the lowest possible value, which the histogram must assume
    assert with_nodes[0] == pytest.approx(exact[0], abs=0.004)
    assert with_nodes[0] <= evidence.estimate() <= with_nodes[1]  # type: ignore[operator]


def test_sign_votes_weigh_both_ways() -> None:
    assert log_e_signs(0, 0) == pytest.approx(0.0)
    assert log_e_signs(20, 0) > math.log(100)
    assert log_e_signs(0, 20) < 0
