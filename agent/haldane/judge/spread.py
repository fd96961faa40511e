"""Latency as a distribution: quantiles of both sides and who is slower where, shown beside the finding on the ratio.

Nothing here decides. The typical ratio inside pairs and the watch on the tail
do; what the two sides share is not taken out of these figures.
"""

from collections.abc import Iterator

import numpy as np

from haldane.domain.evidence import Exceedance, Quantile, Span, Spread
from haldane.judge.rules import Rules
from haldane.judge.verdict import quantity
from haldane.stats.betting import Floats
from haldane.stats.order import Order
from haldane.stats.quantiles import Quantiles

SHARES: Floats = np.array([0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999])
TOLD = {0.5: ("median", "中位数"), 0.95: ("p95", "p95"), 0.99: ("p99", "p99")}  # in sentences
BEYOND = 5  # a quantile is shown once so many readings lie beyond it on each side
LEVEL = 0.025  # each end of the intervals

_TEXT = {
    "en": {
        "quantile": "{name} {stable} stable, {canary} canary ({ratio}{bounds})",
        "quantiles": "Quantiles of {metric}: {all}.",
        "both": ", 95 % always-valid {low} to {high}",
        "at least": ", at least {low}",
        "at most": ", at most {high}",
        "none": ", not bounded yet",
        "above": "{metric} above {at}: {stable} of requests on stable, {canary} on canary; {proven}.",
        "slower": "canary exceeds it more often, by at least {by}",
        "faster": "stable exceeds it more often, by at least {by}",
        "neither": "at none of five such limits is either side proven the slower",
    },
    "zh": {
        "quantile": "{name} 稳定版本 {stable}，金丝雀 {canary}（{ratio}{bounds}）",
        "quantiles": "{metric}的分位数：{all}。",
        "both": "，95% 始终有效区间 {low} 至 {high}",
        "at least": "，至少 {low}",
        "at most": "，至多 {high}",
        "none": "，尚无界限",
        "above": "{metric}超过 {at} 的请求：稳定版本 {stable}，金丝雀 {canary}；{proven}。",
        "slower": "金丝雀更常超过，至少多 {by}",
        "faster": "稳定版本更常超过，至少多 {by}",
        "neither": "在五个界限上均未证明哪一侧更慢",
    },
}


class Distribution:
    """What a metric's readings, shape (n,) each and positive, say of both distributions. State is constant."""

    def __init__(self, rules: Rules) -> None:
        # On a bench, where no noise is declared to last, every reading counts for itself.
        self.quantiles = Quantiles(lasting=rules.block_pairs if rules.dependence_seconds else 1)
        self.order = Order(block_pairs=rules.block_pairs)

    def fold(self, stable: Floats, canary: Floats) -> None:
        self.quantiles.fold(stable, canary)
        self.order.fold(stable, canary)

    def spread(self) -> Spread | None:
        """None while there are too few readings for any quantile; costs about a millisecond."""
        n = self.quantiles.pairs
        shares = SHARES[np.minimum(SHARES, 1 - SHARES) * n >= BEYOND]
        if not len(shares):
            return None
        stable, canary = self.quantiles.estimates(shares)
        ends = self.quantiles.interval(shares, LEVEL)
        # Both sides' intervals must hold for their ratio's: half the level each.
        halves = self.quantiles.interval(shares, LEVEL / 2)
        ratios = canary / stable - 1
        low, high = halves[1, :, 0] / halves[0, :, 1] - 1, halves[1, :, 1] / np.maximum(halves[0, :, 0], 1e-300) - 1
        quantiles = tuple(
            Quantile(
                float(share),
                _span(stable[i], *ends[0, i]),
                _span(canary[i], *ends[1, i]),
                Span(float(ratios[i]), float(low[i]) if low[i] > -1 else None, _bounded(high[i], halves[:, i])),
            )
            for i, share in enumerate(shares)
        )
        clearest = self.order.clearest(LEVEL)
        exceedance = (
            Exceedance(clearest.threshold, clearest.stable, clearest.canary, clearest.proven) if clearest else None
        )
        return Spread(quantiles, exceedance)


def _span(estimate: float, low: float, high: float) -> Span:
    return Span(float(estimate), float(low) if low > 0 else None, float(high) if np.isfinite(high) else None)


def _bounded(high: float, halves: Floats) -> float | None:
    """The upper end of a ratio, which needs a lower end of stable and an upper one of canary."""
    return float(high) if halves[0, 0] > 0 and np.isfinite(halves[1, 1]) else None


def sentences(spread: Spread, metric: str, language: str) -> Iterator[str]:
    """The distributions in words; `metric` is its name in that language."""
    text = _TEXT[language]
    told = [_quantile(one, language) for one in spread.quantiles if one.share in TOLD]
    if told:
        yield text["quantiles"].format(metric=metric, all=("; " if language == "en" else "；").join(told))
    if spread.exceedance is not None:
        yield _exceedance(spread.exceedance, metric, language)


def _quantile(one: Quantile, language: str) -> str:
    text, ratio = _TEXT[language], one.ratio
    low, high = (None if end is None else quantity(end, "ratio") for end in (ratio.lower, ratio.upper))
    form = "both" if low and high else "at least" if low else "at most" if high else "none"
    return text["quantile"].format(
        name=TOLD[one.share][language == "zh"],
        stable=duration(one.stable.estimate),
        canary=duration(one.canary.estimate),
        ratio=quantity(ratio.estimate, "ratio"),
        bounds=text[form].format(low=low, high=high),
    )


def _exceedance(one: Exceedance, metric: str, language: str) -> str:
    text = _TEXT[language]
    form = "slower" if one.proven > 0 else "faster" if one.proven < 0 else "neither"
    return text["above"].format(
        metric=metric[:1].upper() + metric[1:],
        at=duration(one.threshold),
        stable=f"{100 * one.stable:.1f} %",
        canary=f"{100 * one.canary:.1f} %",
        proven=text[form].format(by=f"{100 * abs(one.proven):.1f} pp"),
    )


def duration(seconds: float) -> str:
    """A latency with three significant digits: 850 µs, 12.3 ms, 1.20 s."""
    size, unit = next(((s, u) for s, u in ((1.0, "s"), (1e-3, "ms")) if seconds >= s), (1e-6, "µs"))
    value = seconds / size
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"
