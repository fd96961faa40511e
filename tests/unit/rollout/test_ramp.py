"""Steps of traffic: when the next one is due, what a share wants, and what holds or ends them."""

from dataclasses import replace

import pytest

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import Clients, ModelName, Placement, ServerName
from haldane.domain.rollout import Command, CommandKind, Judged, Looked, Mode, Phase, Plan, Progress, Rollout
from haldane.rollout.invariants import InvariantBroken, check_share
from haldane.rollout.machine import step
from haldane.rollout.ramp import GatewayView, gateway_progress, taken, wanted_of, wanted_share
from haldane.rollout.revert import revert
from haldane.rollout.wanted import Watched, compose
from haldane.testing.builders import MODEL, a_config, a_rollout

R0, R1, CANARY = ServerName("r0"), ServerName("r1"), ServerName("c")
PLAN = Plan(traffic_steps=(0.1, 1.0), step_seconds=60, step_pairs=100, step_budget_seconds=600, change_seconds=120)


def a_ramp(phase: Phase = Phase.RAMPING, **fields: object) -> Rollout:
    values = {"servers": (R0, R1, CANARY), "dedicated": (CANARY,), "plan": PLAN, "verdict": Verdict.PASS}
    return a_rollout(phase, placement=Placement.OWN_REPLICAS, **{**values, **fields})


def looked(gateway: Progress = Progress.SETTLED, at: float = 1.0, canary: Progress = Progress.SETTLED) -> Looked:
    servers = {R0: Progress.SETTLED, R1: Progress.SETTLED, CANARY: canary}
    return Looked(at, servers, {CANARY: "broken"}, gateway=gateway, gateway_detail="gateway g: away")


def judged(pairs: int, at: float, verdict: Verdict = Verdict.PASS) -> Judged:
    return Judged(at, verdict, "because", pairs)


def command(kind: CommandKind) -> Command:
    return Command(1.0, kind, by="ada", why="asked")


def through(rollout: Rollout, *events: Looked | Judged | Command) -> Rollout:
    for event in events:
        rollout = step(rollout, event).after
    return rollout


def test_a_pass_begins_the_steps_with_the_canarys_servers_and_no_user_yet() -> None:
    begun = through(a_ramp(Phase.SHADOWING, verdict=Verdict.CONTINUE), judged(500, 1.0))
    assert (begun.phase, begun.promoted, begun.step, wanted_share(begun)) == (Phase.RAMPING, (CANARY,), 0, 0.0)


def test_the_whole_way() -> None:
    rollout = a_ramp(Phase.SHADOWING, verdict=Verdict.CONTINUE)
    wanted = []
    for event in (
        judged(500, 0.0),
        looked(at=1.0),  # the canary's servers give users the new version: first step
        looked(at=2.0),  # it is seen to be taken
        judged(510, 3.0),
        judged(610, 62.0),  # its time and its pairs: second step
        looked(at=63.0),
        judged(611, 64.0),
        judged(711, 123.0),  # all steps taken: the other servers, one by one
        looked(at=124.0),
        looked(at=125.0),
        looked(at=126.0),
    ):
        rollout = step(rollout, event).after
        wanted.append((rollout.phase, wanted_share(rollout), len(rollout.promoted)))
    assert wanted == [
        (Phase.RAMPING, 0.0, 1),
        *[(Phase.RAMPING, 0.1, 1)] * 3,
        *[(Phase.RAMPING, 1.0, 1)] * 3,
        (Phase.PROMOTING, 1.0, 2),
        (Phase.PROMOTING, 1.0, 3),
        *[(Phase.BAKING, 0.0, 3)] * 2,
    ]


ON = a_ramp(promoted=(CANARY,), step=1, step_at=0.0, step_from=500, phase_since=0.0)


