"""The judge keeps its promises: error rates on the margin, coverage, power.

Seeds are fixed, so a run is repeatable; bounds are binomial: a rate is too
high when so many errors would be seen in one of a thousand suites at most,
were the promise kept. On the margin is the hardest case; an identical canary
inside its margins is easy. Thousands of trials belong to `benchmarks/`.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from haldane.domain.evidence import Role, Verdict
from haldane.domain.traffic import Batch
from haldane.judge.analysis import Analysis
from haldane.judge.rules import Rules, Tail
from haldane.stats.betting import Floats
from haldane.stats.blocks import RatioEvidence
from haldane.stats.means import BoundedEvidence, CountEvidence
from haldane.testing.chance import most
from haldane.testing.pairs import metric, pairs, rules

TRIALS = 300
LOOK_EVERY = 200  # pairs: twenty looks or more in every trial
ALPHA, BETA = 0.01, 0.05

Draw = Callable[[np.random.Generator, int], Batch]


def verdicts(some: Rules, draw: Draw, *, n: int = 4000, trials: int = TRIALS, seed: int = 1) -> Counter[Verdict]:
    """The first FAIL or PASS of each trial, else CONTINUE."""
    found: Counter[Verdict] = Counter()
    for trial in range(trials):
        analysis = Analysis(some)
        stream = draw(np.random.default_rng([seed, trial]), n)
        for batch in np.split(stream, range(LOOK_EVERY, n, LOOK_EVERY)):
            analysis.fold(batch)
            if analysis.hearing.verdict is not Verdict.CONTINUE:
                break
        found[analysis.hearing.verdict] += 1
    return found


def paired_wrong(rng: np.random.Generator, n: int, worse: float, base: float = 0.03) -> dict[str, Floats]:
    """Answers wrong on one side only, `base` of pairs on either side and `worse` more on the canary."""
    u = rng.random(n)
    return {
        "canary_wrong": (u < base + worse) * 1.0,
        "stable_wrong": ((u >= base + worse) & (u < 2 * base + worse)) * 1.0,
    }


def seconds(rng: np.random.Generator, n: int, slower: float, *, one_arm: Floats | float = 0.0) -> dict[str, Floats]:
    """Heavy-tailed latencies that share a drifting level; `one_arm` is noise on the canary only."""
    level = 0.01 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    stable, canary = np.exp(rng.normal(0, 0.2, (2, n)) + (rng.random((2, n)) < 0.03) * rng.exponential(0.5, (2, n)))
    return {"stable_seconds": level * stable, "canary_seconds": level * canary * (1 + slower) * np.exp(one_arm)}


def lasting(rng: np.random.Generator, n: int, *, pairs_long: float, spread: float) -> Floats:
    """Autoregressive noise with this memory."""
    keep = math.exp(-1 / pairs_long)
    shocks, noise = rng.normal(0, spread * math.sqrt(1 - keep**2), n), np.empty(n)
    value = rng.normal(0, spread)
    for i in range(n):
        value = keep * value + shocks[i]
        noise[i] = value
    return noise


def accuracy_on_margin(rng: np.random.Generator, n: int) -> Batch:
    return pairs(n, **paired_wrong(rng, n, 0.01))


def errors_on_margin(rng: np.random.Generator, n: int) -> Batch:
    return pairs(n, canary_status=6 * (rng.random(n) < 0.01))


def latency_on_margin(rng: np.random.Generator, n: int) -> Batch:
    return pairs(n, **seconds(rng, n, 0.1))


def latency_on_margin_with_one_arm_noise(rng: np.random.Generator, n: int) -> Batch:
    noise = lasting(rng, n, pairs_long=10, spread=0.15)
    return pairs(n, **seconds(rng, n, 0.1, one_arm=noise))


def latency_on_margin_with_noise_thrice_as_long(rng: np.random.Generator, n: int) -> Batch:
    noise = lasting(rng, n, pairs_long=30, spread=0.15)
    return pairs(n, **seconds(rng, n, 0.1, one_arm=noise))


def latency_on_margin_with_noise_of_either_arm(rng: np.random.Generator, n: int) -> Batch:
    """Noise on both sides in turn: noise on canary alone would make its tail the slower one."""
    drawn = seconds(rng, n, 0.1, one_arm=lasting(rng, n, pairs_long=10, spread=0.1))
    drawn["stable_seconds"] = drawn["stable_seconds"] * np.exp(lasting(rng, n, pairs_long=10, spread=0.1))
    return pairs(n, **drawn)


def loss_on_margin(rng: np.random.Generator, n: int) -> Batch:
    stable = 0.1 + rng.random(n) * 0.5
    return pairs(n, stable_loss=stable, canary_loss=stable + rng.choice([-0.03, 0.05], n))


def all_on_margin(rng: np.random.Generator, n: int) -> Batch:
    return pairs(n, **paired_wrong(rng, n, 0.01), **seconds(rng, n, 0.1), canary_status=6 * (rng.random(n) < 0.01))


ACCURACY, ERRORS, LATENCY = metric("accuracy", "1pp"), metric("errors", "1pp"), metric("latency", "+10%")
TWENTY = {"rate_per_second": 20.0}
ON_MARGIN: dict[str, tuple[Rules, Draw]] = {
    "accuracy": (rules(ACCURACY), accuracy_on_margin),
    "errors": (rules(ERRORS), errors_on_margin),
    "latency": (rules(LATENCY), latency_on_margin),
    "latency, one-arm noise as declared": (
        rules(LATENCY, dependence_seconds=0.5, **TWENTY),
        latency_on_margin_with_one_arm_noise,
    ),
    "latency, typical and tail": (
        rules(metric("latency", "+10%", tails=(Tail(quantile=0.95, margin=0.1),)), dependence_seconds=0.5, **TWENTY),
        latency_on_margin_with_noise_of_either_arm,
    ),
    "loss": (rules(metric("loss", "0.01 loss")), loss_on_margin),
}


@pytest.mark.parametrize(("some", "draw"), ON_MARGIN.values(), ids=ON_MARGIN.keys())
def test_on_the_margin_both_verdicts_are_as_rare_as_promised(some: Rules, draw: Draw) -> None:
    found = verdicts(some, draw)
    assert found[Verdict.FAIL] <= most(ALPHA), found
    assert found[Verdict.PASS] <= most(BETA), found


def test_noise_that_lasts_three_times_longer_than_declared_costs_little() -> None:
    some = rules(LATENCY, dependence_seconds=0.5, **TWENTY)
    found = verdicts(some, latency_on_margin_with_noise_thrice_as_long)
    assert found[Verdict.FAIL] <= most(2 * ALPHA), found
    assert found[Verdict.PASS] <= most(BETA), found


def scrapes(rng: np.random.Generator, n: int, *, slope: float = 0.0, level: float = 0.0) -> tuple[Floats, Floats]:
    """A gauge read every 5 s on either side: both drift together, each has noise of four scrapes, canary may leak."""
    common = np.linspace(0, 0.3, n) + lasting(rng, n, pairs_long=24, spread=0.1)
    stable, canary = (common + lasting(rng, n, pairs_long=4, spread=0.05) for _ in range(2))
    return np.exp(stable), np.exp(canary + level + slope * np.arange(n) * 5 / 3600)


def gauge_shows_harm(readings: tuple[Floats, Floats]) -> bool:
    """Whether blocks of a minute show, at any look, that the canary is above its margin of 10 %."""
    n = len(readings[0])
    evidence, shown = RatioEvidence(margin=0.1, block_pairs=12, horizon_pairs=n), False
    for look, (stable, canary) in enumerate(zip(*(np.split(side, n // 24) for side in readings), strict=True)):
        evidence.fold(stable, canary)
        shown |= evidence.log_harm() >= math.log(1 / ALPHA)
        if look % 2:
            evidence.start()
    return shown


def test_a_leak_is_found_and_a_gauge_on_its_margin_is_not_blamed() -> None:
    an_hour = 720
    on_margin = (scrapes(np.random.default_rng([4, i]), an_hour, level=math.log(1.1)) for i in range(TRIALS))
    assert sum(map(gauge_shows_harm, on_margin)) <= most(ALPHA)
    leaks = (scrapes(np.random.default_rng([5, i]), an_hour, slope=0.5) for i in range(60))
    assert sum(map(gauge_shows_harm, leaks)) >= 57


def test_several_metrics_on_their_margins_share_one_budget() -> None:
    # errors turn one in a hundred answers wrong as well, so accuracy gets room for them
    some = rules(metric("accuracy", "2pp"), ERRORS, LATENCY)
    found = verdicts(some, all_on_margin)
    assert found[Verdict.FAIL] <= most(ALPHA), found
    assert found[Verdict.PASS] <= most(BETA), found


def identical(rng: np.random.Generator, n: int) -> Batch:
    return pairs(n, **paired_wrong(rng, n, 0.0, base=0.01), **seconds(rng, n, 0.0))


def test_an_identical_canary_is_promoted_and_never_rolled_back() -> None:
    found = verdicts(rules(metric("accuracy", "1.5pp"), ERRORS, LATENCY), identical)
    assert found[Verdict.FAIL] == 0
    assert found[Verdict.PASS] >= 0.95 * TRIALS, found


@pytest.mark.parametrize(
    ("draw", "n"),
    [
        (lambda rng, n: pairs(n, **paired_wrong(rng, n, 0.05), **seconds(rng, n, 0.0)), 2000),
        (lambda rng, n: pairs(n, **paired_wrong(rng, n, 0.0), **seconds(rng, n, 0.3)), 1000),
        (lambda rng, n: pairs(n, **seconds(rng, n, 0.0), canary_status=6 * (rng.random(n) < 0.05)), 2000),
    ],
    ids=["5 pp more wrong", "1.3 times slower", "5 % failing"],
)
def test_a_harmful_canary_is_rolled_back_soon(draw: Draw, n: int) -> None:
    found = verdicts(rules(ACCURACY, ERRORS, metric("latency", "+15%")), draw, n=n, trials=100)
    assert found[Verdict.FAIL] >= 95, found
    assert found[Verdict.PASS] <= 1, found


def test_harm_that_begins_late_is_found_soon_after() -> None:
    def late(rng: np.random.Generator, n: int) -> Batch:
        good, bad = paired_wrong(rng, n // 2, 0.0), paired_wrong(rng, n - n // 2, 0.05)
        return pairs(n, **{side: np.concatenate([good[side], bad[side]]) for side in good})

    some = rules(metric("accuracy", "1pp", Role.GUARDRAIL), horizon_pairs=20_000)
    found = verdicts(some, late, n=8000, trials=60)
    assert found[Verdict.FAIL] >= 57, found


def coverings() -> Iterator[tuple[str, Callable[[np.random.Generator], bool]]]:
    """Whether an interval held the truth at every one of its looks."""

    def counts(rng: np.random.Generator) -> bool:
        evidence, held = CountEvidence(absolute=0.01), True
        for _ in range(8):
            drawn = paired_wrong(rng, LOOK_EVERY, 0.02)
            evidence.fold(drawn["stable_wrong"], drawn["canary_wrong"])
            low, high = evidence.interval(0.025)
            held &= low <= 0.02 <= high  # type: ignore[operator]
        return held

    def ratio(rng: np.random.Generator) -> bool:
        evidence, held = RatioEvidence(margin=0.1), True
        for _ in range(8):
            drawn = seconds(rng, LOOK_EVERY, 0.2)
            evidence.fold(drawn["stable_seconds"], drawn["canary_seconds"])
            low, high = evidence.interval(0.025)
            held &= (low is None or low <= 0.2) and (high is None or high >= 0.2)
        return held

    def losses(rng: np.random.Generator) -> bool:
        evidence, held = BoundedEvidence(absolute=0.01), True
        for _ in range(8):
            stable = 0.1 + rng.random(LOOK_EVERY) * 0.5
            evidence.fold(stable, stable + rng.choice([-0.1, 0.0, 0.13], LOOK_EVERY))
            low, high = evidence.interval(0.025)
            held &= low <= 0.01 <= high  # type: ignore[operator]
        return held

    yield from {"counts": counts, "ratio": ratio, "losses": losses}.items()


@pytest.mark.parametrize("holds", [each for _, each in coverings()], ids=[name for name, _ in coverings()])
def test_intervals_hold_the_truth_at_all_looks_together(holds: Callable[[np.random.Generator], bool]) -> None:
    missed = sum(not holds(np.random.default_rng([2, trial])) for trial in range(TRIALS))
    assert missed <= most(0.05)
