"""What a forecast says is near what happens, for every kind of metric, and in two languages."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from haldane.domain.entries import READING_DTYPE, Entry
from haldane.domain.evidence import Role, Verdict
from haldane.domain.traffic import Status
from haldane.judge.analysis import Analysis
from haldane.judge.forecast import Outlook, forecast
from haldane.judge.foretold import duration, foretell
from haldane.judge.gauges import Gauge, GaugeRule
from haldane.judge.limit import parse_limits
from haldane.judge.rules import Rules, Slice, Tail
from haldane.judge.traffic import Traffic, measured
from haldane.testing.pairs import metric, pairs, rules

RATE = 100.0


def only(margin: str, name: str = "accuracy", role: Role = Role.OBJECTIVE, **traffic: Any) -> Outlook:
    some = rules(metric(name, margin, role), least_pairs=0)
    return forecast(some, Traffic(**{"pairs_per_second": 20.0, **traffic}))[0]


# --- against what happens ---------------------------------------------------------------------------------------------

Stream = Callable[[np.random.Generator], list[Entry]]


def median_pairs(some: Rules, stream: Stream, verdict: Verdict, runs: int = 45) -> float:
    """Median over simulated runs of the pairs until this verdict; a run without it counts as endless."""
    needed = []
    for seed in range(runs):
        analysis, seen = Analysis(some), 0.0
        for entry in stream(np.random.default_rng(seed)):
            analysis.fold(entry)
            seen = analysis.tally.pairs or float(entry["at"].max()) * RATE
            if analysis.hearing.verdict is verdict:
                break
        needed.append(seen if analysis.hearing.verdict is verdict else np.inf)
    return float(np.median(needed))


def of_pairs(columns: Callable[[np.random.Generator, int], dict[str, Any]], n: int = 20_000, each: int = 20) -> Stream:
    def stream(rng: np.random.Generator) -> list[Entry]:
        return np.split(pairs(n, **columns(rng, n)), range(each, n, each))

    return stream


def wrong(rng: np.random.Generator, n: int, *, harm: float) -> dict[str, Any]:
    u = rng.random(n)
    return {"canary_wrong": u < 0.02 + harm, "stable_wrong": u > 0.98}


def failing(rng: np.random.Generator, n: int, *, stable: float, canary: float) -> dict[str, Any]:
    status = [np.where(rng.random(n) < share, int(Status.INTERNAL), 0) for share in (stable, canary)]
    return {"stable_status": status[0], "canary_status": status[1]}


def timed(rng: np.random.Generator, n: int, *, factor: float = 1.0, tail: float = 1.0) -> dict[str, Any]:
    """Each side's own noise; the tail of the canary may be longer than the rest of it."""
    noise = rng.normal(0, 0.35 / np.sqrt(2), (2, n))
    slow = np.where(noise[1] > 0.35, np.log(tail), 0.0)
    return {"stable_seconds": 0.01 * np.exp(noise[0]), "canary_seconds": 0.01 * factor * np.exp(noise[1] + slow)}


def losses(rng: np.random.Generator, n: int, *, harm: float) -> dict[str, Any]:
    return {"stable_loss": 0.5, "canary_loss": np.clip(0.5 + harm + rng.normal(0, 0.1, n), 0, 1)}


def differing(rng: np.random.Generator, n: int, *, share: float) -> dict[str, Any]:
    aa = rng.random(n) < 0.1
    return {"aa": aa, "disagrees": (rng.random(n) < share) & ~aa}


def promote(**columns: Any) -> tuple[Verdict, dict[str, Any]]:
    return Verdict.PASS, columns


def roll_back(**columns: Any) -> tuple[Verdict, dict[str, Any]]:
    return Verdict.FAIL, columns


