import math
import pickle

import numpy as np
import pytest

from haldane.stats.limits import LimitEvidence


def seen(bad: int, n: int, share: float = 0.01) -> LimitEvidence:
    evidence = LimitEvidence(share=share)
    outcomes = np.zeros(n)
    outcomes[:bad] = 1.0
    evidence.fold(np.zeros(n), outcomes)
    return evidence


def test_evidence_is_that_of_a_mixture_of_bets() -> None:
    evidence = LimitEvidence(share=0.25)
    evidence.fold(np.zeros(4), np.array([1.0, 0.0, 1.0, 1.0]))
    stakes = np.geomspace(0.05, 0.9, 12)
    wealth = np.mean((1 + 3 * stakes) ** 3 * (1 - stakes))
    assert evidence.log_harm() == pytest.approx(math.log(0.8 * wealth + 0.2))


@pytest.mark.parametrize("share", [1e-4, 0.01, 0.5, 0.99])
def test_on_the_limit_the_expected_wealth_of_one_more_reading_is_what_was_there(share: float) -> None:
    before = seen(2, 50, share)
    good, bad = seen(2, 51, share), seen(3, 51, share)
    expected = (1 - share) * math.exp(good.log_harm()) + share * math.exp(bad.log_harm())
    assert expected == pytest.approx(math.exp(before.log_harm()))
    expected = (1 - share) * math.exp(good.log_harmless()) + share * math.exp(bad.log_harmless())
    assert expected == pytest.approx(math.exp(before.log_harmless()))


def test_three_times_the_limit_is_shown_soon_and_half_of_it_shown_kept() -> None:
    assert seen(30, 1000).log_harm() > math.log(100)
    assert seen(10, 1000).log_harm() < 0
    assert seen(15, 4000).log_harmless() > math.log(20)
    assert seen(30, 3000).log_harmless() < math.log(20)


@pytest.mark.parametrize(("bad", "n"), [(0, 500), (3, 500), (250, 500), (500, 500)])
def test_the_interval_holds_the_share_seen(bad: int, n: int) -> None:
    low, high = seen(bad, n).interval(0.025)
    assert low is not None and high is not None
    assert 0.0 <= low <= bad / n <= high <= 1.0
    assert high - low < 0.25


def test_without_readings_nothing_is_known() -> None:
    evidence = LimitEvidence(share=0.01)
    assert evidence.log_harm() == pytest.approx(0.0)
    assert (evidence.estimate(), evidence.interval(0.025)) == (None, (None, None))
    assert not evidence.holds()


def test_a_late_start_forgets_a_good_past() -> None:
    late, never = seen(0, 5000), seen(0, 5000)
    late.start()
    for evidence in (late, never):
        evidence.fold(np.zeros(100), np.ones(100) * (np.arange(100) < 20))
    assert late.log_harm() > math.log(100) > never.log_harm() + math.log(100)


def test_shards_add_up_and_are_stored_bit_for_bit() -> None:
    whole, part = seen(5, 300), seen(2, 100)
    part.merge(seen(3, 200))
    assert part.log_harm() == whole.log_harm()
    assert pickle.loads(pickle.dumps(whole)).log_harm() == whole.log_harm()
    assert len(pickle.dumps(whole)) < 8000


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_a_limit_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share between 0 and 1"):
        LimitEvidence(share=share)
