"""When a promotion may be taken back, and what servers should hold then."""

from typing import Any

import pytest

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import Clients, ModelName, Placement, ServerName
from haldane.domain.rollout import Looked, Mode, Phase, Progress, Rollout, RolloutId
from haldane.rollout.machine import step
from haldane.rollout.planner import next_step
from haldane.rollout.revert import refusal, revert
from haldane.rollout.wanted import Watched, compose
from haldane.testing.builders import MODEL, a_config, a_rollout, a_view

R0, R1 = ServerName("r0"), ServerName("r1")
PROMOTED = a_rollout(Phase.SUCCEEDED, promoted=(R0, R1), verdict=Verdict.PASS)


@pytest.mark.parametrize(
    ("promoted", "stable", "live", "says"),
    [
        ({}, 2, (), ""),
        ({}, 2, (a_rollout(Phase.HELD, model=ModelName("other")),), ""),
        ({}, 2, (a_rollout(Phase.HELD, id=RolloutId("next")),), "rollout next of this model is HELD"),
        ({}, 3, (), "version 2 is not stable any more"),
        ({}, None, (), "version 2 is not stable any more"),
        ({"phase": Phase.ROLLED_BACK}, 2, (), "promoted nothing"),
        ({"phase": Phase.BAKING}, 2, (), "promoted nothing"),
        ({"mode": Mode.OBSERVE}, 2, (), "promoted nothing"),
        ({"reverts": RolloutId("first")}, 2, (), "promoted nothing"),
        ({"old": 2}, 2, (), "there is none to go back to"),
    ],
)
def test_a_promotion_is_taken_back_only_where_it_still_stands_alone(
    promoted: dict[str, Any], stable: int | None, live: tuple[Rollout, ...], says: str
) -> None:
    rollout = a_rollout(**{"phase": Phase.SUCCEEDED, **promoted})
    found = refusal(rollout, stable=stable, live=live)
    assert says in found
    assert bool(found) == bool(says)


def test_a_revert_begins_with_its_rollback_and_ends_with_the_old_version_stable() -> None:
    made = revert(PROMOTED, at=7.0, why="labels show harm")
    assert (made.phase, made.started_at, made.phase_since, made.verdict) == (Phase.ROLLING_BACK, 7.0, 7.0, Verdict.FAIL)
    assert (made.id, made.reverts, made.promoted) == ("credit-2-test-revert", "credit-2-test", ())
    done = step(made, Looked(8.0, {R0: Progress.SETTLED, R1: Progress.SETTLED})).after
    assert (done.phase, done.settles, made.settles) == (Phase.ROLLED_BACK, 1, None)


def test_a_revert_has_time_to_load_the_old_version_before_it_counts_as_stuck() -> None:
    made = revert(PROMOTED, at=0.0, why="labels show harm")
    behind = {R0: Progress.BEHIND, R1: Progress.SETTLED}
    plan = PROMOTED.plan
    assert step(made, Looked(plan.load_seconds, behind)).after.phase is Phase.ROLLING_BACK
    assert step(made, Looked(plan.load_seconds + plan.change_seconds, behind)).after.phase is Phase.STUCK


def test_only_a_revert_moves_stable_when_it_is_rolled_back() -> None:
    assert a_rollout(Phase.ROLLED_BACK).settles is None
    assert a_rollout(Phase.SUCCEEDED).settles == 2


def test_the_bad_version_serves_until_the_good_one_is_loaded_proven_and_labelled() -> None:
    watched = {MODEL: Watched(2, Clients.LABEL)}
    wanted = compose(a_config(), watched, [revert(PROMOTED, at=7.0, why="harm")], R0)
    seen = [
        a_view(2, labels={"stable": 2}),
        a_view(1, 2, labels={"stable": 2}, proven=(2,)),
        a_view(1, 2, labels={"stable": 2}),
        a_view(1, 2, labels={"stable": 1}),
        a_view(1, labels={"stable": 1}),
    ]
    steps = [next_step(wanted, view, watched) for view in seen]
    asked = [step.config.entry(MODEL) for step in steps]
    assert [(entry.versions, entry.labels["stable"]) for entry in asked if entry] == [
        ((1, 2), 2),
        ((1, 2), 2),
        ((1,), 1),
        ((1,), 1),
        ((1,), 1),
    ]
    assert [step.settled for step in steps] == [False, False, False, False, True]


def test_canary_servers_of_unversioned_clients_go_back_to_the_old_version_too() -> None:
    own = a_rollout(
        Phase.SUCCEEDED, clients=Clients.UNVERSIONED, placement=Placement.OWN_REPLICAS, dedicated=(R1,), promoted=(R0,)
    )
    watched = {MODEL: Watched(2, Clients.UNVERSIONED)}
    for server in (R0, R1):
        entry = compose(a_config(), watched, [revert(own, at=7.0, why="harm")], server).entry(MODEL)
        assert entry is not None
        assert entry.versions == (1,)
