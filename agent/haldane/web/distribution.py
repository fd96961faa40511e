"""The plot of a metric's distribution: both sides' quantiles, the rarer the further right. Pure."""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

from haldane.domain.evidence import Span, Spread
from haldane.judge.spread import duration
from haldane.web.charts import Chart, Key
from haldane.web.plot import Band, Line, Plot, draw, round_steps
from haldane.web.story import Story

KEYED = (0.5, 0.95, 0.99)  # in the legend
Side = Sequence[tuple[float, Span]]  # (share below, value)


def distributions(story: Story) -> list[Chart]:
    """A chart for each metric whose distribution the last ruling shows."""
    findings = story.rulings[-1].findings if story.rulings else ()
    return [_distribution(finding.metric, finding.spread) for finding in findings if finding.spread]


def _distribution(metric: str, spread: Spread) -> Chart:
    sides = {
        "stable": [(one.share, one.stable) for one in spread.quantiles],
        "canary": [(one.share, one.canary) for one in spread.quantiles],
    }
    values = [span.estimate for side in sides.values() for _, span in side]
    low, high = math.log10(min(values)) - 0.08, math.log10(max(values)) + 0.12
    keys = [Key(f"m-{name}", name, _keyed(side)) for name, side in sides.items()]
    x_ticks = [(_place(one.share), _name(one.share)) for one in spread.quantiles]
    plot = Plot(
        title=f"quantiles of {metric}: " + "; ".join(f"{key.name} {key.value}" for key in keys),
        x=(x_ticks[0][0], x_ticks[-1][0]),
        y=(low, high),
        ticks=[(math.log10(value), duration(value)) for value in _sizes(10**low, 10**high)],
        x_ticks=x_ticks,
        lines=[Line(name, f"m-{name}", _curve(side)) for name, side in sides.items()],
        bands=[Band(f"m-{name}", list(_limits(side, low, high))) for name, side in sides.items()],
        size=(470, 240),
    )
    reads = "So many requests in a hundred take no longer. Bands hold at all looks together."
    return Chart(f"{metric}: quantiles of each side", reads, keys, draw(plot))


def _place(share: float) -> float:
    """Where a quantile stands: as far to the right as on a normal distribution, so that the tail has its room."""
    return NormalDist().inv_cdf(share)


def _name(share: float) -> str:
    return f"p{100 * share:g}"


def _keyed(side: Side) -> str:
    return ", ".join(f"{_name(share)} {duration(span.estimate)}" for share, span in side if share in KEYED)


def _curve(side: Side) -> list[tuple[float, float]]:
    return [(_place(share), math.log10(span.estimate)) for share, span in side]


def _limits(side: Side, low: float, high: float) -> Iterator[tuple[float, float, float]]:
    """The band; where there is no bound yet, as far as the plot goes."""
    for share, span in side:
        lower = low if span.lower is None else math.log10(span.lower)
        yield _place(share), lower, high if span.upper is None else math.log10(span.upper)


def _sizes(low: float, high: float) -> list[float]:
    """Round values for a log axis: 1, 2, 5, 10, ..., or even steps over a short range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [size * 10.0**power for power in powers for size in (1, 2, 5) if low <= size * 10.0**power <= high]
    return found if len(found) > 2 else round_steps(low, high, 5)
