"""Plots as inline SVG: no scripts, no outside assets, colours from the page's style.

Knows numbers and pixels only. Lines leave the plot where they leave its range:
evidence soon grows past any paper.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from markupsafe import Markup

T = TypeVar("T")

LEFT, RIGHT, TOP, BOTTOM = 62, 14, 26, 30
MOST_POINTS = 300  # more would be finer than a pixel
FAR = 50.0  # heights of the plot above or below it at which a line is cut off: renderers dislike huge numbers
LETTER_WIDTH = 6.4  # of the 11 px labels, for what fits where


@dataclass(frozen=True, slots=True)
class Line:
    """One line over x; `look` is a class of the page's style."""

    name: str
    look: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Band:
    """The room between two values over x: (x, low, high)."""

    look: str
    points: Sequence[tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A level to compare with, drawn from side to side."""

    at: float
    name: str
    look: str = "rule"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A named stretch of x (a phase), shown as a strip above the plot."""

    start: float
    end: float
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """What to draw. `ticks` are (value, label) of the y axis; x is seconds, unless `x_ticks` say what it is."""

    title: str  # what it shows, for those who cannot see it
    x: tuple[float, float]
    y: tuple[float, float]
    ticks: Sequence[tuple[float, str]]
    x_ticks: Sequence[tuple[float, str]] = ()
    lines: Sequence[Line] = ()
    bands: Sequence[Band] = ()
    rules: Sequence[Rule] = ()
    stretches: Sequence[Stretch] = ()
    moments: Sequence[tuple[float, str]] = field(default_factory=tuple)  # (x, name)
    size: tuple[int, int] = (760, 270)


def draw(plot: Plot) -> Markup:
    """The plot as an SVG element that fills its place."""
    width, height = plot.size
    inside = Markup('<svg x="{0}" y="{1}" width="{2}" height="{3}" viewBox="{0} {1} {2} {3}">').format(
        LEFT, TOP, width - LEFT - RIGHT, height - TOP - BOTTOM
    )
    shapes = [inside, *_bands(plot), *_rules(plot), *_lines(plot), Markup("</svg>")]
    parts = [*_strip(plot), *_grid(plot), *shapes, *_moments(plot), *_rule_names(plot)]
    head = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, plot.title)
    return head + Markup("").join(parts) + Markup("</svg>")


def _x(plot: Plot, value: float) -> float:
    low, high = plot.x
    share = (value - low) / ((high - low) or 1.0)
    return LEFT + min(1.0, max(0.0, share)) * (plot.size[0] - LEFT - RIGHT)


def _y(plot: Plot, value: float) -> float:
    low, high = plot.y
    share = (value - low) / ((high - low) or 1.0)
    bottom = plot.size[1] - BOTTOM
    return bottom - min(FAR, max(1 - FAR, share)) * (bottom - TOP)


def _strip(plot: Plot) -> Iterator[Markup]:
    """Phases above the plot; a name too long for its stretch is left to the tooltip."""
    bottom = plot.size[1] - BOTTOM
    for index, stretch in enumerate(plot.stretches):
        left, right = _x(plot, stretch.start), _x(plot, stretch.end)
        yield Markup(
            '<rect class="phase phase-{}" x="{:.1f}" y="4" width="{:.1f}" height="15"><title>{}</title></rect>'
        ).format(stretch.name.lower().replace(" ", "-"), left, max(0.5, right - left - 1), stretch.name)
        if right - left > len(stretch.name) * LETTER_WIDTH + 6:
            yield _text((left + right) / 2, 15, stretch.name, "phase-name", "middle")
        if index:
            yield Markup('<path class="phase-edge" d="M{0:.1f} {1}V{2}"/>').format(left, TOP, bottom)


def _grid(plot: Plot) -> Iterator[Markup]:
    width, height = plot.size
    for value, label in plot.ticks:
        y = _y(plot, value)
        yield Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, y, width - RIGHT)
        yield _text(LEFT - 7, y + 4, label, "tick", "end")
    for value, label in plot.x_ticks or [(value, short_time(value)) for value in time_steps(*plot.x)]:
        x = _x(plot, value)
        anchor = "end" if x > width - RIGHT - 16 else "middle"  # the last one would stick out
        yield _text(min(x, width - RIGHT), height - BOTTOM + 16, label, "tick", anchor)
    yield Markup('<path class="axis" d="M{0} {1}V{2}H{3}"/>').format(LEFT, TOP, height - BOTTOM, width - RIGHT)


