"""Several rules of one kind, each with its own share of the pairs."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.domain.evidence import Finding, State, Verdict
from haldane.domain.traffic import Status
from haldane.judge.analysis import Analysis
from haldane.judge.columns import Tally, split
from haldane.judge.rules import Slice
from haldane.stats.means import CountEvidence
from haldane.testing.pairs import metric, pairs, rules

SLICES = tuple(Slice(field="country", value=value) for value in ("DE", "FR"))
GERMAN = metric("accuracy country=DE", "1pp", kind="accuracy", slice=0)
FRENCH = metric("accuracy country=FR", "1pp", kind="accuracy", slice=1)


def test_a_slice_gets_the_pairs_whose_bit_is_set() -> None:
    batch = pairs(4, slices=[0b00, 0b01, 0b10, 0b11], canary_wrong=[0, 1, 0, 1])
    found = split(batch, (metric("accuracy", "1pp"), GERMAN, FRENCH), tally=Tally(), warmup_pairs=0)
    assert found["accuracy"][1].tolist() == [0, 1, 0, 1]
    assert found["accuracy country=DE"][1].tolist() == [1, 1]
    assert found["accuracy country=FR"][1].tolist() == [0, 1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_slices_that_part_all_pairs_add_up_to_the_whole(seen: list[tuple[int, bool, bool]]) -> None:
    country, stable, canary = (np.array(column) for column in zip(*seen, strict=True))
    batch = pairs(len(seen), slices=1 << country, stable_wrong=stable, canary_wrong=canary)
    found = split(batch, (metric("accuracy", "1pp"), GERMAN, FRENCH), tally=Tally(), warmup_pairs=0)
    whole, german, french = (CountEvidence(absolute=0.01) for _ in range(3))
    for evidence, name in ((whole, "accuracy"), (german, GERMAN.name), (french, FRENCH.name)):
        evidence.fold(*found[name])
    german.merge(french)
    assert german.log_harm() == whole.log_harm()


def test_rules_of_one_kind_keep_their_own_reach() -> None:
    near, far = metric("near", "0.1 loss", kind="loss"), metric("far", "0.1 loss", kind="loss", reach=4.0)
    batch = pairs(3, stable_loss=0.0, canary_loss=[0.5, 2.0, np.inf])
    found = split(batch, (near, far), tally=Tally(), warmup_pairs=0)
    assert found["near"][1].tolist() == [0.5, 1.0, 1.0]
    assert found["far"][1].tolist() == [0.125, 0.5, 1.0]


def test_an_answer_that_cannot_be_scored_is_counted_once_however_many_rules_read_it() -> None:
    tally = Tally()
    split(pairs(10, canary_wrong=np.nan), (metric("accuracy", "1pp"), GERMAN), tally=tally, warmup_pairs=0)
    assert tally.rejected == [0, 10]


def test_a_side_that_failed_is_as_bad_as_can_be_for_every_reach() -> None:
    batch = pairs(1, canary_status=Status.INTERNAL, stable_loss=0.0)
    found = split(batch, (metric("far", "0.1 loss", kind="loss", reach=4.0),), tally=Tally(), warmup_pairs=0)
    assert found["far"][1].tolist() == [1.0]


def test_a_canary_wrong_in_one_slice_is_judged_on_that_slice_alone() -> None:
    """One in a hundred wrong overall is within the margin; one in five of the German ones is not."""
    n = 3000
    german = np.arange(n) % 20 == 0
    wrong = german & (np.arange(n) % 100 == 0)
    analysis = Analysis(rules(metric("accuracy", "2pp"), GERMAN, slices=SLICES, entry_pairs=n))
    for batch in np.array_split(pairs(n, slices=german.astype(int), canary_wrong=wrong), 30):
        analysis.fold(batch)
    ruling = analysis.ruling(1.0)
    assert ruling.verdict is Verdict.FAIL
    assert ruling.named == ("accuracy country=DE",)
    assert [finding.measures for finding in ruling.findings] == ["accuracy", "accuracy"]


def test_a_cold_metric_of_a_slice_says_why_it_has_no_data() -> None:
    analysis = Analysis(
        rules(metric("errors country=DE", "1pp", kind="errors", slice=0), slices=SLICES, warmup_pairs=9)
    )
    analysis.fold(pairs(5, slices=1))
    found: Finding = analysis.ruling(1.0).findings[0]
    assert found.state is State.NO_DATA and "warm-up" in found.detail