@pytest.mark.parametrize(
    ("event", "then"),
    [
        (judged(600, 60.0), (Phase.RAMPING, 2)),
        (judged(599, 60.0), (Phase.RAMPING, 1)),
        (judged(600, 59.0), (Phase.RAMPING, 1)),
        (judged(600, 60.0, Verdict.CONTINUE), (Phase.RAMPING, 1)),
        (judged(600, 60.0, Verdict.FAIL), (Phase.ROLLING_BACK, 0)),
        (judged(501, 1.0, Verdict.FAIL), (Phase.ROLLING_BACK, 0)),
        (judged(599, 600.0), (Phase.HELD, 1)),
        (judged(900, 600.0, Verdict.CONTINUE), (Phase.HELD, 1)),
        (looked(canary=Progress.FAILED), (Phase.ROLLING_BACK, 0)),
        (looked(Progress.UNSEEN, at=1e4), (Phase.RAMPING, 1)),
        (command(CommandKind.PAUSE), (Phase.HELD, 1)),
        (command(CommandKind.PROMOTE), (Phase.PROMOTING, 1)),
        (command(CommandKind.ABORT), (Phase.ROLLING_BACK, 0)),
    ],
)
def test_at_a_step(event: Looked | Judged | Command, then: tuple[Phase, int]) -> None:
    after = step(ON, event).after
    assert (after.phase, after.step) == then
    assert wanted_share(after) == (0.0 if after.phase is Phase.ROLLING_BACK else PLAN.traffic_steps[after.step - 1])


def test_a_freeze_keeps_the_share_as_it_is_however_long_it_lasts() -> None:
    for at in (60.0, 1e5):
        frozen = step(ON, replace(judged(600, at), frozen="frozen until Monday")).after
        assert (frozen.phase, frozen.step, frozen.why) == (Phase.RAMPING, 1, "the step is done; frozen until Monday")
        assert step(frozen, judged(600, at)).after.step == 2
    assert step(ON, replace(judged(600, 60.0, Verdict.FAIL), frozen="frozen")).after.phase is Phase.ROLLING_BACK


def test_what_a_person_promoted_without_a_proof_goes_on_without_one_and_comes_back_on_harm() -> None:
    by_person = replace(ON, verdict=Verdict.CONTINUE)
    assert step(by_person, judged(600, 60.0, Verdict.CONTINUE)).after.step == 2
    assert step(by_person, judged(600, 60.0, Verdict.FAIL)).after.phase is Phase.ROLLING_BACK


def test_a_share_that_is_lost_begins_the_step_anew_and_then_holds() -> None:
    lost = step(ON, looked(Progress.BEHIND, at=500.0)).after
    assert (lost.phase, lost.step, lost.step_at, lost.phase_since) == (Phase.RAMPING, 1, None, 500.0)
    assert "gateway g: away" in lost.why
    assert step(lost, judged(10_000, 510.0)).after == lost
    assert step(lost, looked(Progress.BEHIND, at=619.0)).after.phase is Phase.RAMPING
    held = step(lost, looked(Progress.BEHIND, at=620.0)).after
    assert (held.phase, wanted_share(held)) == (Phase.HELD, 0.1)


def test_a_step_that_was_held_has_to_be_seen_anew() -> None:
    resumed = through(ON, command(CommandKind.PAUSE), command(CommandKind.RESUME))
    assert (resumed.phase, resumed.step, resumed.step_at, resumed.step_from) == (Phase.RAMPING, 1, None, None)


def test_a_gateway_that_is_away_never_lets_a_rollout_begin_or_end() -> None:
    assert step(a_ramp(Phase.PENDING), looked(Progress.UNSEEN)).after.phase is Phase.PENDING
    assert step(a_ramp(Phase.BAKING), looked(Progress.UNSEEN, at=1e6)).after.phase is Phase.BAKING
    assert step(a_ramp(Phase.ROLLING_BACK), looked(Progress.UNSEEN)).after.phase is Phase.ROLLING_BACK
    stuck = step(a_ramp(Phase.ROLLING_BACK), looked(Progress.UNSEEN, at=1e6)).after
    assert (stuck.phase, stuck.why) == (Phase.STUCK, "a gateway cannot be turned back: gateway g: away")
    assert step(stuck, looked()).after.phase is Phase.ROLLED_BACK


def test_without_steps_a_pass_promotes_as_ever() -> None:
    plain = a_rollout(Phase.SHADOWING)
    assert step(plain, judged(500, 1.0)).after.phase is Phase.PROMOTING
    assert gateway_progress(plain, {}) == (Progress.SETTLED, "")


def test_observe_mode_takes_no_step() -> None:
    held = step(a_ramp(Phase.SHADOWING, mode=Mode.OBSERVE), judged(500, 1.0)).after
    assert (held.phase, wanted_share(held)) == (Phase.HELD, 0.0)


