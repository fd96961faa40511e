"""Gauges: what a reading may say, and what follows when it says nothing."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from haldane.domain.entries import READING_DTYPE, Entry
from haldane.domain.evidence import Finding, Role, Ruling, State, Verdict
from haldane.judge.analysis import Analysis, trace
from haldane.judge.explain import LANGUAGES, counted, explain
from haldane.judge.first import without_baseline
from haldane.judge.gauges import FACT_WEIGHT, Gauge, GaugeRule
from haldane.judge.readings import Blocks
from haldane.judge.rules import Rules
from haldane.testing.pairs import metric, pairs, rules

ERRORS = metric("errors", "1pp", weight=0.1)
QUEUE = GaugeRule(name="queue", kind=Gauge.QUERY, margin=0.1, query="q{version='$version'}")
CPU = GaugeRule(name="cpu", kind=Gauge.CPU, margin=0.1)
GROWTH = GaugeRule(name="leak", kind=Gauge.GROWTH, limit=100e6)
MEMORY = GaugeRule(name="memory", kind=Gauge.MEMORY, limit=1e9, weight=FACT_WEIGHT)


def rows(at: object, stable: object, canary: object, *, gauge: int = 0, server: int = -1) -> Entry:
    at = np.atleast_1d(np.asarray(at, float))
    entry = np.zeros(len(at), READING_DTYPE)
    entry["at"], entry["metric"], entry["server"] = at, gauge, server
    entry["stable"], entry["canary"] = stable, canary
    return entry


def every_five(minutes: int, *, ratio: float = 1.0, noise: float = 0.05, seed: int = 0, **more: int) -> Entry:
    """Scrapes of 5 s, warm-up included."""
    rng = np.random.default_rng(seed)
    at = np.arange(0.0, 60 * minutes + 1, 5)
    stable, canary = np.exp(rng.normal(0, noise, (2, len(at))))
    return rows(at, stable, ratio * canary, **more)


def judged(gauge: GaugeRule, *entries: Entry, least_pairs: int = 100) -> Ruling:
    analysis = Analysis(rules(ERRORS, gauges=(gauge,), least_pairs=least_pairs))
    for entry in entries:
        analysis.fold(entry)
    return analysis.ruling(1.0)


def of(ruling: Ruling, name: str) -> Finding:
    return next(finding for finding in ruling.findings if finding.metric == name)


def test_a_gauge_a_quarter_higher_is_found_within_a_quarter_of_an_hour() -> None:
    ruling = judged(QUEUE, pairs(1000), every_five(16, ratio=1.25))
    assert (ruling.verdict, ruling.named) == (Verdict.FAIL, ("queue",))
    assert of(ruling, "queue").estimate == pytest.approx(0.25, abs=0.05)


def test_an_equal_gauge_is_shown_harmless_and_an_objective_then_passes() -> None:
    objective = GaugeRule(name="queue", kind=Gauge.QUERY, role=Role.OBJECTIVE, margin=0.1, query="q")
    few = judged(objective, pairs(1000), every_five(4))
    assert few.verdict is Verdict.CONTINUE
    many = judged(objective, pairs(1000), every_five(20))
    assert (many.verdict, of(many, "queue").state) == (Verdict.PASS, State.HARMLESS)


def test_where_higher_is_better_a_drop_is_the_harm() -> None:
    better = GaugeRule(name="hits", kind=Gauge.QUERY, margin=0.1, higher_is_worse=False, query="q")
    assert judged(better, pairs(1000), every_five(16, ratio=0.75)).named == ("hits",)
    assert judged(better, pairs(1000), every_five(16, ratio=1.5)).verdict is Verdict.PASS


def test_the_warm_up_does_not_count() -> None:
    early = every_five(1, ratio=9.0)
    assert of(judged(QUEUE, early), "queue").pairs == 0


def test_a_gauge_without_data_in_time_never_enters_and_gives_its_share_back() -> None:
    analysis = Analysis(rules(ERRORS, gauges=(QUEUE,)))
    analysis.fold(pairs(1000))
    analysis.fold(rows(np.arange(0, 600.0, 5), np.nan, np.nan))
    analysis.fold(every_five(30, ratio=3.0))
    found = of(analysis.ruling(1.0), "queue")
    assert (found.state, found.pairs) == (State.NO_DATA, 0)
    assert analysis.hearing.weights == {"errors": 1.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0.0])
def test_a_reading_that_cannot_be_is_no_data_and_never_a_verdict(value: float) -> None:
    at = np.arange(0, 1800.0, 5)
    ruling = judged(QUEUE, pairs(1000), rows(at, 1.0, value))
    found = of(ruling, "queue")
    assert (found.state, ruling.verdict) == (State.NO_DATA, Verdict.PASS)
    assert "336 of 336 readings missing" in found.detail


@pytest.mark.parametrize(("stable", "canary"), [(5e-324, 0.01), (0.01, 5e-324), (1e300, 5e-324)])
def test_a_ratio_too_large_or_small_to_write_is_still_a_vote(stable: float, canary: float) -> None:
    _, ratios = Blocks(QUEUE).take(rows(5.0 * np.arange(120), stable, canary))
    assert len(ratios) > 0 and np.isfinite(ratios).all() and (ratios > 0).all()


def test_an_objective_without_readings_never_passes() -> None:
    objective = GaugeRule(name="queue", kind=Gauge.QUERY, role=Role.OBJECTIVE, margin=0.1, query="q")
    analysis = Analysis(rules(ERRORS, gauges=(objective,)))
    analysis.fold(pairs(5000))
    analysis.fold(rows(np.arange(0, 900.0, 5), np.nan, np.nan))
    assert analysis.ruling(900.0, final=True).verdict is Verdict.INCONCLUSIVE


def test_a_gauge_that_is_lost_keeps_what_it_has_shown() -> None:
    harmed = judged(QUEUE, pairs(1000), every_five(9, ratio=1.25))
    lost = judged(QUEUE, pairs(1000), every_five(9, ratio=1.25), rows(np.arange(545, 2000.0, 5), np.nan, np.nan))
    assert of(lost, "queue").log10_harm >= of(harmed, "queue").log10_harm > 0.5


def test_a_thin_block_gives_no_vote() -> None:
    thin = every_five(16, ratio=2.0)[::3]  # 4 of 12 readings a block
    assert of(judged(QUEUE, thin), "queue").pairs == 0


def test_however_many_servers_there_are_a_block_of_time_gives_one_vote() -> None:
    one = every_five(16, ratio=1.25, server=0)
    entries = [every_five(16, ratio=1.25, server=server, seed=server) for server in range(4)]
    four = np.sort(np.concatenate(entries), order="at", kind="stable")
    assert of(judged(QUEUE, four), "queue").pairs == of(judged(QUEUE, one), "queue").pairs


# --- counters -----------------------------------------------------------------

COUNTER = GaugeRule(name="work", kind=Gauge.QUERY, margin=0.1, counter=True, query="q")


def growing(minutes: int, ratio: float) -> Entry:
    at = np.arange(0.0, 60 * minutes + 1, 5)
    rng = np.random.default_rng(3)
    steps = np.exp(rng.normal(0, 0.05, (2, len(at))))
    return rows(at, np.cumsum(steps[0]), np.cumsum(ratio * steps[1]))


def test_of_a_counter_the_rates_are_compared() -> None:
    ruling = judged(COUNTER, pairs(1000), growing(16, 1.25))
    assert ruling.named == ("work",)
    assert of(ruling, "work").estimate == pytest.approx(0.25, abs=0.05)


def test_a_counter_that_is_reset_drops_one_reading_and_no_more() -> None:
    entry = growing(16, 1.25)
    entry["canary"][100:] -= entry["canary"][99]
    found = of(judged(COUNTER, pairs(1000), entry), "work")
    assert found.state is State.HARMFUL
    assert "1 of 168 readings dropped" in found.detail


def test_a_clock_that_jumps_drops_readings() -> None:
    entry = growing(16, 1.25)
    entry["at"][90:] += 3600
    assert "1 of 168 readings dropped" in of(judged(COUNTER, entry), "work").detail
    entry["at"][90:] -= 3600
    entry["at"][100] = 130.0  # back into a block that was counted
    assert "readings dropped" in of(judged(COUNTER, entry), "work").detail


def test_a_side_not_scraped_anew_waits_and_is_no_zero() -> None:
    entry = growing(16, 1.25)
    for index in range(1, len(entry)):  # the canary's exporter is read every 10 s
        if index % 2:
            entry["canary"][index] = entry["canary"][index - 1]
    found = of(judged(COUNTER, pairs(1000), entry), "work")
    assert found.estimate == pytest.approx(0.25, abs=0.05)
    assert "missing" not in found.detail


# --- CPU, growth, facts ------------------------------------------------------


def couples(n: int, cost: float) -> list[Entry]:
    """Canary's cost a request over stable's 1 ms; an A/A pair costs 2 ms."""
    rng = np.random.default_rng(1)
    noise = np.exp(rng.normal(0, 0.02, (n, 2)))
    return [
        rows(120 + 120.0 * (i + 1), 0.002 * noise[i, 0], 0.001 * (1 + cost) * noise[i, 1], server=0) for i in range(n)
    ]


def test_a_canary_dearer_in_cpu_is_found_by_the_switchback() -> None:
    ruling = judged(CPU, pairs(1000), *couples(12, 1.4))
    assert ruling.named == ("cpu",)
    found = of(ruling, "cpu")
    assert (found.estimate, found.margin) == (pytest.approx(0.4, abs=0.05), pytest.approx(0.1))


def test_a_canary_as_dear_as_stable_is_neither_accused_nor_acquitted_by_a_clock_that_hides_a_part() -> None:
    ruling = judged(CPU, pairs(1000), *couples(40, 1.0))
    assert (ruling.verdict, of(ruling, "cpu").state) == (Verdict.PASS, State.UNDECIDED)
    assert "hides a part" in of(ruling, "cpu").detail


def test_on_the_margin_the_switchback_seldom_accuses() -> None:
    rng = np.random.default_rng(5)
    accused = 0
    for _ in range(200):
        analysis = Analysis(rules(ERRORS, gauges=(CPU,)))
        for i in range(40):
            aa, ab = np.exp(rng.normal(0, 0.05, 2))
            analysis.fold(rows(120 + 120.0 * (i + 1), aa, 1.05 * ab, server=0))
        accused += analysis.hearing.verdict is Verdict.FAIL
    assert accused <= 6  # 1 % and three standard deviations


def leak(minutes: int, bytes_an_hour: float) -> Entry:
    at = np.arange(0.0, 60 * minutes + 1, 5)
    rng = np.random.default_rng(2)
    return rows(at, np.nan, 2e9 + bytes_an_hour * at / 3600 + rng.normal(0, 1e5, len(at)), server=0)


def test_a_leak_beyond_the_limit_is_shown_and_told_in_bytes() -> None:
    ruling = judged(GROWTH, pairs(1000), leak(30, 400e6))
    assert ruling.named == ("leak",)
    assert of(ruling, "leak").estimate == pytest.approx(400e6, rel=0.1)
    assert "MB/h" in " ".join(explain(ruling, rules(ERRORS, gauges=(GROWTH,))))


def test_memory_that_stays_is_no_leak() -> None:
    assert of(judged(GROWTH, pairs(1000), leak(30, 0.0)), "leak").state is State.HARMLESS


def facts(stable: object, *canary: float) -> Entry:
    made = rows(np.ones(len(canary)), stable, canary)
    made["server"] = np.arange(len(canary))
    return made


def test_a_load_that_takes_more_memory_than_allowed_fails_at_once() -> None:
    ruling = judged(MEMORY, pairs(10), facts(np.nan, 1.2e9, 1.3e9, 0.4e9))
    assert (ruling.verdict, ruling.named) == (Verdict.FAIL, ("memory",))
    assert "2 of 3 servers beyond it" in ruling.why


def test_one_server_of_three_beyond_the_limit_is_the_servers_affair() -> None:
    found = of(judged(MEMORY, facts(np.nan, 1.2e9, 0.3e9, 0.4e9)), "memory")
    assert (found.state, found.estimate) == (State.UNDECIDED, 0.4e9)


def test_a_load_time_is_held_against_stables_where_that_is_known() -> None:
    relative = GaugeRule(name="load", kind=Gauge.LOAD, margin=0.5)
    assert judged(relative, facts(10.0, 16.0)).named == ("load",)
    assert of(judged(relative, facts(10.0, 14.0)), "load").state is State.HARMLESS
    assert of(judged(relative, facts(np.nan, 99.0)), "load").state is State.NO_DATA


# --- the rest ----------------------------------------------------------------


def test_the_same_log_gives_the_same_bits_in_any_portions() -> None:
    entry = every_five(20, ratio=1.1)
    whole, parts = Blocks(QUEUE), Blocks(QUEUE)
    stable, canary = whole.take(entry)
    pieces = [parts.take(part) for part in np.array_split(entry, 37)]
    assert np.array_equal(canary, np.concatenate([piece[1] for piece in pieces]))
    assert np.array_equal(stable, np.concatenate([piece[0] for piece in pieces]))
    log = [pairs(100), entry, pairs(100, first=100)]
    first, again = (trace(rules(ERRORS, gauges=(QUEUE,)), log) for _ in range(2))
    assert first == again


def test_evidence_can_be_stored_half_way() -> None:
    entry = every_five(20, ratio=1.1)
    going, stopped = (Analysis(rules(ERRORS, gauges=(QUEUE,))) for _ in range(2))
    stopped.fold(entry[:100])
    stopped = pickle.loads(pickle.dumps(stopped))
    stopped.fold(entry[100:])
    going.fold(entry[:100])
    going.fold(entry[100:])
    assert going.ruling(1.0) == stopped.ruling(1.0)
    assert len(pickle.dumps(going.blocks)) < 8000


def test_rows_of_an_unknown_gauge_say_nothing() -> None:
    assert of(judged(QUEUE, every_five(16, ratio=2.0, gauge=7)), "queue").pairs == 0


def test_rules_with_gauges_come_back_from_their_json() -> None:
    made = rules(ERRORS, gauges=(QUEUE, CPU, GROWTH, MEMORY))
    assert Rules.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": Gauge.QUERY, "margin": 0.1}, "needs query"),
        ({"kind": Gauge.QUERY, "query": "q"}, "margin relative to stable"),
        ({"kind": Gauge.CPU, "margin": 0.1, "role": Role.OBJECTIVE}, "make it a guardrail"),
        ({"kind": Gauge.CPU, "margin": 0.1, "query": "q"}, "takes no query"),
        ({"kind": Gauge.GROWTH, "margin": 0.1}, "give a limit"),
        ({"kind": Gauge.MEMORY}, "give a limit, or a margin"),
        ({"kind": Gauge.MEMORY, "limit": math.nan}, "limit must be positive"),
        ({"kind": Gauge.LOAD, "limit": 5.0, "weight": 0.0}, "weight must be positive"),
        ({"kind": Gauge.QUERY, "query": "q", "margin": 0.1, "every_seconds": 90.0}, "longer than a block"),
    ],
)
def test_a_gauge_that_makes_no_sense_is_refused_by_name(given: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=f"odd: .*{says}"):
        GaugeRule(name="odd", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_is_explained(language: str) -> None:
    gauges = (QUEUE, CPU, GROWTH, MEMORY)
    made = rules(ERRORS, gauges=gauges)
    analysis = Analysis(made)
    log = (facts(np.nan, 1e8), 3), (couples(5, 1.0)[0], 1), (leak(20, 1e6), 2), (every_five(20), 0)
    for entry, gauge in log:
        entry["metric"] = gauge
        analysis.fold(entry)
    told = " ".join(explain(analysis.ruling(1.0), made, language))
    assert all(rule.name in told for rule in gauges)
    assert ("100 MB" in told, "{" in told) == (True, False)
    assert language == "en" or not any(word in told for word in ("blocks", "servers", "readings"))


def test_a_finding_says_what_it_counts() -> None:
    ruling = judged(MEMORY, pairs(1000), facts(np.nan, 1e8, 1e8))
    assert {found.metric: counted(found) for found in ruling.findings} == {"errors": "1,000", "memory": "2 servers"}
    assert counted(of(judged(QUEUE, every_five(16)), "queue")) == "14 blocks"


def test_notes_tell_of_gauges_by_the_clock_and_not_by_pairs() -> None:
    analysis = Analysis(rules(ERRORS, gauges=(QUEUE, replace(QUEUE, name="other"))))
    analysis.fold(every_five(9))
    analysis.fold(pairs(5000, at=600.0))
    assert [note for note in analysis.hearing.notes() if "queue" in note] == []
    assert any("other never entered" in note for note in analysis.hearing.notes())
    analysis.fold(rows(np.arange(545, 1000.0, 5), np.nan, np.nan))
    assert any("queue has given no data since" in note for note in analysis.hearing.notes())


def test_of_a_first_version_the_gauges_with_a_limit_are_judged() -> None:
    both = replace(MEMORY, name="load", kind=Gauge.LOAD, limit=30.0, margin=0.5)
    first = without_baseline(rules(ERRORS, gauges=(QUEUE, CPU, MEMORY, GROWTH, both)))
    assert [(rule.name, rule.margin) for rule in first.gauges] == [("memory", 0.0), ("leak", 0.0), ("load", 0.0)]