Draw = Callable[..., dict[str, Any]]
CASES: list[tuple[str, str, Draw, tuple[Verdict, dict[str, Any]]]] = [
    ("accuracy", "2pp", wrong, promote(harm=0.0)),
    ("accuracy", "2pp", wrong, roll_back(harm=0.04)),
    ("errors", "1pp", failing, promote(stable=0.005, canary=0.005)),
    ("errors", "1pp", failing, roll_back(stable=0.005, canary=0.025)),
    ("errors", "+300% +0.1pp", failing, roll_back(stable=0.005, canary=0.035)),
    ("loss", "0.02 loss", losses, promote(harm=0.0)),
    ("loss", "0.02 loss", losses, roll_back(harm=0.04)),
    ("latency", "+10%", timed, promote()),
    ("latency", "+10%", timed, roll_back(factor=1.2)),
    ("disagreement", "5pp", differing, promote(share=0.02)),
    ("disagreement", "5pp", differing, roll_back(share=0.1)),
    ("floor", "5pp", differing, promote(share=0.02)),
    ("floor", "5pp", differing, roll_back(share=0.1)),
]


@pytest.mark.parametrize(("name", "margin", "draw", "expected"), CASES)
def test_the_forecast_is_within_a_factor_of_one_and_a_half_of_what_happens(
    name: str, margin: str, draw: Draw, expected: tuple[Verdict, dict[str, Any]]
) -> None:
    verdict, columns = expected
    measures, more = ("disagreement", {"floor": True}) if name == "floor" else (name, {})
    stream = of_pairs(lambda rng, n: draw(rng, n, **columns))
    noise = {"dependence_seconds": 0.05, "rate_per_second": RATE}  # blocks of more than two pairs, as they are in use
    some = rules(metric(measures, margin, **more), least_pairs=0, entry_pairs=1, **noise)
    traffic = Traffic(pairs_per_second=RATE, discordance=0.04, error_rate=0.005, loss_sd=0.1, disagreement=0.02)
    (outlook,) = forecast(some, traffic)
    foreseen = outlook.promote_pairs if verdict is Verdict.PASS else outlook.rollback_pairs
    happens = median_pairs(some, stream, verdict)
    assert foreseen is not None
    assert happens / 1.5 <= foreseen <= 1.5 * happens, (foreseen, happens)


def test_the_forecast_of_a_limit_is_near_what_happens() -> None:
    some = rules(limits=parse_limits("2%", "errors"))
    (_, outlook) = forecast(some, Traffic(pairs_per_second=RATE))
    happens = median_pairs(some, of_pairs(lambda r, n: failing(r, n, stable=0.04, canary=0.04)), Verdict.FAIL)
    assert outlook.rollback_pairs is not None
    assert happens / 1.5 <= outlook.rollback_pairs <= 1.5 * happens, (outlook.rollback_pairs, happens)


def test_the_forecast_of_a_gauge_is_near_what_happens() -> None:
    gauge = GaugeRule(name="cpu", kind=Gauge.QUERY, query="x", margin=0.1, weight=1.0)
    some = rules(gauges=(gauge,), budget_seconds=36_000.0, horizon_pairs=10**7)

    def scraped(rng: np.random.Generator) -> list[Entry]:
        rows = np.zeros(720, READING_DTYPE)
        rows["at"] = 121 + 5.0 * np.arange(720)
        rows["stable"], rows["canary"] = np.exp(rng.normal(0, 0.1, (2, 720)))
        rows["canary"] *= 1.2
        return np.split(rows, range(12, 720, 12))

    outlook = forecast(some, Traffic(pairs_per_second=RATE))[-1]
    happens = median_pairs(some, scraped, Verdict.FAIL)
    assert outlook.rollback_pairs is not None
    assert happens / 1.5 <= outlook.rollback_pairs <= 1.5 * happens, (outlook.rollback_pairs, happens)