@pytest.mark.parametrize("clients", Clients)
def test_users_own_address_means_the_new_version_on_the_canarys_servers_only(clients: Clients) -> None:
    ramp = a_ramp(clients=clients, promoted=(CANARY,))
    watched = {ModelName(MODEL): Watched(1, clients)}
    canary, other = (compose(a_config(), watched, [ramp], name).models[0] for name in (CANARY, R0))
    if clients is Clients.LABEL:
        assert (canary.labels["stable"], other.labels["stable"]) == (2, 1)
    else:
        assert (max(canary.versions), max(other.versions)) == (2, 1)


def test_a_revert_has_no_steps_and_leaves_the_gateways_to_others() -> None:
    back = revert(a_ramp(Phase.SUCCEEDED, step=2, step_at=1.0, step_from=3), at=1.0, why="harm")
    assert (back.plan.traffic_steps, back.step, wanted_of([back])) == ((), 0, None)


@pytest.mark.parametrize(
    ("wanted", "seen", "is_taken"),
    [
        (0.0, 0.0, True),
        (0.0, 0.001, False),
        (1.0, 1.0, True),
        (1.0, 0.99, False),
        (0.1, 0.109, True),
        (0.1, 0.091, True),
        (0.1, 0.12, False),
        (0.1, 0.0, False),
    ],
)
def test_a_share_is_taken_when_it_is_near_and_none_and_all_exactly(wanted: float, seen: float, is_taken: bool) -> None:
    assert taken(wanted, seen) is is_taken


@pytest.mark.parametrize(
    ("seen", "what", "says"),
    [
        ({"g": GatewayView(0.1)}, Progress.SETTLED, ""),
        ({"g": GatewayView(0.1), "h": GatewayView(0.5)}, Progress.BEHIND, "gateway h: sends 50 % to the canary"),
        ({"g": GatewayView(0.0, "it said no")}, Progress.BEHIND, "not 10 % (it said no)"),
        ({"g": GatewayView(None, "no answer")}, Progress.UNSEEN, "gateway g: no answer"),
        ({}, Progress.UNSEEN, "the config has none any more"),
    ],
)
def test_every_gateway_must_have_taken_the_share(seen: dict[str, GatewayView], what: Progress, says: str) -> None:
    found, why = gateway_progress(ON, seen)
    assert found is what
    assert says in why


def test_no_order_to_a_gateway_rests_on_less_than_a_step_that_was_ordered() -> None:
    check_share(0.0, [])
    check_share(0.1, [ON])
    check_share(0.1, [replace(ON, phase=Phase.HELD, held_from=Phase.RAMPING)])
    for rollouts in (
        [],
        [replace(ON, step=0)],
        [replace(ON, phase=Phase.SHADOWING)],
        [replace(ON, phase=Phase.ROLLING_BACK)],
        [replace(ON, verdict=Verdict.FAIL)],
        [replace(ON, mode=Mode.OBSERVE)],
    ):
        with pytest.raises(InvariantBroken, match=r"10.00% of users' calls"):
            check_share(0.1, rollouts)
    with pytest.raises(InvariantBroken):
        check_share(1.0, [ON])


def test_a_canary_server_that_joins_takes_the_new_version_for_users_and_the_step_waits_for_it() -> None:
    late = ServerName("late")
    seen = replace(looked(at=100.0), joined=(late,), dedicated=(late,))
    joined = step(ON, seen).after
    assert (joined.promoted, joined.step, joined.step_at) == ((CANARY, late), 1, None)
    everybody = {**looked().progress, late: Progress.SETTLED}
    assert step(joined, replace(looked(at=101.0), progress=everybody)).after.step_at == 101.0


def test_servers_that_are_all_gone_do_not_end_a_rollback_while_the_gateway_still_sends_users() -> None:
    left = frozenset((R0, R1, CANARY))
    back = step(a_ramp(Phase.ROLLING_BACK), replace(looked(Progress.BEHIND), gone=left)).after
    assert (back.phase, back.present) == (Phase.ROLLING_BACK, ())
    assert step(back, replace(looked(), progress={})).after.phase is Phase.ROLLED_BACK


@pytest.mark.parametrize("behind", [looked(canary=Progress.BEHIND), looked(Progress.BEHIND), looked(Progress.UNSEEN)])
def test_the_first_step_waits_until_the_canarys_servers_give_users_the_new_version(behind: Looked) -> None:
    ready = a_ramp(promoted=(CANARY,))
    assert step(ready, behind).after.step == 0
    assert step(ready, looked()).after.step == 1
