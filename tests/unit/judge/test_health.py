"""Sick stable, sick replica, sick version: told apart, and none of them a pass."""

import pickle
from typing import Any

import numpy as np
import pytest

from haldane.domain.evidence import Ruling, State, Verdict
from haldane.domain.traffic import Batch, Status
from haldane.judge.analysis import Analysis
from haldane.judge.health import Health
from haldane.testing.pairs import metric, pairs, rules

OK, INTERNAL, INVALID, UNAVAILABLE = (
    int(status) for status in (Status.OK, Status.INTERNAL, Status.INVALID, Status.UNAVAILABLE)
)
NAMES = ("r1", "r2", "r3")


def failing(n: int, share: float, seed: int) -> Any:
    return np.where(np.random.default_rng(seed).random(n) < share, INTERNAL, OK)


def over(servers: int, n: int, *, sick: int = -1, first: int = 0, **columns: Any) -> Batch:
    """Pairs in turn over servers; `columns` hold on the sick one only."""
    batch = pairs(n, first=first, server=np.arange(n) % servers)
    for name, values in columns.items():
        batch[name] = np.where(batch["server"] == sick, values, batch[name])
    return batch


def judged(batches: list[Batch], *metrics: Any) -> tuple[Analysis, Ruling]:
    analysis = Analysis(rules(*metrics), NAMES)
    for batch in batches:
        analysis.fold(batch)
    return analysis, analysis.ruling(1.0)


def test_nothing_passes_while_stable_itself_fails_even_a_flawless_canary() -> None:
    _, ruling = judged(np.array_split(pairs(3000, stable_status=failing(3000, 0.5, 1)), 30))
    assert ruling.verdict is Verdict.CONTINUE
    assert "nothing is promoted against a sick baseline" in ruling.why
    assert "(limit 10 %)" in ruling.why
    assert ruling.stable_fails


def test_stable_answering_at_its_deadline_only_is_sick() -> None:
    late = pairs(3000, stable_status=int(Status.TIMEOUT), stable_seconds=5.0)
    assert "sick baseline" in judged(np.array_split(late, 30))[1].why


def test_it_passes_once_stable_is_well_again() -> None:
    sick = pairs(200, stable_status=INTERNAL, canary_status=INTERNAL)
    _, ruling = judged([sick, *np.array_split(pairs(3000, first=200), 30)])
    assert ruling.verdict is Verdict.PASS


def test_a_canary_worse_than_a_sick_stable_is_still_rolled_back() -> None:
    batch = pairs(3000, stable_status=failing(3000, 0.2, 1), canary_status=failing(3000, 0.6, 2))
    assert judged(np.array_split(batch, 30))[1].verdict is Verdict.FAIL


def test_a_few_failures_of_stable_veto_nothing() -> None:
    _, ruling = judged(np.array_split(pairs(3000, stable_status=failing(3000, 0.03, 1)), 30))
    assert ruling.verdict is Verdict.PASS


def test_requests_that_both_sides_refuse_are_no_illness() -> None:
    health = Health(0.1)
    health.admit(pairs(500, stable_status=INVALID, canary_status=INVALID))
    assert health.doubts() == ()


def test_a_replica_that_fails_on_both_sides_is_set_aside_and_the_rest_is_judged() -> None:
    dead = {"stable_status": UNAVAILABLE, "canary_status": UNAVAILABLE}
    analysis, ruling = judged(np.array_split(over(2, 4000, sick=1, **dead), 40))
    assert ruling.set_aside == ("r2",)
    assert not ruling.stable_fails
    assert ruling.verdict is Verdict.PASS
    assert any(note.startswith("r2 is set aside as sick since pair") for note in analysis.health.notes())


def test_harm_that_only_a_sick_replica_shows_is_not_the_versions() -> None:
    """Once stable is known to fail there, whatever the canary does there is no ground for a verdict."""
    n = 6000
    canary = np.where(np.arange(n) < 300, INTERNAL, failing(n, 0.9, 2))
    batch = over(3, n, sick=2, stable_status=np.where(np.arange(n) < 300, INTERNAL, failing(n, 0.4, 1)))
    batch["canary_status"] = np.where(batch["server"] == 2, canary, OK)
    analysis, ruling = judged(np.array_split(batch, 120))
    assert ruling.verdict is Verdict.PASS
    assert analysis.tally.pairs < 4200


