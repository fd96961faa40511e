"""The plot of both sides' quantiles: rarer is further right, slower is higher, what is unbounded reaches the rim."""

import re
from dataclasses import replace

import pytest

from haldane.domain.evidence import Quantile, Span, Spread
from haldane.domain.rollout import Phase
from haldane.testing.gallery import a_story, canary_pairs
from haldane.web.charts import Chart
from haldane.web.distribution import distributions

RATIO = Span(0.2, None, None)


def charted(*quantiles: Quantile) -> Chart:
    story = a_story(batches=list(canary_pairs(200)), phase=Phase.SHADOWING)
    last, spread = story.rulings[-1], Spread(quantiles, None)
    shown = tuple(replace(one, spread=spread) if one.spread else one for one in last.findings)
    return distributions(replace(story, rulings=[replace(last, findings=shown)]))[0]


def points(chart: Chart, look: str, shape: str = "polyline") -> list[tuple[float, float]]:
    found = re.search(rf'<{shape} class="[a-z]+ {look}" points="([^"]+)"', str(chart.plot))
    assert found is not None
    pairs = (point.split(",") for point in found[1].split())
    return [(float(x), float(y)) for x, y in pairs]


def test_a_slower_canary_lies_above_stable_at_every_quantile() -> None:
    batches = list(canary_pairs(2000, slower=1.5))
    chart = distributions(a_story(batches=batches, phase=Phase.ROLLED_BACK))[0]
    stable, canary = points(chart, "m-stable"), points(chart, "m-canary")
    assert [x for x, _ in stable] == [x for x, _ in canary] == sorted(x for x, _ in stable)
    assert all(above[1] < below[1] for above, below in zip(canary, stable, strict=True))  # y grows downward
    assert [key.name for key in chart.keys] == ["stable", "canary"]
    assert all(re.fullmatch(r"p50 \S+ ms, p95 \S+ ms, p99 \S+ ms", key.value) for key in chart.keys)


def test_where_nothing_is_bounded_yet_the_band_fills_the_plot() -> None:
    known, unknown = Span(0.01, 0.009, 0.011), Span(0.02, 0.015, None)
    chart = charted(Quantile(0.5, known, known, RATIO), Quantile(0.99, unknown, unknown, RATIO))
    band = points(chart, "m-canary", "polygon")
    rim = min(y for _, y in band)
    assert band[1][1] == rim < points(chart, "m-canary")[1][1]
    assert band[0][1] > rim


@pytest.mark.parametrize(("low", "high"), [(0.01, 0.0101), (1e-5, 10.0), (0.004, 0.06)])
def test_every_range_has_some_round_sizes_beside_it(low: float, high: float) -> None:
    spans = Span(low, None, None), Span(high, None, None)
    chart = charted(*(Quantile(share, one, one, RATIO) for share, one in zip((0.5, 0.99), spans, strict=True)))
    sizes = re.findall(r">([\d.]+ (?:µs|ms|s))</text>", str(chart.plot))
    assert 2 <= len(sizes) <= 24
    assert len(set(sizes)) == len(sizes)


def test_without_a_distribution_there_is_no_plot() -> None:
    assert distributions(a_story()) == []