def test_the_forecast_of_a_switchback_is_near_what_happens_and_counts_harm_as_the_canarys_own() -> None:
    """Half of a pair is stable's, so a canary dearer by 20 % shows as 10 %."""
    some = rules(
        gauges=(GaugeRule(name="cpu", kind=Gauge.CPU, margin=0.1, weight=1.0),),
        budget_seconds=36_000.0,
        horizon_pairs=10**7,
    )

    def couples(rng: np.random.Generator) -> list[Entry]:
        rows = np.zeros(60, READING_DTYPE)
        rows["at"] = 240 + 120.0 * np.arange(60)
        rows["stable"], rows["canary"] = np.exp(rng.normal(0, 0.03, (2, 60)))
        rows["canary"] *= 1.1
        return np.split(rows, 60)

    outlook = forecast(some, Traffic(pairs_per_second=RATE))[-1]
    happens = median_pairs(some, couples, Verdict.FAIL)
    assert (outlook.metric, outlook.margin) == ("cpu", pytest.approx(0.1))
    assert outlook.rollback_pairs is not None
    assert happens / 1.5 <= outlook.rollback_pairs <= 1.5 * happens, (outlook.rollback_pairs, happens)


def test_the_forecast_of_a_tail_is_near_what_happens() -> None:
    """A tail half as long again at a margin of a quarter."""
    some = rules(metric("latency", "+100%", tails=(Tail(quantile=0.95),)), least_pairs=0)
    tail = forecast(some, Traffic(pairs_per_second=RATE))[1]
    stream = of_pairs(lambda r, n: timed(r, n, tail=1.5))
    happens = median_pairs(some, stream, Verdict.FAIL, runs=9)
    assert (tail.metric, tail.margin) == ("latency p95", 0.25)
    assert tail.rollback_pairs is not None
    assert happens / 1.5 <= tail.rollback_pairs <= 1.5 * happens, (tail.rollback_pairs, happens)


def test_promotion_takes_about_what_was_measured() -> None:
    outlook = only("1pp", discordance=0.027)
    assert outlook.promote_pairs == pytest.approx(2000, rel=0.25)  # the median over hundreds of simulated runs
    assert outlook.promote_seconds == pytest.approx(outlook.promote_pairs / 20)


# --- what cannot be shown ---------------------------------------------------------------------------------------------


def test_a_margin_out_of_reach_of_a_labelled_set_is_said_with_the_least_that_is_in_reach() -> None:
    outlook = only("0.5pp", discordance=0.06, labelled_rows=3000)
    assert outlook.promote_pairs is None
    assert outlook.least_margin is not None and 0.01 < outlook.least_margin < 0.02
    assert "will not pass with the 3,000 pairs" in foretell(outlook)
    again = only(f"{100 * outlook.least_margin * 1.02:.3f}pp", discordance=0.06, labelled_rows=3000)
    assert again.promote_pairs is not None


def test_tighter_margins_take_longer() -> None:
    wide, tight = only("2pp"), only("1pp")
    assert wide.promote_pairs is not None and tight.promote_pairs is not None
    assert wide.promote_pairs < tight.promote_pairs


def test_a_slice_takes_as_much_longer_as_it_has_less_of_the_traffic() -> None:
    german = Slice(field="country", value="DE")
    base = metric("accuracy", "2pp", Role.GUARDRAIL)
    some = rules(base, metric("german", "2pp", Role.GUARDRAIL, kind="accuracy", slice=0), slices=(german,))
    whole, quarter = forecast(some, Traffic(pairs_per_second=20, shares={"country=DE": 0.25}))
    assert whole.rollback_pairs is not None and quarter.rollback_pairs is not None
    assert quarter.rollback_pairs == pytest.approx(4 * whole.rollback_pairs, rel=0.01)
    assert quarter.limit == whole.limit // 4
    assert whole.least_harm is not None and quarter.least_harm is not None
    assert quarter.least_harm > whole.least_harm
    assert "german (margin -2pp, 25 % of requests)" in foretell(quarter)


def test_latency_takes_at_least_a_dozen_blocks_under_declared_noise() -> None:
    some = rules(metric("latency", "+10%"), least_pairs=0, dependence_seconds=2.0, rate_per_second=20.0)
    outlook = forecast(some, Traffic(pairs_per_second=20))[0]
    assert outlook.rollback_pairs is not None and outlook.rollback_pairs >= 12 * some.block_pairs
    assert outlook.promote_pairs is not None and outlook.promote_pairs >= 20 * some.block_pairs


