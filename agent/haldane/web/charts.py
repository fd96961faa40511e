"""Which plots a report shows: evidence over time, and each metric's estimate with its band. Pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from haldane.domain.evidence import Finding, Role, Ruling, State
from haldane.domain.rollout import Phase
from haldane.judge.gauges import Gauge
from haldane.judge.verdict import odds, quantity
from haldane.web.plot import Band, Line, Plot, Rule, Stretch, draw, round_steps
from haldane.web.story import Story

KNOWN = ("errors", "accuracy", "latency", "disagreement", "drift", "loss", *Gauge)
LOWEST = -2.0  # log10: evidence below 1:100 says nothing more about harm
MOST_ABOVE = 2.5  # decades shown above the threshold; evidence soon grows past any paper


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a legend."""

    look: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot with its heading, legend and one sentence on how to read it."""

    heading: str
    reads: str
    keys: Sequence[Key]
    plot: Markup
    empty: str = ""  # why there is nothing to see, when there is not


def look_of(finding: Finding) -> str:
    """The style class of a metric's lines: its kind's; that of a slice would pass for the whole."""
    kind = finding.measures or finding.metric
    return f"m-{kind if kind in KNOWN and not finding.slice else 'other'}"


def start_of(story: Story) -> float:
    """Wall time zero of the plots."""
    if story.rollout.started_at:
        return story.rollout.started_at
    return story.records[0].at if story.records else 0.0


def evidence(story: Story) -> list[Chart]:
    """Evidence against the canary (over all metrics) and for it (per objective); empty without rulings."""
    if not story.rulings:
        return []
    return [_against(story), _for(story)]


def _against(story: Story) -> Chart:
    need = -math.log10(story.alpha)
    rulings = story.rulings
    last = rulings[-1]
    # A line per slice would hide the others; those that were named are what the page is about.
    names = [f.metric for f in last.findings if f.role.rolls_back and (not f.slice or f.metric in last.named)]
    lines = _lines(rulings, names, "log10_harm")
    together = [(0.0, 0.0), *((one.seconds, one.log10_harm) for one in rulings)]
    lines.append(Line("all metrics", "m-all", together))
    return Chart(
        heading="Evidence against the canary",
        reads=f"Over all metrics together, {odds(need)} withdraws it.",
        keys=[Key(line.look, line.name, odds(line.points[-1][1])) for line in reversed(lines)],
        plot=_evidence_plot(story, lines, need, f"withdraw at {odds(need)}", "bad-rule"),
    )


def _for(story: Story) -> Chart:
    need, rulings = -math.log10(story.beta), story.rulings
    names = [name for name in _names(rulings) if _role(rulings, name) is Role.OBJECTIVE]
    lines = _lines(rulings, names, "log10_harmless")
    return Chart(
        heading="Evidence for the canary",
        reads=f"Every objective must reach {odds(need)} for a promotion.",
        keys=[Key(line.look, line.name, odds(line.points[-1][1])) for line in lines],
        plot=_evidence_plot(story, lines, need, f"promote at {odds(need)}", "good-rule") if lines else Markup(""),
        empty="" if lines else "No data on any objective.",
    )


def _evidence_plot(story: Story, lines: Sequence[Line], need: float, name: str, look: str) -> Markup:
    highest = max((y for line in lines for _, y in line.points), default=0.0)
    lowest = min((y for line in lines for _, y in line.points), default=0.0)
    low, high = max(LOWEST, min(-0.5, lowest)), min(need + MOST_ABOVE, max(need + 0.6, highest))
    ticks = [(float(level), level_name(level)) for level in range(math.ceil(low), math.floor(high) + 1)]
    return draw(
        Plot(
            title=f"{name}: " + "; ".join(f"{line.name} {odds(line.points[-1][1])}" for line in lines),
            x=_span(story),
            y=(low, high),
            ticks=ticks,
            lines=lines,
            rules=[Rule(need, name, look)],
            stretches=_phases(story),
            moments=_verdict_moment(story),
        )
    )


def level_name(exponent: int) -> str:
    """A power of ten as odds: 100:1, 1:10."""
    return f"1:{10**-exponent:,}" if exponent < 0 else f"{10**exponent:,}:1"


def metrics(story: Story) -> list[Chart]:
    """Each metric's estimate, its band and its margin over time; a metric without data says so.

    Of slices only those that were named: the table has all.
    """
    if not story.rulings:
        return []
    last = story.rulings[-1]
    return [_metric(story, one) for one in last.findings if not one.slice or one.metric in last.named]


def _metric(story: Story, last: Finding) -> Chart:
    harm = "harm, canary minus stable"
    what = {"ratio": "canary to stable", "share": harm, "loss": harm}.get(last.unit, "canary alone")
    if last.measures == "drift":  # it has no direction
        what = "largest gap between the outputs of both sides"
    heading = f"{last.metric}: {what}"
    points = list(_bands(story.rulings, last.metric))
    if last.state is State.NO_DATA or not points or last.margin is None:
        lacking = "No data" if last.state is State.NO_DATA or last.estimate is None else "Too little for an interval"
        return Chart(heading, "", [], Markup(""), empty=f"{lacking}. {last.detail[:1].upper()}{last.detail[1:]}.")
    look = look_of(last)
    low, high = _view_of(points, last.margin)
    span = f"{quantity(last.lower, last.unit)} to {quantity(last.upper, last.unit)}"
    bound = f"{last.bound} {quantity(last.margin, last.unit)}"
    plot = Plot(
        title=f"{heading}: {quantity(last.estimate, last.unit)} ({span}), {bound}",
        x=_span(story),
        y=(low, high),
        ticks=[(value, quantity(value, last.unit)) for value in round_steps(low, high, 5)],
        lines=[Line(last.metric, look, [(x, estimate) for x, estimate, _, _ in points])],
        bands=[Band(look, [(x, lower, upper) for x, _, lower, upper in points])],
        rules=[
            Rule(last.margin, bound, "bad-rule"),
            Rule(0.0, "", "zero-rule"),
        ],
        moments=_verdict_moment(story),
        size=(470, 200),
    )
    now = f"{quantity(last.estimate, last.unit)}, 95 % interval {span}"
    return Chart(heading, "", [Key(look, "now", now)], draw(plot))


Point = tuple[float, float, float, float]  # seconds, estimate, lower, upper


def _bands(rulings: Sequence[Ruling], metric: str) -> Iterator[Point]:
    for ruling in rulings:
        for one in ruling.findings:
            if one.metric == metric and one.estimate is not None and one.lower is not None and one.upper is not None:
                yield ruling.seconds, one.estimate, one.lower, one.upper


def _view_of(points: Sequence[Point], margin: float) -> tuple[float, float]:
    """A y range in which the later half of the band and the margin are seen; the first, wide part may leave it."""
    later = points[len(points) // 2 :]
    low = min(*(lower for *_, lower, _ in later), -0.5 * margin)
    high = max(*(upper for *_, upper in later), 1.5 * margin)
    room = 0.08 * (high - low)
    return low - room, high + room


def _names(rulings: Sequence[Ruling]) -> list[str]:
    return [finding.metric for finding in rulings[-1].findings]


def _role(rulings: Sequence[Ruling], metric: str) -> Role:
    return next(finding.role for finding in rulings[-1].findings if finding.metric == metric)


def _lines(rulings: Sequence[Ruling], names: Sequence[str], what: str) -> list[Line]:
    looks = {finding.metric: look_of(finding) for finding in rulings[-1].findings}
    every = ((name, _series(rulings, name, what)) for name in names)
    return [Line(name, looks[name], [(0.0, 0.0), *points]) for name, points in every if points]  # E begins at 1


def _series(rulings: Sequence[Ruling], metric: str, what: str) -> list[tuple[float, float]]:
    return [
        (ruling.seconds, getattr(finding, what))
        for ruling in rulings
        for finding in ruling.findings
        if finding.metric == metric and finding.state is not State.NO_DATA
    ]


def _span(story: Story) -> tuple[float, float]:
    ends = [story.rulings[-1].seconds] if story.rulings else []
    ends += [stretch.end for stretch in _phases(story)]
    return 0.0, max([0.0, *ends]) or 1.0


def _phases(story: Story) -> list[Stretch]:
    """The phases in which pairs were judged, on the clock of the rulings: it stands still in all others."""
    moves = [(record.at, Phase(record.data["to"])) for record in story.records if record.data.get("to")]
    judged, last = 0.0, story.rulings[-1].seconds if story.rulings else 0.0
    stretches: list[Stretch] = []
    for (at, phase), after in zip(moves, [*moves, None][1:], strict=True):
        if not phase.judging:
            continue
        begun, judged = judged, judged + (after[0] - at) if after else max(judged, last)
        name = phase.replace("_", " ").lower()
        if stretches and stretches[-1].name == name:
            begun = stretches.pop().start
        stretches.append(Stretch(begun, judged, name))
    return stretches


def _verdict_moment(story: Story) -> list[tuple[float, str]]:
    last = story.rulings[-1]
    return [(last.decided_seconds, str(last.verdict))] if last.decided_seconds is not None else []
