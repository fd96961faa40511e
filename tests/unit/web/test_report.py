"""A report says what was found, never more, and stands by itself."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from haldane.domain.evidence import Role, State
from haldane.domain.fleet import Condition
from haldane.domain.record import chain
from haldane.domain.rollout import Phase, RolloutId
from haldane.judge.limit import parse_limits
from haldane.judge.rules import Slice
from haldane.testing.gallery import MemoryAgent, a_story, canary_pairs, records_of
from haldane.testing.pairs import metric, pairs, rules
from haldane.web import charts, report
from haldane.web.sentences import explained
from haldane.web.story import Story, said_of
from haldane.web.view import view

HARMFUL = a_story(batches=list(canary_pairs(1500, wrong=0.08)), phase=Phase.ROLLED_BACK)
GOOD = a_story(batches=list(canary_pairs(3000, seed=3)), phase=Phase.SUCCEEDED, id=RolloutId("credit-3"))
WITHOUT = a_story(phase=Phase.ROLLED_BACK, id=RolloutId("credit-5"), why="r0: version 5 failed to load: DATA_LOSS")


class Balanced(HTMLParser):
    """Raises when an element is closed that is not open."""

    EMPTY = frozenset({"meta", "br", "link", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.loads += [given[name] for name in ("src", "href", "data", "action") if given.get(name)]
        assert tag not in ("script", "iframe", "object", "link"), tag
        assert not any(name.startswith("on") for name in given), given
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} closed out of turn"


def read(html: str) -> Balanced:
    parser = Balanced()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<(style|title)>.*?</\1>|<[^>]+>", " ", html, flags=re.DOTALL))


@pytest.mark.parametrize("story", [HARMFUL, GOOD, WITHOUT], ids=["harmful", "good", "without data"])
def test_a_page_is_well_formed_and_needs_nothing_from_outside(story):
    html = report.page(story)
    assert all(target.startswith("#") for target in read(html).loads)
    assert "url(" not in html
    assert "@import" not in html


def test_the_verdict_comes_first(story=HARMFUL):
    text = words(report.page(story))
    assert text.index("Withdrawn") < text.index("What was found")
    assert "Harm shown after" in text
    assert "Version 2 of credit was withdrawn; version 1 is stable." in text


BY_COUNTRY = rules(
    metric("accuracy", "3pp"),
    metric("accuracy country=DE", "3pp", Role.GUARDRAIL, kind="accuracy", slice=0),
    metric("accuracy country=FR", "3pp", Role.GUARDRAIL, kind="accuracy", slice=1),
    slices=(Slice(field="country", value="DE"), Slice(field="country", value="FR")),
    limits=parse_limits("1%", "errors"),
    entry_pairs=500,
)


def test_a_slice_proven_worse_is_named_and_drawn_and_the_others_are_in_the_table():
    german = np.arange(1500) % 10 == 0
    batch = pairs(1500, slices=np.where(german, 1, 2), canary_wrong=german & (np.arange(1500) % 50 == 0))
    shown = view(a_story(batches=np.array_split(batch, 30), judged_by=BY_COUNTRY, phase=Phase.ROLLED_BACK))
    assert "worse in country=DE: accuracy" in shown.why
    assert [row.metric for row in shown.findings][1:3] == ["accuracy country=DE", "accuracy country=FR"]
    assert not any("country=FR" in chart.heading for chart in shown.metrics)
    assert any("country=DE" in chart.heading for chart in shown.metrics)
    assert "Worse in country=DE: accuracy." in shown.sentences


def test_a_limit_is_told_as_a_limit():
    story = a_story(batches=np.array_split(pairs(1500), 30), judged_by=BY_COUNTRY)
    row = next(row for row in view(story).findings if row.metric == "errors limit 1%")
    assert (row.state, row.estimate, row.margin) == ("within limit", "0 %", "1 %")
    assert any("canary alone" in chart.heading for chart in view(story).metrics)


def test_a_first_version_is_shown_as_one():
    first = replace(HARMFUL, rollout=replace(HARMFUL.rollout, old=HARMFUL.rollout.new, phase=Phase.ROLLED_BACK))
    html = report.page(first)
    assert f"first version {first.rollout.new}: " in html
    assert "no version is stable" in html


def test_a_finding_tells_when_its_evidence_sufficed():
    rows = {row.metric: row for row in view(HARMFUL).findings}
    assert re.fullmatch(r"since pair [\d,]+ \(.+\)", rows["accuracy"].crossed)
    assert rows["accuracy"].crossed in report.page(HARMFUL)
    assert not any(row.crossed for row in rows.values() if row.state == "undecided")


def test_findings_carry_estimate_interval_margin_and_evidence():
    row = next(row for row in view(HARMFUL).findings if row.metric == "accuracy")
    assert row.state == "harmful"
    assert re.fullmatch(r"\+\d+\.\d\d pp", row.estimate)
    assert " to " in row.interval
    assert row.margin == "+1.00 pp"
    assert row.against.endswith(":1")
    assert "<svg" in row.picture


def test_evidence_is_plotted_with_its_threshold_and_the_moment_of_the_verdict():
    against, for_it = view(HARMFUL).evidence
    assert "withdraw at 100:1" in against.plot
    assert "promote at 20:1" in for_it.plot
    assert ">fail</text>" in against.plot
    assert {"m-all", "m-accuracy", "m-errors", "m-latency"} == {key.look for key in against.keys}


def test_each_metric_is_plotted_with_band_and_margin():
    accuracy = next(chart for chart in view(GOOD).metrics if chart.heading.startswith("accuracy"))
    assert 'class="band m-accuracy"' in accuracy.plot
    assert "margin +1.00 pp" in accuracy.plot


def test_without_rulings_the_page_says_no_data_and_draws_nothing():
    made = view(WITHOUT)
    assert (made.findings, made.evidence, made.metrics) == ([], [], [])
    text = words(report.page(WITHOUT))
    assert "No data. No pair was judged" in text
    assert "<svg" not in report.page(WITHOUT)
    assert "failed to load: DATA_LOSS" in text


def test_without_labels_or_records_the_page_says_no_data():
    bare = Story(rollout=WITHOUT.rollout)
    text = words(report.page(bare))
    assert "No data. No label was seen" in text
    assert "No data. No record" in text
    read(report.page(bare))


def test_a_metric_without_data_says_so_and_shows_no_number():
    last = GOOD.rulings[-1]
    gone = tuple(
        replace(one, state=State.NO_DATA, estimate=None, lower=None, upper=None) if one.metric == "accuracy" else one
        for one in last.findings
    )
    story = replace(GOOD, rulings=[replace(last, findings=gone)])
    row = next(row for row in view(story).findings if row.metric == "accuracy")
    assert (row.state, row.estimate, row.interval, row.against) == ("no data",) * 4
    assert "No data." in next(chart.empty for chart in view(story).metrics if chart.heading.startswith("accuracy"))


def test_labels_that_moved_stand_out():
    rows = {(row.server, row.label): (row.before, row.after, row.moved) for row in view(GOOD).labels}
    assert rows["r0", "stable"] == ("1", "2", True)
    assert rows["r1", "canary"] == ("–", "–", False)


def test_records_tell_who_when_and_why():
    first, *_, last = view(HARMFUL).records
    assert (first.by, first.says, first.since) == ("ada", "retrained", "+0.0 s")
    assert last.says.startswith("SHADOWING → ROLLED_BACK")


def test_words_from_outside_are_never_markup():
    evil = '<script>alert("1")</script>'
    story = a_story(phase=Phase.HELD, why=evil, id=RolloutId(evil), title=evil)
    html = report.page(replace(story, sentences=[evil], labels_after={evil: {evil: 1}}))
    read(html)
    assert "<script>" not in html
    assert "<script>" not in report.missing_page(evil)


def test_a_combined_report_has_a_table_that_leads_to_each_section():
    html = report.combined([HARMFUL, GOOD, WITHOUT], title="Three canaries")
    page = read(html)
    assert page.loads == ["#credit-2-test", "#credit-3", "#credit-5"]
    assert all(f'id="{target[1:]}"' in html for target in page.loads)
    assert "Three canaries" in words(html)
    assert "There is no rollout to report" in words(report.combined([], title="None"))


def test_the_index_shows_conditions_rollouts_and_servers_not_seen():
    failed = Condition("failed_load", "credit", 5, ("r0", "r1"), "DATA_LOSS: cannot parse", 0.0)
    restarted = Condition("server_restarted", "", None, ("r2",), "its process began anew", 0.0)
    agent = MemoryAgent(conditions=(failed, restarted))
    html = report.index_page(agent.status(), [HARMFUL.rollout, WITHOUT.rollout])
    read(html)
    text = words(html)
    assert "HaldaneLoadFailed credit version 5 failed to load On r0, r1: DATA_LOSS: cannot parse" in text
    assert "credit 的版本 5 加载失败" in text
    assert "docs/runbooks/HaldaneServerRestarted.md" in text
    assert re.findall(r'class="banner (\w+) condition"', html) == ["bad", "run"]
    assert "5 failed: DATA_LOSS" in text
    assert "not seen connection refused" in text
    assert "No rollouts yet." in words(report.index_page(agent.status(), []))


def test_a_held_rollout_shows_what_it_would_do():
    held = replace(HARMFUL, rollout=replace(HARMFUL.rollout, phase=Phase.HELD))
    assert view(held).banner == "Held: would withdraw"


def test_phases_stand_on_the_clock_of_the_rulings_which_runs_only_while_pairs_are_judged():
    rollout = GOOD.rollout
    moves = [
        (0.0, Phase.LOADING, "a"),
        (30.0, Phase.SHADOWING, "b"),
        (40.0, Phase.HELD, "c"),
        (90.0, Phase.SHADOWING, "d"),
        (100.0, Phase.PROMOTING, "e"),
        (101.0, Phase.PROMOTING, "next server"),
        (102.0, Phase.BAKING, "f"),
        (110.0, Phase.SUCCEEDED, "g"),
    ]
    story = replace(GOOD, records=records_of(rollout, *moves))
    assert [(one.name, one.start, one.end) for one in charts._phases(story)] == [
        ("shadowing", 0.0, 20.0),
        ("promoting", 20.0, 22.0),
        ("baking", 22.0, 30.0),
    ]


def test_a_live_phase_reaches_to_the_newest_ruling():
    story = replace(GOOD, records=GOOD.records[:3])
    (shadowing,) = charts._phases(story)
    assert (shadowing.start, shadowing.end) == (0.0, GOOD.rulings[-1].seconds)


def test_sentences_the_judge_says_anyway_are_not_told_twice():
    told = view(HARMFUL).sentences
    assert view(replace(HARMFUL, sentences=[*told, "trained on a shuffled feature"])).notes == [
        "trained on a shuffled feature"
    ]


def test_one_ruling_is_still_seen():
    html = report.page(replace(GOOD, rulings=GOOD.rulings[-1:]))
    assert html.count('class="dot m-accuracy"') == 4  # both evidence plots, its own, and the table
    assert 'class="end m-accuracy"' in html


def test_evidence_begins_at_even_odds():
    for chart in view(HARMFUL).evidence:
        starts = set(re.findall(r'<polyline class="line m-\w+" points="([\d.]+,[\d.]+) ', chart.plot))
        assert len(starts) == 1


def test_a_long_trace_stays_a_small_page():
    many = replace(GOOD, rulings=list(GOOD.rulings) * 40)
    assert len(report.page(many)) < 200_000


def test_a_promotion_that_was_taken_back_does_not_look_like_a_success():
    last = GOOD.records[-1]
    told = {"by": "haldane", "why": "labels show harm", "revert": "credit-3-revert"}
    record = chain(last, at=last.at + 60, kind="promotion_taken_back", rollout="credit-3", model="credit", data=told)
    story = replace(GOOD, records=[*GOOD.records, record])
    assert view(GOOD).banner == "Promoted"
    assert (view(story).look, view(story).banner) == ("bad", "Promoted, then taken back")
    assert "The promotion was taken back later by rollout credit-3-revert." in words(report.page(story))


def a_checked_story(phase=Phase.SHADOWING, **data):
    """A story whose release was looked into, with that result."""
    story = a_story(phase=phase)
    found = {"result": "verified", "why": "published by ada at noon", "digest": "5f0c" * 16, "golden": 0} | data
    last = story.records[-1]
    record = chain(last, at=last.at, kind="release_checked", rollout=last.rollout, model=last.model, data=found)
    return replace(story, records=[*story.records, record])


def test_what_the_publisher_said_stands_in_the_report_and_is_only_text():
    metadata = {"owner": "<b>risk</b>", "data_version": "2026-10", "metrics": {"auc": 0.81}, "slices": ["a", "b"]}
    html = report.page(a_checked_story(metadata=metadata))
    read(html)
    text = words(html)
    for said in ("data_version 2026-10", "metrics.auc 0.81", "slices a, b", "&lt;b&gt;risk&lt;/b&gt;"):
        assert said in text


MEASURED = {"load_seconds": 0.5, "memory_bytes": 8_000_000, "call_seconds": 0.001}
MANY = {"callers": 2, "calls": 3000, "seconds": 1.5, "p50_seconds": 0.0009}


@pytest.mark.parametrize(
    ("served", "told"),
    [
        ({}, "2,000 calls per second"),
        ({"served": {"version": 1, "profile": MEASURED}}, "2,000 calls per second"),
        (
            {"served": {"version": 1, "profile": MEASURED | {"under_load": MANY | {"p99_seconds": 0.002}}}},
            "2,000 calls per second; p99 under load 3.1 ms, version 1 had 2 ms",
        ),
        (
            {"served": {"version": 1, "profile": MEASURED | {"under_load": MANY | {"p99_seconds": 0.5, "callers": 8}}}},
            "2,000 calls per second; p99 under load 3.1 ms, version 1 had 500 ms with 8 callers at once",
        ),
    ],
)
def test_latency_under_load_stands_beside_that_of_the_version_served(served, told):
    profile = MEASURED | {"under_load": MANY | {"p99_seconds": 0.0031}}
    facts = dict(view(a_checked_story(profile=profile, **served)).facts)
    assert facts["When validated"] == "loaded in 0.5 s, which added 8 MB; one call took 0.001 s"
    assert facts["Under load, when validated"] == f"2 callers at once: p50 0.9 ms, p99 3.1 ms, {told}"


def test_a_profile_from_before_load_was_measured_is_shown_all_the_same():
    facts = dict(view(a_checked_story(profile=MEASURED)).facts)
    assert "When validated" in facts and "Under load, when validated" not in facts


@pytest.mark.parametrize(
    ("metadata", "english", "chinese"),
    [
        (
            {"data_version": "2026-10", "mlflow": {"data": ["loans@5f0c7a"]}},
            "Version 2 was trained on 2026-10, loans@5f0c7a: look there at country=DE.",
            "版本 2 的训练数据为 2026-10, loans@5f0c7a：请检查其中的 country=DE。",
        ),
        ({"mlflow": "no run", "owner": "ada"}, "What data version 2 was trained on is not known", "不知道版本 2"),
    ],
)
def test_worse_answers_lead_back_to_the_data_and_the_slice_of_it(metadata, english, chinese):
    german = np.arange(1500) % 10 == 0
    batch = pairs(1500, slices=np.where(german, 1, 2), canary_wrong=german & (np.arange(1500) % 50 == 0))
    story = a_story(batches=np.array_split(batch, 30), judged_by=BY_COUNTRY, phase=Phase.ROLLED_BACK)
    last, found = story.records[-1], {"result": "verified", "why": "", "digest": "", "metadata": metadata}
    record = chain(last, at=last.at, kind="release_checked", rollout=last.rollout, model=last.model, data=found)
    story = replace(story, records=[*story.records, record])
    assert english in " ".join(explained(story))
    assert chinese in " ".join(explained(story, "zh"))
    assert english in words(report.page(story))


def test_what_is_not_worse_in_its_answers_says_nothing_of_data():
    assert not any("trained on" in one for one in explained(GOOD))


def test_a_publisher_who_says_too_much_does_not_fill_the_page():
    said = said_of({"metadata": {str(number): "x" * 1000 for number in range(500)}})
    assert (len(said), len(said[0][1])) == (30, 200)
    assert said_of(None) == said_of({}) == []


@pytest.mark.parametrize(
    ("data", "english", "chinese"),
    [
        ({}, "Its files are those that were published: published by ada at noon, SHA-256 5f0c5f0c5f0c.", "一致"),
        ({"result": "unverified", "why": "no manifest"}, "Unverified: whether its files are those", "未核实"),
        ({"result": "changed", "why": "x has changed"}, "Its files are not those that were published: x", "不一致"),
        ({"result": "unverified", "golden": 3}, "Its files could not be compared with those that", "无法将其文件"),
        ({"golden": 3}, "Before its label was set, each server answered 3 requests as when it was", "3 个请求的应答"),
    ],
)
def test_whether_it_is_what_was_published_is_told_in_both_languages(data, english, chinese):
    story = a_checked_story(**data)
    assert any(one.startswith(english) for one in explained(story, "en"))
    assert any(chinese in one for one in explained(story, "zh"))


def test_answers_are_not_said_to_be_as_validated_before_they_were_asked_for():
    story = a_checked_story(golden=3)
    loading = replace(story, records=[one for one in story.records if one.data.get("to") != Phase.SHADOWING])
    assert not any("each server answered" in one for one in explained(loading, "en"))