def _bands(plot: Plot) -> Iterator[Markup]:
    for band in plot.bands:
        points = thin(band.points)
        if points:
            there = " ".join(f"{_x(plot, x):.1f},{_y(plot, high):.1f}" for x, _, high in points)
            back = " ".join(f"{_x(plot, x):.1f},{_y(plot, low):.1f}" for x, low, _ in reversed(points))
            yield Markup('<polygon class="band {}" points="{} {}"/>').format(band.look, there, back)
            x, low, high = points[-1]
            yield Markup('<path class="end {}" d="M{:.1f} {:.1f}V{:.1f}"/>').format(
                band.look, _x(plot, x), _y(plot, high), _y(plot, low)
            )


def _rules(plot: Plot) -> Iterator[Markup]:
    for rule in plot.rules:
        y = _y(plot, rule.at)
        yield Markup('<path class="{}" d="M{} {:.1f}H{}"/>').format(rule.look, LEFT, y, plot.size[0] - RIGHT)


def _rule_names(plot: Plot) -> Iterator[Markup]:
    """Above their lines, and above the plotted lines too."""
    for rule in plot.rules:
        yield _text(plot.size[0] - RIGHT - 3, _y(plot, rule.at) - 5, rule.name, f"{rule.look}-name", "end")


def _lines(plot: Plot) -> Iterator[Markup]:
    for line in plot.lines:
        points = " ".join(f"{_x(plot, x):.1f},{_y(plot, y):.1f}" for x, y in thin(line.points))
        x, y = line.points[-1]
        yield Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3.2"/>').format(
            line.look, _x(plot, x), _y(plot, y)
        )
        yield Markup('<polyline class="line {}" points="{}"><title>{}</title></polyline>').format(
            line.look, points, line.name
        )


def _moments(plot: Plot) -> Iterator[Markup]:
    for x, name in plot.moments:
        at = _x(plot, x)
        yield Markup('<path class="moment" d="M{:.1f} {}V{}"/>').format(at, TOP, plot.size[1] - BOTTOM)
        left_half = at < plot.size[0] / 2
        yield _text(at + (5 if left_half else -5), TOP + 12, name, "moment-name", "start" if left_half else "end")


def _text(x: float, y: float, words: str, look: str, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(look, x, y, anchor, words)


def interval(*, estimate: float, lower: float, upper: float, margin: float, look: str, words: str) -> Markup:
    """One interval against its margin, small enough for a table: right of the margin line is harm."""
    width, height, middle = 160, 30, 15
    reach = 1.12 * min(max(abs(lower), abs(upper), 1.5 * margin), 12 * margin) or 1.0

    def at(value: float) -> float:
        return width * (min(reach, max(-reach, value)) + reach) / (2 * reach)

    low, high = at(lower), max(at(upper), at(lower) + 1)
    shapes = (
        Markup('<rect class="beyond" x="{:.1f}" y="0" width="{:.1f}" height="{}"/>').format(
            at(margin), width - at(margin), height
        ),
        Markup('<path class="zero" d="M{:.1f} 3V{}"/>').format(at(0.0), height - 3),
        Markup('<path class="margin" d="M{:.1f} 0V{}"/>').format(at(margin), height),
        Markup('<path class="span {}" d="M{:.1f} {}H{:.1f}"/>').format(look, low, middle, high),
        Markup('<circle class="dot {}" cx="{:.1f}" cy="{}" r="4"/>').format(look, at(estimate), middle),
    )
    head = Markup('<svg class="interval" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}">')
    return head.format(width, height, words) + Markup("").join(shapes) + Markup("</svg>")


def thin(points: Sequence[T]) -> list[T]:
    """At most about 300 of the points, the last one always."""
    step = max(1, math.ceil(len(points) / MOST_POINTS))
    kept = list(points[::step])
    return kept if not points or kept[-1] is points[-1] else [*kept, points[-1]]


def round_steps(low: float, high: float, most: int) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) from low to high, at most that many."""
    raw = (high - low) / max(1, most) or 1.0
    power = 10 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


_TIME_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)


def time_steps(low: float, high: float) -> list[float]:
    """Round times from low to high, at most about seven."""
    span = high - low
    if span < 7:
        return round_steps(low, high, 7)
    step = next((size for size in _TIME_STEPS if size * 7 >= span), _TIME_STEPS[-1])
    return [float(index * step) for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def short_time(seconds: float) -> str:
    """Seconds for an axis: 40 s, 3 min, 1.5 h."""
    if seconds < 60 or (seconds < 120 and seconds % 60):
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 7200 else f"{seconds / 3600:g} h"