def test_what_is_set_aside_is_decided_before_the_batch_is_seen() -> None:
    health = Health(0.1)
    first = over(2, 100, sick=1, stable_status=INTERNAL)
    assert len(health.admit(first)) == 100
    assert set(health.admit(over(2, 100, first=100))["server"]) == {0}


def test_a_replica_that_is_well_again_is_judged_again() -> None:
    health = Health(0.1, NAMES)
    health.admit(over(2, 200, sick=1, stable_status=INTERNAL))
    health.admit(over(2, 200, first=200))
    assert health.aside == ()
    assert health.notes() == ("r2 was set aside as sick for a time; 100 pairs not judged",)


def test_a_replica_that_disagrees_with_itself_is_set_aside() -> None:
    health = Health(0.1, NAMES)
    for turn in range(20):
        servers = np.arange(100) % 2
        health.admit(pairs(100, first=100 * turn, server=servers, aa=True, disagrees=servers == 1))
    assert health.aside == (1,)
    assert health.doubts() == ()
    assert "stable differs from itself there" in health.notes()[0]


def test_stable_that_differs_from_itself_everywhere_is_the_models_own_noise() -> None:
    health = Health(0.1)
    health.admit(pairs(500, server=np.arange(500) % 2, aa=True, disagrees=1.0))
    assert health.aside == ()
    assert health.doubts() == ()


@pytest.mark.parametrize("share", [0.12, 0.2, 0.4])
@pytest.mark.parametrize("what", ["disagrees", "stable_status"])
def test_what_happens_on_every_server_sets_none_of_them_aside(what: str, share: float) -> None:
    """Not even for a while, when one of them happens to show it first."""
    health, rng = Health(0.1), np.random.default_rng(5)
    for turn in range(100):
        batch = pairs(50, first=50 * turn, server=np.arange(50) % 3, aa=True)
        batch[what] = rng.random(50) < share
        health.admit(batch)
        assert health.aside == ()


def test_two_of_ten_servers_that_fail_are_set_aside() -> None:
    health = Health(0.1)
    batch = pairs(1000, server=np.arange(1000) % 10)
    batch["stable_status"] = np.where(batch["server"] < 2, INTERNAL, OK)
    for part in np.array_split(batch, 20):
        health.admit(part)
    assert health.aside == (0, 1)


def test_when_every_replica_is_sick_it_is_the_baseline() -> None:
    health = Health(0.1)
    health.admit(pairs(400, server=np.arange(400) % 2, stable_status=INTERNAL))
    assert health.aside == ()
    assert len(health.doubts()) == 1


def test_a_canary_that_fails_on_one_replica_only_is_judged_and_the_replica_named() -> None:
    batch = over(3, 3000, sick=1, canary_status=failing(3000, 0.3, 1))
    analysis, ruling = judged(np.array_split(batch, 30))
    assert ruling.verdict is Verdict.FAIL
    assert analysis.health.aside == ()
    assert any(note.startswith("the canary fails on r2 above all") for note in analysis.health.notes())


@pytest.mark.parametrize("slow", [1.4, 0.7])
def test_replicas_whose_latency_ratios_differ_are_told_apart(slow: float) -> None:
    health = Health(0.1, NAMES)
    health.admit(over(2, 2000, sick=1, canary_seconds=0.01 * slow))
    (note,) = health.notes()
    assert note == f"typical latency relative to stable differs by replica: r1 +0 %, r2 {100 * (slow - 1):+.0f} %"


def test_the_books_stay_small_and_resume_bit_for_bit() -> None:
    health = Health(0.1, NAMES)
    batches = [over(3, 500, sick=1, first=500 * i, stable_status=failing(500, 0.2, i)) for i in range(20)]
    for batch in batches[:10]:
        health.admit(batch)
    stored = pickle.dumps(health)
    resumed = pickle.loads(stored)
    for batch in batches[10:]:
        np.testing.assert_array_equal(health.admit(batch)["seq"], resumed.admit(batch)["seq"])
    assert health.notes() == resumed.notes()
    assert len(stored) < 3 * 2000 + 2000


def test_the_veto_is_told_without_a_metric_that_could_tell_it() -> None:
    """Latency alone would see nothing of it: what failed has no latency."""
    batch = pairs(3000, stable_status=failing(3000, 0.5, 1))
    _, ruling = judged(np.array_split(batch, 30), metric("latency", "+10%"))
    assert ruling.verdict is not Verdict.PASS
    assert {finding.state for finding in ruling.findings} == {State.HARMLESS}
