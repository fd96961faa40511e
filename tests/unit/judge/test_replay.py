"""A log judged again: the same bits under the same rules, and what other rules would have said."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest

from haldane.domain.entries import READING_DTYPE, Entry
from haldane.domain.evidence import Verdict
from haldane.judge.analysis import Analysis
from haldane.judge.gauges import Gauge, GaugeRule
from haldane.judge.replay import Recorded, opinion, reproduce, retold
from haldane.judge.rules import Rules, Slice
from haldane.testing.gallery import RULES, canary_pairs
from haldane.testing.pairs import metric, pairs, rules

BAD = tuple(canary_pairs(1500, wrong=0.08))
GOOD = tuple(canary_pairs(4000))


def recorded(judged_by: Rules, entries: Sequence[Entry], *places: int, extensions: int = 0) -> tuple[Recorded, ...]:
    """The rulings given after so many entries, as the audit log has them."""
    analysis, found = Analysis(judged_by), []
    for number, entry in enumerate(entries, start=1):
        analysis.fold(entry)
        if number in places:
            analysis.extend(extensions)
            ruling = asdict(analysis.ruling(analysis.hearing.seconds + 0.123456789))
            found.append(Recorded(number, json.loads(json.dumps(ruling))))
    return tuple(found)


@pytest.mark.parametrize("entries", [BAD, GOOD], ids=["bad", "good"])
def test_every_recorded_ruling_comes_out_again(entries: Sequence[Entry]) -> None:
    rulings = recorded(RULES, entries, 1, 7, 7, 20, len(entries))
    again = reproduce(RULES, entries, rulings)
    assert (again.difference, again.compared, again.entries) == (None, len(rulings), len(entries))


def test_a_ruling_before_the_first_entry_is_compared_too() -> None:
    ruling = json.loads(json.dumps(asdict(Analysis(RULES).ruling(1.5))))
    assert reproduce(RULES, GOOD[:3], [Recorded(1, ruling)]).compared == 1


def test_a_ruling_after_an_extension_is_asked_for_with_it() -> None:
    short = replace(RULES, horizon_pairs=200)
    rulings = recorded(short, GOOD, 5, extensions=1)
    assert rulings[0].verdict is Verdict.CONTINUE
    assert reproduce(short, GOOD, rulings).compared == 1
    unextended = Recorded(1, {**rulings[0].ruling, "extensions": 0})
    assert reproduce(short, GOOD, [unextended]).difference is not None


def test_a_log_changed_after_the_fact_is_found_with_the_place_of_the_first_difference() -> None:
    rulings = recorded(RULES, BAD, 4, 8, 12, 16)
    changed = list(BAD)
    changed[9] = changed[9].copy()
    changed[9]["canary_wrong"][:10] = 1
    again = reproduce(RULES, changed, rulings)
    assert again.difference is not None
    assert (again.compared, again.difference.agreed, again.difference.entries) == (2, 8, 12)
    assert "findings[accuracy].estimate" in [change.path for change in again.difference.changes]


def test_one_bit_of_one_number_is_a_difference() -> None:
    (ruling,) = recorded(RULES, BAD, 6)
    nudged = {**ruling.ruling, "log10_harm": float(np.nextafter(ruling.ruling["log10_harm"], 9.0))}
    difference = reproduce(RULES, BAD, [Recorded(6, nudged)]).difference
    assert difference is not None
    assert [change.path for change in difference.changes] == ["log10_harm"]


def test_a_log_that_lost_its_end_differs() -> None:
    rulings = recorded(RULES, BAD, 4, 12)
    difference = reproduce(RULES, BAD[:10], rulings).difference
    assert difference is not None
    assert (difference.changes[0].then, difference.changes[0].now) == (12, 10)


def test_what_a_later_release_says_beyond_the_record_is_no_difference() -> None:
    (ruling,) = recorded(RULES, BAD, 6)
    older = {key: value for key, value in ruling.ruling.items() if key != "named"}
    assert reproduce(RULES, BAD, [Recorded(6, older)]).difference is None


def test_a_ruling_that_does_not_say_what_it_rests_on_is_counted_apart() -> None:
    (ruling,) = recorded(RULES, BAD, 6)
    older = {key: value for key, value in ruling.ruling.items() if key != "entries"}
    again = reproduce(RULES, BAD, [Recorded(6, older)])
    assert (again.compared, again.unplaced, again.difference) == (0, 1, None)


def test_an_opinion_says_where_it_was_decided_and_what_stands_at_the_end() -> None:
    found = opinion(RULES, BAD)
    assert found.decided is not None
    assert found.decided.verdict is Verdict.FAIL
    assert found.decided.pairs == found.decided.decided_pairs < found.end.pairs
    assert found.trail[0] == (0.0, 0.0)
    assert len(found.trail) == 1 + len(BAD)


def test_stricter_rules_may_outlast_the_log() -> None:
    strict = rules(metric("accuracy", "0.1pp"))
    found = opinion(strict, GOOD)
    assert (found.decided, found.ruling.verdict) == (None, Verdict.CONTINUE)


@pytest.mark.parametrize("more", [{"horizon_pairs": 300}, {"budget_seconds": 8.0}])
def test_an_opinion_ends_with_the_horizon_or_the_budget(more: dict[str, float]) -> None:
    found = opinion(replace(RULES, **more), GOOD)  # type: ignore[arg-type]
    assert found.decided is not None
    assert found.decided.verdict is Verdict.INCONCLUSIVE
    assert found.decided.pairs < 400


def test_a_budget_runs_out_without_pairs() -> None:
    found = opinion(replace(RULES, budget_seconds=100.0), GOOD[:4], seconds=101.0)
    assert found.ruling.verdict is Verdict.INCONCLUSIVE


def readings() -> Iterator[Entry]:
    entry = np.zeros(4, READING_DTYPE)
    entry["metric"] = [0, 1, 2, 1]
    entry["stable"] = [1.0, 2.0, 3.0, 4.0]
    yield entry


def test_readings_follow_their_gauge_to_its_place_in_other_rules() -> None:
    queue, heap, cpu = (
        GaugeRule(name=name, kind=Gauge.QUERY, query=name, margin=0.1) for name in ("queue", "heap", "cpu")
    )
    told, asked = rules(gauges=(queue, heap, cpu)), rules(gauges=(cpu, heap))
    (moved,) = retold(readings(), told=told, asked=asked)
    assert moved["metric"].tolist() == [1, 0, 1]
    assert moved["stable"].tolist() == [2.0, 3.0, 4.0]


def test_slices_keep_their_pairs_and_one_never_asked_for_has_none() -> None:
    de, fr, it = (Slice(field="country", value=value) for value in ("de", "fr", "it"))
    told, asked = rules(slices=(de, fr)), rules(slices=(it, fr))
    (moved,) = retold([pairs(4, slices=[0, 1, 2, 3])], told=told, asked=asked)
    assert moved["slices"].tolist() == [0, 0, 2, 2]
