"""What every kind of evidence owes: 1 without data, sums, symmetry, no NaN."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.stats.betting import FAILURES, LATE_STARTS, MEANS, VOTES, Bets, Evidence, Floats
from haldane.stats.blocks import RatioEvidence
from haldane.stats.means import BoundedEvidence, CountEvidence
from haldane.stats.tail import LatencyEvidence

KINDS: dict[str, Callable[[], Evidence]] = {
    "counts": lambda: CountEvidence(absolute=0.01),
    "counts, rare": lambda: CountEvidence(absolute=0.01, rare=True),
    "counts, relative": lambda: CountEvidence(absolute=1e-4, relative=1.0),
    "bounded": lambda: BoundedEvidence(absolute=0.01),
    "bounded, relative": lambda: BoundedEvidence(relative=0.1),
    "ratio": lambda: RatioEvidence(margin=0.1),
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())


def outcomes(seed: int, n: int, share: float = 0.2) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    stable, canary = (rng.random((2, n)) < share).astype(float)
    return stable, canary


def readings(make: Callable[[], Evidence], seed: int, n: int) -> tuple[Floats, Floats]:
    stable, canary = outcomes(seed, n)
    return (1 + stable, 1 + canary) if isinstance(make(), RatioEvidence) else (stable, canary)


@pytest.mark.parametrize("bets", [MEANS.harm, MEANS.harmless, FAILURES.harm, VOTES.harm, VOTES.harmless])
def test_the_stake_is_one_and_no_bet_can_lose_it_all(bets: Bets) -> None:
    assert bets.weights.sum() == pytest.approx(1.0)
    assert bets.sizes.shape == bets.weights.shape
    assert bets.sizes.min() > 0 and bets.sizes.max() < 1


@every_kind
def test_no_data_is_evidence_of_one_to_one(make: Callable[[], Evidence]) -> None:
    evidence = make()
    for _ in range(3):
        assert evidence.log_harm() == pytest.approx(0.0, abs=1e-12)
        assert evidence.log_harmless() == pytest.approx(0.0, abs=1e-12)
        assert not evidence.holds()
        assert evidence.estimate() is None
        evidence.fold(np.empty(0), np.empty(0))
        evidence.start()


@every_kind
def test_late_starts_do_not_change_the_promotion_side(make: Callable[[], Evidence]) -> None:
    plain, started = make(), make()
    stable, canary = readings(make, 1, 400)
    for evidence in (plain, started):
        evidence.fold(stable, canary)
        if evidence is started:
            evidence.start()
        evidence.fold(stable, canary)
    assert plain.log_harmless() == started.log_harmless()


@every_kind
def test_more_starts_than_foreseen_change_nothing(make: Callable[[], Evidence]) -> None:
    evidence = make()
    stable, canary = readings(make, 2, 50)
    for _ in range(LATE_STARTS):
        evidence.fold(stable, canary)
        evidence.start()
    before = evidence.log_harm()
    evidence.start()
    assert evidence.log_harm() == before


def test_a_late_start_finds_harm_that_a_good_past_hides() -> None:
    early, late = CountEvidence(absolute=0.01), CountEvidence(absolute=0.01)
    good, bad = np.zeros(5000), (np.arange(300) % 5 == 0).astype(float)
    for evidence in (early, late):
        evidence.fold(good, good)
        if evidence is late:
            evidence.start()
        evidence.fold(np.zeros(300), bad)
    assert late.log_harm() > math.log(100) > early.log_harm()


@every_kind
def test_a_billion_pairs_stay_finite(make: Callable[[], Evidence]) -> None:
    for seed in range(3):
        evidence = make()
        evidence.fold(*readings(make, seed, 200))
        evidence.ledger.total *= 5e6  # type: ignore[attr-defined]
        assert math.isfinite(evidence.log_harm())
        assert math.isfinite(evidence.log_harmless())
        assert all(end is None or math.isfinite(end) for end in evidence.interval(0.025))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 300))
def test_swapping_the_arms_swaps_the_evidence_at_margin_zero(seed: int, n: int) -> None:
    stable, canary = outcomes(seed, n)
    one, other = CountEvidence(), CountEvidence()
    one.fold(stable, canary)
    other.fold(canary, stable)
    assert one.log_harmless() == pytest.approx(MEANS.harmless.mix(other.ledger.since() @ _table(MEANS.harmless))[0])


def _table(bets: Bets) -> Floats:
    table: Floats = np.log1p(np.multiply.outer(np.array([0.0, 1.0, -1.0, 0.0]), bets.sizes))
    return table


def test_swapping_the_arms_swaps_block_votes_at_margin_zero() -> None:
    rng = np.random.default_rng(3)
    stable, canary = np.exp(rng.normal(0, 0.3, (2, 2000)))
    one, other = RatioEvidence(margin=0.0), RatioEvidence(margin=0.0)
    one.fold(stable, canary)
    other.fold(canary, stable)
    k = len(VOTES.harm)
    np.testing.assert_allclose(one.ledger.total[:k], other.ledger.total[k + 1 : 2 * k + 1], rtol=1e-9)


def test_concordant_pairs_say_nothing_at_margin_zero() -> None:
    evidence = CountEvidence()
    evidence.fold(np.array([0.0, 1.0, 0.0]), np.array([1.0, 1.0, 0.0]))
    before = evidence.log_harm(), evidence.log_harmless()
    evidence.fold(np.tile([0.0, 1.0], 500), np.tile([0.0, 1.0], 500))
    assert (evidence.log_harm(), evidence.log_harmless()) == pytest.approx(before)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 100)), min_size=1, max_size=6))
def test_merged_shards_of_counts_equal_one_sequence(parts: list[tuple[int, int]]) -> None:
    whole, merged = CountEvidence(absolute=0.01), CountEvidence(absolute=0.01)
    for seed, n in parts:
        shard = CountEvidence(absolute=0.01)
        for evidence in (whole, shard):
            evidence.fold(*outcomes(seed, n))
        merged.merge(shard)
    assert merged.log_harm() == whole.log_harm()
    assert merged.log_harmless() == whole.log_harmless()


def test_log_wealths_of_shards_add() -> None:
    bounded = [BoundedEvidence(absolute=0.01) for _ in range(3)]
    ratios = [RatioEvidence(margin=0.1) for _ in range(3)]
    for seed in (1, 2):
        stable, canary = outcomes(seed, 200)
        bounded[seed].fold(stable / 2, canary / 2)
        bounded[0].fold(stable / 2, canary / 2)
        ratios[seed].fold(1 + stable, 1 + canary)
    both = ratios[1].ledger.total + ratios[2].ledger.total
    bounded[1].merge(bounded[2])
    ratios[1].merge(ratios[2])
    assert bounded[1].log_harm() == pytest.approx(bounded[0].log_harm())
    assert bounded[1].interval(0.025) == pytest.approx(bounded[0].interval(0.025))
    np.testing.assert_array_equal(ratios[1].ledger.total, both)
    assert ratios[1].pairs == 400


def test_shards_with_other_starts_are_not_added() -> None:
    one, other = CountEvidence(), CountEvidence()
    one.start()
    with pytest.raises(ValueError, match="late starts"):
        one.ledger.merge(other.ledger)


def latency(**terms: float) -> LatencyEvidence:
    settings = {"margin": 0.1, "quantile": 0.95, "tail_margin": 0.1} | terms
    tails = [(settings["quantile"], settings["tail_margin"])]
    return LatencyEvidence(margin=settings["margin"], block_pairs=4, horizon_pairs=None, tails=tails)


def test_votes_of_the_tail_add() -> None:
    shards = [latency(), latency()]
    for seed, shard in enumerate(shards):
        shard.fold(*np.exp(np.random.default_rng(seed).normal(0, 0.5, (2, 3000))))
    votes = [tail.ledger.total.copy() for shard in shards for tail in shard.tails.values()]
    shards[0].merge(shards[1])
    (tail,) = shards[0].tails.values()
    np.testing.assert_array_equal(tail.ledger.total, votes[0] + votes[1])
    assert (tail.pairs, shards[0].pairs) == (6000, 6000)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (CountEvidence(absolute=0.01), CountEvidence(absolute=0.02)),
        (CountEvidence(absolute=0.01), CountEvidence(absolute=0.01, rare=True)),
        (BoundedEvidence(relative=0.1), BoundedEvidence(relative=0.2)),
        (RatioEvidence(margin=0.1), RatioEvidence(margin=0.2)),
        (latency(), latency(tail_margin=0.2)),
        (latency(), latency(quantile=0.99)),
        (latency(), RatioEvidence(margin=0.1)),
    ],
    ids=["counts", "counts, rare", "losses", "ratio", "margin of the tail", "quantile of the tail", "no tail"],
)
def test_shards_judged_by_other_terms_are_not_added(one: Any, other: Any) -> None:
    with pytest.raises(ValueError, match="cannot be added"):
        one.merge(other)


def test_wealth_is_the_product_of_its_bets() -> None:
    excess = np.array([0.3, -1.0, 1.0, 0.0])
    bets = MEANS.harm
    assert bets.wealths(excess) == pytest.approx([sum(math.log1p(u * x) for x in excess) for u in bets.sizes])


def test_the_mean_of_the_evidence_on_the_margin_is_not_above_one() -> None:
    rng = np.random.default_rng(11)
    found = []
    for _ in range(2000):
        evidence = CountEvidence(absolute=0.05)
        evidence.fold(np.zeros(300), (rng.random(300) < 0.05).astype(float))
        found.append(math.exp(evidence.log_harm()))
    assert np.mean(found) < 1 + 3 * np.std(found) / math.sqrt(len(found))


@pytest.mark.parametrize("margins", [(-0.1, 0.0), (1.0, 0.0), (0.0, -0.1), (float("nan"), 0.0)])
@pytest.mark.parametrize("kind", [CountEvidence, BoundedEvidence])
def test_margins_out_of_range_are_refused(kind: type[CountEvidence], margins: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="margins"):
        kind(absolute=margins[0], relative=margins[1])
