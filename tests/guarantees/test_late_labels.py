"""Labels that come later change when a verdict is given, not how often it is wrong."""

from collections import Counter

import numpy as np
import pytest
from tests.guarantees.test_judge import ALPHA, BETA, LOOK_EVERY, TRIALS, most, paired_wrong

from haldane.domain.entries import LABEL_DTYPE, Entry
from haldane.domain.evidence import Verdict
from haldane.judge.analysis import Analysis
from haldane.testing.pairs import metric, pairs, rules

MARGIN = 0.02
RULES = rules(metric("errors", "2pp"), metric("accuracy", "2pp"), late_labels=True)


def stream(rng: np.random.Generator, worse: float, n: int) -> list[Entry]:
    """Batches of pairs, each followed by what labels have come until then; a third never comes."""
    truth, request = paired_wrong(rng, n, worse), 1 + np.arange(n)
    comes = np.arange(n) + rng.exponential(n / 4, n)
    comes[rng.random(n) < 1 / 3] = np.inf
    batch = pairs(n, request=request, stable_wrong=np.nan, canary_wrong=np.nan)
    entries: list[Entry] = []
    for first in range(0, 2 * n, LOOK_EVERY):
        entries.append(batch[first : first + LOOK_EVERY])
        due = (comes >= first) & (comes < first + LOOK_EVERY)
        late = np.zeros(np.count_nonzero(due), LABEL_DTYPE)
        late["request"], late["at"] = request[due], 0.01 * (first + LOOK_EVERY)
        late["stable_wrong"], late["canary_wrong"] = truth["stable_wrong"][due], truth["canary_wrong"][due]
        late["stable_loss"] = late["canary_loss"] = np.nan
        entries.append(late)
    return entries


def verdicts(worse: float, *, n: int = 3000) -> Counter[Verdict]:
    """How the trials ended: FAIL stands over a PASS given before, as a promotion is taken back."""
    found: Counter[Verdict] = Counter()
    for trial in range(TRIALS):
        analysis = Analysis(RULES)
        passed = False
        for entry in stream(np.random.default_rng([11, trial]), worse, n):
            analysis.fold(entry)
            passed = passed or analysis.hearing.verdict is Verdict.PASS
            if analysis.hearing.verdict is Verdict.FAIL:
                break
        found[analysis.hearing.verdict] += 1
        found["passed"] += passed  # type: ignore[index]
    return found


@pytest.fixture(scope="module")
def on_the_margin() -> Counter[Verdict]:
    return verdicts(MARGIN)


def test_on_the_margin_a_promotion_is_hardly_ever_taken_back(on_the_margin: Counter[Verdict]) -> None:
    assert on_the_margin[Verdict.FAIL] <= most(ALPHA)


def test_on_the_margin_little_is_promoted(on_the_margin: Counter[Verdict]) -> None:
    assert on_the_margin["passed"] <= most(BETA)  # type: ignore[index]


def test_harm_is_found_as_its_labels_come() -> None:
    assert verdicts(MARGIN + 0.05)[Verdict.FAIL] >= 0.98 * TRIALS