def test_a_share_that_was_declared_is_taken_when_no_other_is_given() -> None:
    german = metric("german", "+30%", kind="latency", slice=0, share=0.05)
    some = rules(german, slices=(Slice(field="country", value="DE"),), dependence_seconds=2.0, rate_per_second=50.0)
    (declared,), (given,) = (forecast(some, Traffic(pairs_per_second=50, shares=s)) for s in ({}, {"country=DE": 0.2}))
    assert (declared.share, given.share) == (0.05, 0.2)
    assert declared.rollback_pairs is not None  # its blocks are a twentieth of what they are for all requests


def test_a_guardrail_promises_no_promotion() -> None:
    assert "identical" not in foretell(only("1pp", "errors", Role.GUARDRAIL))


def test_no_traffic_to_speak_of_shows_nothing() -> None:
    outlook = only("1pp", pairs_per_second=0.001)
    assert outlook.promote_pairs is None and outlook.rollback_pairs is None and outlook.least_harm is None
    assert "no harm can be shown" in foretell(outlook)


# --- in words ---------------------------------------------------------------------------------------------------------

EVERY = rules(
    metric("errors", "0.5pp"),
    metric("accuracy", "1pp"),
    metric("loss", "0.05 loss"),
    metric("disagreement", "2pp"),
    metric("drift", "5pp"),
    metric("latency", "+10%", tails=(Tail(quantile=0.99),)),
    limits=(*parse_limits("1%", "errors"), *parse_limits({"p99": "250ms"}, "latency")),
    gauges=(
        GaugeRule(name="cpu", kind=Gauge.CPU, margin=0.1),
        GaugeRule(name="memory", kind=Gauge.MEMORY, limit=1e9),
        GaugeRule(name="memory_growth", kind=Gauge.GROWTH, limit=1e6),
    ),
)


@pytest.mark.parametrize("rate", [0.01, 5.0, 200.0])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_kind_of_metric_has_an_outlook_in_words(rate: float, language: str) -> None:
    told = [foretell(one, language) for one in forecast(EVERY, Traffic(pairs_per_second=rate))]
    assert len(told) == 6 + 1 + 2 + 2
    for sentence in told:
        assert not re.search(r"\bnan\b|\binf\b|\{", sentence)
        if language == "zh":
            assert not re.findall(r"[A-Za-z]{5,}", sentence.replace("memory", "")), sentence


@pytest.mark.parametrize(
    ("name", "margin"),
    [("errors", "+100% +0.1pp"), ("errors", "+50%"), ("loss", "+10%")],
)
def test_relative_margins_have_one_too(name: str, margin: str) -> None:
    assert foretell(only(margin, name)).startswith(f"{name} (margin +")


@pytest.mark.parametrize(("seconds", "words"), [(5.2, "5 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_read_like_speech(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# --- measured ---------------------------------------------------------------------------------------------------------


def test_rates_are_measured_on_the_evidence_of_a_rollout() -> None:
    rng, n = np.random.default_rng(0), 20_000
    columns = wrong(rng, n, harm=0) | failing(rng, n, stable=0.02, canary=0.02) | timed(rng, n)
    batch = pairs(n, **columns, disagrees=rng.random(n) < 0.07, slices=rng.random(n) < 0.25)
    found = measured(np.array_split(batch, 7), Traffic(pairs_per_second=1.0), (Slice(field="c", value="DE"),))
    assert found.pairs_per_second == pytest.approx(RATE, rel=0.01)
    assert found.discordance == pytest.approx(0.04, rel=0.15)
    assert found.error_rate == pytest.approx(0.02, rel=0.15)
    assert found.disagreement == pytest.approx(0.07, rel=0.15)
    assert found.log_ratio_sd == pytest.approx(0.35, rel=0.05)
    assert found.shares == {"c=DE": pytest.approx(0.25, rel=0.1)}
    assert found.loss_sd == Traffic(pairs_per_second=1.0).loss_sd  # no loss was known


def test_too_little_evidence_leaves_the_guess() -> None:
    guess = Traffic(pairs_per_second=3.0)
    assert measured([], guess) is guess
    assert measured([pairs(100)], guess) is guess
    assert measured([np.zeros(5, READING_DTYPE), pairs(150)], guess) is guess
