"""The view model of a report: a story turned into the words and plots of its page. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from haldane.domain.evidence import Finding, Role, Ruling, State, Verdict
from haldane.domain.record import Record
from haldane.domain.release import Profile, UnderLoad
from haldane.domain.rollout import Phase, Rollout
from haldane.judge.explain import counted
from haldane.judge.profile import beside, took, with_callers
from haldane.judge.verdict import odds, quantity
from haldane.web import charts
from haldane.web.distribution import distributions
from haldane.web.plot import interval
from haldane.web.sentences import explained, standing
from haldane.web.story import Labels, Story, said_of

# How the banner looks and reads: one class of the page's style and one or two words.
_BANNER = {
    Phase.SUCCEEDED: ("good", "Promoted"),
    Phase.ROLLED_BACK: ("bad", "Withdrawn"),
    Phase.ROLLING_BACK: ("bad", "Being withdrawn"),
    Phase.STUCK: ("alarm", "Stuck: a person is needed"),
    Phase.HELD: ("wait", "Held"),
    Phase.RAMPING: ("good", "Takes users in steps"),
    Phase.PROMOTING: ("good", "Being promoted"),
    Phase.BAKING: ("good", "Baking"),
}
_STATE = {
    State.HARMFUL: ("bad", "harmful"),
    State.HARMLESS: ("good", "within {bound}"),
    State.UNDECIDED: ("wait", "undecided"),
    State.NO_DATA: ("none", "no data"),
}
NO_DATA = "no data"


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One line of the findings table."""

    metric: str
    look: str  # class of its lines
    role: str
    state: str
    state_look: str
    picture: Markup
    estimate: str
    interval: str
    margin: str
    against: str
    for_it: str
    pairs: str
    detail: str
    crossed: str


@dataclass(frozen=True, slots=True)
class LabelRow:
    """What one label meant on one server, before and after."""

    server: str
    label: str
    before: str
    after: str
    moved: bool


@dataclass(frozen=True, slots=True)
class RecordRow:
    """One entry of the audit log."""

    seq: int
    at: str  # UTC
    since: str  # since the rollout started
    kind: str
    says: str
    by: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything a report's page shows."""

    anchor: str
    title: str
    model: str
    old: int
    new: int
    look: str
    banner: str
    why: str
    found: str  # what was shown, where `why` tells only where it led
    standing: str
    facts: Sequence[tuple[str, str]]
    findings: Sequence[FindingRow]
    evidence: Sequence[charts.Chart]
    metrics: Sequence[charts.Chart]
    labels: Sequence[LabelRow]
    records: Sequence[RecordRow]
    sentences: Sequence[str]
    notes: Sequence[str]
    verdict: str
    pairs: str
    seconds: str


def view(story: Story) -> View:
    """The view of one story; without rulings its findings and charts are empty."""
    rollout, last = story.rollout, story.ruling
    look, banner = ("bad", "Promoted, then taken back") if story.reverts else banner_of(rollout)
    told = explained(story)[2:]
    return View(
        anchor="".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in rollout.id),
        title=story.title
        or f"{rollout.model} {'first version' if rollout.first else f'{rollout.old} →'} {rollout.new}",
        model=rollout.model,
        old=rollout.old,
        new=rollout.new,
        look=look,
        banner=banner,
        why=_sentence(rollout.why),
        found=_sentence(last.why) if last and last.verdict is Verdict.PASS and last.why not in rollout.why else "",
        standing=standing(story),
        facts=list(_facts(story, last)),
        findings=[finding_row(one) for one in last.findings] if last else [],
        evidence=charts.evidence(story),
        metrics=[*charts.metrics(story), *distributions(story)],
        labels=list(label_rows(story.labels_before, story.labels_after)),
        records=[_record_row(one, story) for one in story.records],
        sentences=told,
        notes=[note for note in story.sentences if note not in told],
        verdict=last.verdict if last else NO_DATA,
        pairs=f"{_decided_pairs(last):,}" if last else NO_DATA,
        seconds=long_time(_decided_seconds(last)) if last else NO_DATA,
    )


def banner_of(rollout: Rollout) -> tuple[str, str]:
    """Look and words of the banner."""
    if rollout.phase is Phase.HELD and rollout.verdict is Verdict.FAIL:
        return "bad", "Held: would withdraw"
    if rollout.phase is Phase.HELD and rollout.verdict is Verdict.PASS:
        return "good", "Held: would promote"
    return _BANNER.get(rollout.phase, ("run", "On trial" if rollout.phase is Phase.SHADOWING else "Loading"))


