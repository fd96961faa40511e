"""Servers that come and go during a rollout: who is waited for, and what that must never do."""

import pytest

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import Placement, ServerName
from haldane.domain.rollout import Judged, Looked, Mode, Phase, Plan, Progress, Rollout
from haldane.rollout.machine import step
from haldane.testing.builders import a_rollout

R0, R1, R2 = (ServerName(name) for name in ("r0", "r1", "r2"))
SETTLED, BEHIND, UNSEEN = Progress.SETTLED, Progress.BEHIND, Progress.UNSEEN
PASS = Judged(1.0, Verdict.PASS, "proven")


def looked(at: float = 1.0, *, joined: tuple[ServerName, ...] = (), gone: tuple[ServerName, ...] = (), **progress):
    told = {R0: SETTLED, R1: SETTLED} | {ServerName(name): what for name, what in progress.items()}
    return Looked(at, told, joined=joined, gone=frozenset(gone))


def after(rollout: Rollout, *events: Judged | Looked) -> Rollout:
    for event in events:
        rollout = step(rollout, event).after
    return rollout


def test_a_newcomer_must_settle_before_the_first_wave() -> None:
    joined = after(a_rollout(Phase.SHADOWING), looked(joined=(R2,)))
    assert (joined.servers, joined.joining) == ((R0, R1, R2), (R2,))
    waiting = after(joined, PASS)
    assert (waiting.phase, waiting.promoted) == (Phase.SHADOWING, ())
    assert "r2" in step(joined, PASS).why
    assert after(waiting, looked(r2=SETTLED), PASS).promoted == (R0,)


def test_a_newcomer_must_settle_before_the_next_wave_and_then_has_its_own() -> None:
    first = after(a_rollout(Phase.SHADOWING), PASS)
    held_up = after(first, looked(joined=(R2,)), looked(r2=BEHIND))
    assert held_up.promoted == (R0,)
    waves = after(held_up, looked(r2=SETTLED))
    assert waves.promoted == (R0, R1)
    assert after(waves, looked(r2=SETTLED)).promoted == (R0, R1, R2)


def test_one_that_comes_when_the_waves_are_over_goes_where_all_others_are() -> None:
    baking = a_rollout(Phase.BAKING, promoted=(R0, R1))
    joined = after(baking, looked(1e6, joined=(R2,)))
    assert (joined.phase, joined.promoted) == (Phase.BAKING, (R0, R1, R2))
    assert after(joined, looked(2e6, r2=BEHIND)).phase is Phase.BAKING
    assert after(joined, looked(2e6, r2=SETTLED)).phase is Phase.SUCCEEDED


def test_one_that_comes_during_a_rollback_of_the_bake_is_not_promoted() -> None:
    back = a_rollout(Phase.ROLLING_BACK, held_from=Phase.BAKING)
    assert after(back, looked(joined=(R2,))).promoted == ()


def test_a_server_that_is_gone_is_waited_for_no_longer_and_nothing_is_sent_to_it() -> None:
    stuck = after(a_rollout(Phase.LOADING), looked(r1=UNSEEN))
    assert stuck.phase is Phase.LOADING
    rest = after(stuck, looked(r1=UNSEEN, gone=(R1,)))
    assert (rest.phase, rest.present, rest.shadowed) == (Phase.SHADOWING, (R0,), (R0,))
    assert after(rest, PASS, looked()).phase is Phase.BAKING


def test_a_rollback_waits_for_none_that_are_gone_even_when_all_are() -> None:
    back = a_rollout(Phase.ROLLING_BACK)
    assert after(back, looked(r1=UNSEEN, gone=(R1,))).phase is Phase.ROLLED_BACK
    assert after(back, looked(gone=(R0, R1))).phase is Phase.ROLLED_BACK


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.LOADING, Phase.PROMOTING, Phase.BAKING])
def test_a_fleet_without_servers_goes_nowhere(phase: Phase) -> None:
    assert after(a_rollout(phase), looked(2.0, gone=(R0, R1))).phase is phase


def test_one_that_comes_back_keeps_its_place_and_must_settle_anew() -> None:
    left = after(a_rollout(Phase.SHADOWING), looked(gone=(R1,)))
    back = after(left, looked(joined=(R1,)))
    assert (back.servers, back.gone, back.joining, back.shadowed) == ((R0, R1), (), (R1,), (R0,))


def test_every_pod_replaced_during_the_waves_ends_on_the_new_version() -> None:
    half = a_rollout(Phase.PROMOTING, promoted=(R0,))
    names = tuple(ServerName(name) for name in ("p0", "p1"))
    changed = after(half, looked(joined=names, p0=BEHIND, p1=BEHIND))
    changed = after(changed, Looked(2.0, dict.fromkeys(names, SETTLED), gone=frozenset((R0, R1))))
    assert (changed.present, changed.promoted) == (names, (R0, "p0"))
    baking = after(changed, *[Looked(3.0, dict.fromkeys(names, SETTLED))] * 2)
    assert (baking.phase, set(names) <= set(baking.promoted)) == (Phase.BAKING, True)


def test_a_newcomer_has_the_time_of_a_load_and_then_a_person_is_asked() -> None:
    plan = Plan(load_seconds=600.0, change_seconds=60.0)
    waves = after(a_rollout(Phase.PROMOTING, promoted=(R0,), plan=plan), looked(100.0, joined=(R2,), r1=SETTLED))
    assert after(waves, looked(600.0, r2=BEHIND)).phase is Phase.PROMOTING
    held = after(waves, looked(701.0, r2=BEHIND))
    assert (held.phase, "r2" in held.why) == (Phase.HELD, True)
    trial = after(a_rollout(Phase.SHADOWING, plan=plan), looked(100.0, joined=(R2,)))
    assert after(trial, looked(701.0, r2=BEHIND)).phase is Phase.HELD


def test_a_canary_server_that_comes_takes_no_user_traffic() -> None:
    trial = a_rollout(Phase.SHADOWING, placement=Placement.OWN_REPLICAS, dedicated=(R1,))
    event = Looked(1.0, {R0: SETTLED, R1: SETTLED}, joined=(R2,), dedicated=(R2,))
    grown = after(trial, event)
    assert (grown.dedicated, grown.serving) == ((R1, R2), (R0,))


def test_in_observe_mode_a_newcomer_holds_up_nothing() -> None:
    trial = after(a_rollout(Phase.SHADOWING, mode=Mode.OBSERVE), looked(joined=(R2,)))
    assert after(trial, PASS).why.startswith("recommends")
