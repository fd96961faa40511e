"""Setting a sick server aside, and coming back to it, keeps both promises on the margin."""

from collections.abc import Callable

import numpy as np

from haldane.domain.evidence import Verdict
from haldane.domain.traffic import Batch, Status
from haldane.judge.analysis import Analysis
from haldane.judge.first import without_baseline
from haldane.judge.limit import parse_limits
from haldane.testing.chance import most
from haldane.testing.pairs import metric, pairs, rules

TRIALS, PAIRS, EACH = 300, 3000, 100
MARGIN = 0.01
RULES = rules(metric("errors", "1pp"))


def failures(rng: np.random.Generator, share: np.ndarray) -> np.ndarray:
    return np.where(rng.random(len(share)) < share, int(Status.INTERNAL), int(Status.OK))


def on_the_margin(rng: np.random.Generator) -> Batch:
    """Three servers; one falls sick for a while, more than once, and canary is worse by the margin all along."""
    server = np.arange(PAIRS) % 3
    sick = np.zeros(PAIRS, bool)
    for start in rng.integers(0, PAIRS, 3):
        sick[start : start + 500] = True
    stable = np.where(sick & (server == 2), 0.6, 0.01)
    return pairs(
        PAIRS,
        server=server,
        stable_status=failures(rng, stable),
        canary_status=failures(rng, stable + MARGIN),
    )


def test_on_the_margin_a_sick_server_brings_no_verdict_about(record_property: Callable[[str, object], None]) -> None:
    counts, aside = dict.fromkeys(Verdict, 0), 0
    for seed in range(TRIALS):
        analysis = Analysis(RULES)
        for batch in np.split(on_the_margin(np.random.default_rng(seed)), range(EACH, PAIRS, EACH)):
            analysis.fold(batch)
        counts[analysis.hearing.verdict] += 1
        aside += any(book.aside for book in analysis.health.replicas.values())
    told = f"{counts[Verdict.FAIL]} withdrawn, {counts[Verdict.PASS]} passed"
    record_property("summary", f"on the margin beside a sick server: {told} of {TRIALS}")
    assert aside > 0.9 * TRIALS  # it is what is being tried
    assert counts[Verdict.FAIL] <= most(RULES.alpha)
    assert counts[Verdict.PASS] <= most(RULES.beta)


def test_a_first_version_exactly_at_its_limit_seldom_passes_and_is_seldom_withdrawn(
    record_property: Callable[[str, object], None],
) -> None:
    first = without_baseline(rules(limits=parse_limits("2%", "errors")))
    counts = dict.fromkeys(Verdict, 0)
    for seed in range(TRIALS):
        rng, analysis = np.random.default_rng(seed), Analysis(first)
        status = failures(rng, np.full(PAIRS, 0.02))
        log = pairs(PAIRS, stable_status=status, canary_status=status)
        for batch in np.split(log, range(EACH, PAIRS, EACH)):
            analysis.fold(batch)
        counts[analysis.hearing.verdict] += 1
    told = f"{counts[Verdict.FAIL]} withdrawn, {counts[Verdict.PASS]} passed"
    record_property("summary", f"a first version at its limit: {told} of {TRIALS}")
    assert counts[Verdict.FAIL] <= most(first.alpha)
    assert counts[Verdict.PASS] <= most(first.beta)
