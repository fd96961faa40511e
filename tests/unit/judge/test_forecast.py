import numpy as np
import pytest

from haldane.domain.evidence import Role, Verdict
from haldane.judge.analysis import Analysis
from haldane.judge.forecast import Outlook, Traffic, duration, forecast
from haldane.judge.rules import Slice
from haldane.testing.pairs import metric, pairs, rules


def only(margin: str, name: str = "accuracy", role: Role = Role.OBJECTIVE, **traffic: float) -> Outlook:
    some = rules(metric(name, margin, role), least_pairs=0)
    return forecast(some, Traffic(**{"pairs_per_second": 20.0, **traffic}))[0]  # type: ignore[arg-type]


def test_promotion_takes_about_what_was_measured() -> None:
    outlook = only("1pp", discordance=0.027)
    assert outlook.promote_pairs == pytest.approx(2800, rel=0.25)  # the median over thousands of simulated runs
    assert outlook.promote_seconds == pytest.approx(outlook.promote_pairs / 20)


def test_the_forecast_is_near_what_happens() -> None:
    some = rules(metric("accuracy", "2pp"), least_pairs=0)
    foreseen = forecast(some, Traffic(pairs_per_second=100, discordance=0.04))[0].promote_pairs
    assert foreseen is not None
    needed = []
    for seed in range(60):
        u = np.random.default_rng(seed).random(20_000)
        stream = pairs(20_000, canary_wrong=u < 0.02, stable_wrong=u > 0.98)
        analysis = Analysis(some)
        for batch in np.split(stream, range(50, 20_000, 50)):
            analysis.fold(batch)
            if analysis.hearing.verdict is Verdict.PASS:
                break
        needed.append(analysis.hearing.pairs)
    assert foreseen == pytest.approx(float(np.median(needed)), rel=0.35)


def test_a_margin_out_of_reach_of_a_labelled_set_is_said_with_the_least_that_is_in_reach() -> None:
    outlook = only("0.5pp", discordance=0.06, labelled_rows=3000)
    assert outlook.promote_pairs is None
    assert outlook.least_margin is not None and 0.01 < outlook.least_margin < 0.02
    assert "will not pass with the 3,000 pairs" in outlook.sentence()
    again = only(f"{100 * outlook.least_margin * 1.02:.3f}pp", discordance=0.06, labelled_rows=3000)
    assert again.promote_pairs is not None


def test_tighter_margins_take_longer() -> None:
    wide, tight = only("2pp"), only("1pp")
    assert wide.promote_pairs is not None and tight.promote_pairs is not None
    assert wide.promote_pairs < tight.promote_pairs


@pytest.mark.parametrize(
    ("name", "margin"),
    [("errors", "0.5pp"), ("errors", "+100% +0.1pp"), ("loss", "0.05 loss"), ("loss", "+10%"), ("disagreement", "2pp")],
)
def test_every_metric_has_an_outlook_in_words(name: str, margin: str) -> None:
    sentence = only(margin, name).sentence()
    assert sentence.startswith(name)
    assert "nan" not in sentence and "inf " not in sentence


def test_latency_takes_at_least_nine_blocks() -> None:
    some = rules(metric("latency", "+10%"), least_pairs=0, dependence_seconds=2.0, rate_per_second=20.0)
    outlook = forecast(some, Traffic(pairs_per_second=20))[0]
    assert outlook.rollback_pairs is not None and outlook.rollback_pairs >= 7 * 160
    assert outlook.promote_pairs is not None and outlook.promote_pairs >= 5 * 160


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
    assert "german (margin -2pp, 25 % of requests)" in quarter.sentence()


def test_a_share_that_was_declared_is_taken_when_no_other_is_given() -> None:
    german = metric("german", "+30%", kind="latency", slice=0, share=0.05)
    some = rules(german, slices=(Slice(field="country", value="DE"),), dependence_seconds=2.0, rate_per_second=50.0)
    (declared,), (given,) = (forecast(some, Traffic(pairs_per_second=50, shares=s)) for s in ({}, {"country=DE": 0.2}))
    assert (declared.share, given.share) == (0.05, 0.2)
    assert declared.rollback_pairs is not None  # its blocks are a twentieth of what they are for all requests


def test_a_guardrail_promises_no_promotion() -> None:
    assert "identical" not in only("1pp", "errors", Role.GUARDRAIL).sentence()


def test_no_traffic_to_speak_of_shows_nothing() -> None:
    outlook = only("1pp", pairs_per_second=0.001)
    assert outlook.promote_pairs is None and outlook.rollback_pairs is None and outlook.least_harm is None
    assert "no harm can be shown" in outlook.sentence()


@pytest.mark.parametrize(("seconds", "words"), [(5.2, "5 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_read_like_speech(seconds: float, words: str) -> None:
    assert duration(seconds) == words
