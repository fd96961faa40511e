"""Latency as a distribution is shown beside the finding, in both languages, and decides nothing."""

import re

import numpy as np
import pytest

from haldane.domain.evidence import Exceedance, Quantile, Span, Spread
from haldane.domain.traffic import Batch
from haldane.judge.analysis import Analysis, trace
from haldane.judge.explain import LANGUAGES, explain
from haldane.judge.rules import Slice
from haldane.judge.spread import Distribution, duration, sentences
from haldane.testing.pairs import metric, pairs, rules

LATENCY = rules(metric("latency", "+10%"), metric("errors", "1pp"))


def slower(n: int, times: float = 1.3) -> Batch:
    stable, canary = 0.01 * np.exp(np.random.default_rng(0).normal(0, 0.3, (2, n)))
    return pairs(n, stable_seconds=stable, canary_seconds=times * canary)


def spread_of(n: int, **more: float) -> Spread | None:
    distribution, batch = Distribution(rules(metric("latency", "+10%"), **more)), slower(n)
    distribution.fold(batch["stable_seconds"], batch["canary_seconds"])
    return distribution.spread()


def test_quantiles_are_shown_once_a_few_readings_lie_beyond_them() -> None:
    assert spread_of(9) is None
    shown = {n: [one.share for one in found.quantiles] for n in (10, 600, 5000) if (found := spread_of(n))}
    assert shown == {10: [0.5], 600: [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99], 5000: [*shown[600], 0.999]}


def test_the_ratio_of_quantiles_has_an_interval_that_both_sides_allow() -> None:
    spread = spread_of(5000)
    assert spread is not None
    for one in spread.quantiles[:6]:
        assert one.ratio.lower is not None and one.ratio.upper is not None
        assert one.ratio.lower < 0.3 < one.ratio.upper
        assert one.ratio.estimate == pytest.approx(one.canary.estimate / one.stable.estimate - 1)
    assert spread.exceedance is not None and spread.exceedance.proven > 0.1


def test_where_noise_is_declared_to_last_bounds_come_later() -> None:
    lasting = spread_of(5000, dependence_seconds=1.0, rate_per_second=20.0)
    assert lasting is not None
    ends = {one.share: one.canary.upper for one in lasting.quantiles}
    assert ends[0.5] is not None and ends[0.99] is None


def test_only_the_newest_ruling_shows_distributions_and_only_of_latency_over_all_pairs() -> None:
    batches = np.array_split(slower(2000), 4)
    sliced = rules(
        *LATENCY.metrics, metric("latency:a=b", "+10%", kind="latency", slice=0), slices=(Slice(field="a", value="b"),)
    )
    rulings = trace(sliced, batches)
    shown = [[finding.metric for finding in ruling.findings if finding.spread] for ruling in rulings]
    assert shown == [[], [], [], ["latency"]]
    analysis = Analysis(LATENCY)
    analysis.fold(batches[0])
    ruling = analysis.ruling(1.0)
    assert any(finding.spread for finding in ruling.findings)
    assert not any(finding.spread for finding in ruling.without_spreads().findings)


def test_the_sentences_stand_behind_the_finding_on_latency() -> None:
    analysis = Analysis(LATENCY)
    analysis.fold(slower(3000))
    told = explain(analysis.ruling(1.0), LATENCY)
    at = next(i for i, sentence in enumerate(told) if sentence.startswith("latency"))
    assert re.search(r"median \S+ ms stable, 1[23]\.\d ms canary \(\+\S+ %, 95 % always-valid", told[at + 1])
    assert "canary exceeds it more often, by at least" in told[at + 2]


SPAN = Span(0.01, None, None)


@pytest.mark.parametrize(
    ("ratio", "proven", "english", "chinese"),
    [
        (Span(0.2, 0.1, 0.3), 0.05, ("+20.0 %, 95 % always-valid +10.0 % to +30.0 %", "at least 5.0 pp"), "至少多 5.0"),
        (Span(0.2, 0.1, None), -0.05, ("at least +10.0 %", "stable exceeds it more often"), "稳定版本更常超过"),
        (Span(0.2, None, 0.3), 0.0, ("at most +30.0 %", "at none of five"), "未证明"),
        (Span(0.2, None, None), 0.0, ("not bounded yet", "at none of five"), "尚无界限"),
    ],
)
def test_every_bound_has_its_words(ratio: Span, proven: float, english: tuple[str, str], chinese: str) -> None:
    spread = Spread((Quantile(0.95, SPAN, SPAN, ratio),), Exceedance(0.01, 0.1, 0.1 + proven, proven))
    first, second = sentences(spread, "latency", "en")
    assert english[0] in first and english[1] in second
    assert chinese in "".join(sentences(spread, "延迟", "zh"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_chinese_leaves_no_english_behind(language: str) -> None:
    spread = spread_of(3000)
    assert spread is not None
    told = " ".join(sentences(spread, "延迟", language))
    assert bool(re.findall(r"[A-Za-z]{3,}", told)) == (language == "en")


@pytest.mark.parametrize(
    ("seconds", "words"), [(8.5e-4, "850 µs"), (0.0123, "12.3 ms"), (0.4, "400 ms"), (1.2, "1.20 s"), (75.0, "75.0 s")]
)
def test_durations_have_three_digits(seconds: float, words: str) -> None:
    assert duration(seconds) == words