def _facts(story: Story, last: Ruling | None) -> Iterator[tuple[str, str]]:
    rollout = story.rollout
    yield "Rollout", rollout.id
    yield "Phase", rollout.phase
    yield "Verdict", last.verdict if last else NO_DATA
    yield "Pairs judged", f"{last.pairs:,}" if last else NO_DATA
    if last and last.decided_pairs is not None and last.decided_seconds is not None:
        yield "Evidence sufficed", f"pair {last.decided_pairs:,}, after {long_time(last.decided_seconds)}"
    yield "Started", utc(rollout.started_at) if rollout.started_at else NO_DATA
    started = next((record for record in story.records if record.data.get("by")), None)
    if started:
        yield "Asked for by", f"{started.data['by']}: {started.data.get('why', '')}"
    yield "Mode", rollout.mode
    yield "Clients", f"{rollout.clients}, canary in {rollout.placement.replace('_', ' ')}"
    if started and (room := started.data.get("memory")):
        yield "Room before the load", "; ".join(room)
    if story.release and (profile := _profile(story.release)):
        yield "When validated", took(profile)
        if (load := profile.under_load) is not None:
            served = story.release.get("served", {})
            told = beside(load, rollout.old, _profile(served))
            yield "Under load, when validated", "; ".join(filter(None, (with_callers(load), told)))
    yield from said_of(story.release)


def _profile(record: Mapping[str, Any]) -> Profile | None:
    """What a version took on its publisher's machine, as a record has it; None where nobody measured."""
    if (known := record.get("profile")) is None:
        return None
    load = known.get("under_load")
    return Profile(**{**known, "under_load": UnderLoad(**load) if load else None})


def finding_row(finding: Finding) -> FindingRow:
    """One finding in words, with a picture of its interval against the margin."""
    state_look, state = _STATE[finding.state]
    if finding.state is State.HARMFUL and not finding.role.rolls_back:  # it withdraws nothing
        state_look, state = "wait", "beyond {bound}"
    look, measured = charts.look_of(finding), finding.state is not State.NO_DATA

    def number(value: float | None) -> str:
        return quantity(value, finding.unit) if value is not None and measured else NO_DATA

    span = f"{number(finding.lower)} to {number(finding.upper)}"
    return FindingRow(
        metric=finding.metric,
        look=look,
        role="shown only" if finding.role is Role.INFO else finding.role,
        state=state.format(bound=finding.bound),
        state_look=state_look,
        picture=_picture(finding, look, span) if measured else Markup(""),
        estimate=number(finding.estimate),
        interval=span if number(finding.lower) != NO_DATA else NO_DATA,
        margin=quantity(finding.margin, finding.unit) if finding.margin is not None else "–",
        against=odds(finding.log10_harm) if measured else NO_DATA,
        for_it=odds(finding.log10_harmless) if measured else NO_DATA,
        pairs=counted(finding),
        detail=finding.detail,
        crossed=_crossed(finding),
    )


def _crossed(finding: Finding) -> str:
    """When its evidence first sufficed, "" when it does not."""
    if finding.crossed_pairs is None or finding.crossed_seconds is None:
        return ""
    return f"since pair {finding.crossed_pairs:,} ({long_time(finding.crossed_seconds)})"


def _picture(finding: Finding, look: str, span: str) -> Markup:
    values = finding.estimate, finding.lower, finding.upper, finding.margin
    if any(value is None or not math.isfinite(value) for value in values):
        return Markup("")
    estimate, lower, upper, margin = (float(value) for value in values if value is not None)
    words = f"{finding.metric}: {span}, {finding.bound} {quantity(margin, finding.unit)}"
    return interval(estimate=estimate, lower=lower, upper=upper, margin=margin, look=look, words=words)


def label_rows(before: Labels | None, after: Labels | None) -> Iterator[LabelRow]:
    """Every label of every server, before and after."""
    for server in sorted({*(before or {}), *(after or {})}):
        old, new = (labels.get(server, {}) if labels is not None else None for labels in (before, after))
        for label in sorted({*(old or {}), *(new or {})}):
            was, now = _meaning(old, label), _meaning(new, label)
            yield LabelRow(server, label, was, now, was != now)


def _meaning(labels: Any, label: str) -> str:
    if labels is None:
        return NO_DATA
    version = labels.get(label)
    return "–" if version is None else str(version)


def _record_row(record: Record, story: Story) -> RecordRow:
    data = record.data
    says = data.get("why") or data.get("detail") or ""
    if data.get("to"):
        says = f"{data.get('from', '')} → {data['to']}: {says}"
    return RecordRow(
        seq=record.seq,
        at=utc(record.at),
        since=f"+{long_time(max(0.0, record.at - charts.start_of(story)))}",
        kind=record.kind.replace("_", " "),
        says=str(says),
        by=str(data.get("by", "the agent")),
        hash=record.hash[:12],
    )


def _decided_pairs(ruling: Ruling) -> int:
    return ruling.pairs if ruling.decided_pairs is None else ruling.decided_pairs


def _decided_seconds(ruling: Ruling) -> float:
    return ruling.seconds if ruling.decided_seconds is None else ruling.decided_seconds


def utc(at: float) -> str:
    """Wall time for a person."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def long_time(seconds: float) -> str:
    """Seconds in words: 4.2 s, 1 min 12 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _sentence(words: str) -> str:
    if words.partition(" ")[0].isalpha():  # not the name of a server
        words = words[:1].upper() + words[1:]
    return words if not words or words.endswith((".", "!", "?")) else f"{words}."


def verdict_of(rollout: Rollout) -> str:
    """The verdict in the rollout's words: one that is over without a verdict has none."""
    return "none" if rollout.phase.final and rollout.verdict is Verdict.CONTINUE else str(rollout.verdict)
