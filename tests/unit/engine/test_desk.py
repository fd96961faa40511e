import asyncio
from dataclasses import replace

import pytest

from haldane.domain.fleet import Clients, Placement, Server, ServerName
from haldane.domain.rollout import Mode, Phase, Progress
from haldane.domain.traffic import Api, Request
from haldane.domain.vouched import Standing, Vouched
from haldane.engine.desk import Desk
from haldane.rollout.machine import step
from haldane.testing.builders import MODEL, a_config, a_rollout, a_view

R0, R1 = ServerName("r0"), ServerName("r1")


def a_desk(mode=Mode.ENFORCE, stable=1):
    desk = Desk(mode=mode, servers={name: Server(name, "") for name in (R0, R1)}, base=a_config(), watched={})
    if stable is not None:
        desk.put_stable(MODEL, stable, stable, Clients.LABEL, provable=True)
    return desk


def seen_everywhere(desk, *versions, **labels):
    for name in (R0, R1):
        desk.put_view(name, a_view(*versions, labels=labels, server=name))


def test_a_rollout_of_enforce_mode_shapes_what_servers_should_have_and_one_of_observe_mode_does_not():
    desk = a_desk()
    desk.put_rollout(a_rollout(Phase.SHADOWING), 1)
    assert desk.wanted(R0).entry(MODEL).labels == {"canary": 2, "stable": 1}
    desk.put_rollout(a_rollout(Phase.SHADOWING, mode=Mode.OBSERVE), 2)
    assert desk.wanted(R0).entry(MODEL).labels == {"stable": 1}


def test_a_canarys_own_name_is_looked_at_and_proven_for_as_long_as_its_rollout_is_live_and_no_condition():
    desk = a_desk()
    request = Request("a", Api.PREDICT, b"")
    desk.golden[MODEL] = request
    assert "credit_canary" not in desk.probes()
    desk.put_rollout(a_rollout(Phase.LOADING, placement=Placement.SECOND_NAME), 1)
    assert desk.probes()["credit_canary"] == []
    assert desk.proofs()["credit_canary"] == [(2, request)]
    assert desk.wanted(R0).entry("credit_canary").versions == (2,)
    assert desk.decided(R0).entry("credit_canary") is None
    desk.put_rollout(a_rollout(Phase.ROLLING_BACK, placement=Placement.SECOND_NAME), 2)
    assert desk.wanted(R0).entry("credit_canary") is None and "credit_canary" in desk.probes()
    desk.put_rollout(a_rollout(Phase.ROLLED_BACK, placement=Placement.SECOND_NAME), 3)
    assert "credit_canary" in desk.probes(), "a reload whose answer was lost may land after the end"
    assert set(desk.seconds(R0)) == {"credit_canary"} and not desk.seconds(ServerName("r9"))


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.PROMOTING, Phase.BAKING, Phase.ROLLING_BACK])
def test_an_agent_that_only_observes_never_takes_an_enforced_rollout_for_done(phase):
    desk = a_desk(Mode.OBSERVE)
    rollout = a_rollout(phase, promoted=(R0, R1))
    desk.put_rollout(rollout, 1)
    seen_everywhere(desk, 1, 2)
    looked = desk.looked(rollout, 1.0)
    assert set(looked.progress.values()) == {Progress.BEHIND}
    assert "observe mode" in looked.detail[R0]


def test_a_rollout_that_only_observes_is_settled_when_both_versions_are_loaded_whatever_the_agents_mode():
    for mode in Mode:
        desk = a_desk(mode)
        rollout = a_rollout(Phase.LOADING, mode=Mode.OBSERVE)
        desk.put_rollout(rollout, 1)
        seen_everywhere(desk, 1, 2)
        assert set(desk.looked(rollout, 1.0).progress.values()) == {Progress.SETTLED}


def test_a_live_rollout_of_a_model_whose_stable_version_nobody_declared_is_taken_up_after_a_restart():
    desk = a_desk(Mode.OBSERVE, stable=None)
    request = Request("a", Api.PREDICT, b"")
    desk.golden[MODEL] = request
    desk.put_rollout(a_rollout(Phase.SHADOWING, mode=Mode.OBSERVE), 1)
    assert desk.proofs() == {MODEL: [(1, request), (2, request)]}
    desk.put_rollout(a_rollout(Phase.SUCCEEDED), 2)
    assert desk.watched[MODEL].stable == 2


def test_a_live_rollout_of_a_model_that_left_the_config_waits_and_disturbs_nobody():
    desk = a_desk()
    gone = a_rollout(Phase.SHADOWING, model="gone")
    desk.put_rollout(gone, 1)
    seen_everywhere(desk, 1, stable=1)
    assert "gone" not in desk.proofs() and "gone" not in desk.watched
    assert desk.step(R0).settled
    assert set(desk.looked(gone, 1.0).progress.values()) == {Progress.BEHIND}


def test_success_moves_the_stable_version_and_a_rollout_that_is_over_leaves():
    desk = a_desk()
    desk.put_rollout(a_rollout(Phase.BAKING), 1)
    desk.put_rollout(a_rollout(Phase.SUCCEEDED), 2)
    assert desk.watched[MODEL].stable == 2
    assert list(desk.live()) == []
    assert desk.wanted(R0).entry(MODEL).labels == {"stable": 2}


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.ROLLING_BACK, Phase.STUCK])
def test_a_rollback_goes_to_the_version_before_whatever_the_config_was_edited_to_say_meanwhile(phase):
    desk = a_desk(stable=2)
    desk.put_rollout(a_rollout(phase), 1)
    assert desk.wanted(R0).entry(MODEL).labels == {"stable": 1}
    assert desk.wanted(R0).entry(MODEL).versions == (1,)


def test_a_refusal_or_trouble_is_why_a_server_is_behind():
    desk = a_desk()
    rollout = a_rollout(Phase.LOADING)
    desk.put_rollout(rollout, 1)
    seen_everywhere(desk, 1, stable=1)
    desk.refusals[R0] = "serves another's model"
    desk.trouble[R1] = "the last reload: no"
    detail = desk.looked(rollout, 1.0).detail
    assert detail[R0] == "serves another's model"
    assert detail[R1].endswith("(the last reload: no)")


def test_trouble_ends_with_the_next_good_look():
    desk = a_desk()
    desk.put_view(R0, None, trouble="no answer")
    assert desk.trouble == {R0: "no answer"}
    assert desk.step(R0) is None
    desk.put_view(R0, a_view(1))
    assert desk.trouble == {}


async def test_everyone_who_waits_is_woken_by_a_change():
    desk = a_desk()
    waiting = [asyncio.create_task(desk.wait_changed(60)) for _ in range(3)]
    await asyncio.sleep(0)
    desk.put_view(R0, None)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    await desk.wait_changed(0)
    assert not desk._waiting


def test_no_label_moves_to_a_version_before_its_files_have_been_compared():
    desk = a_desk()
    desk.vouches = True
    rollout = a_rollout(Phase.LOADING)
    desk.put_rollout(rollout, 1)
    seen_everywhere(desk, 1, 2, stable=1)
    assert desk.awaits_vouching(rollout)
    assert not desk.step(R0).due
    assert desk.looked(rollout, 1.0).detail[R0] == "version 2 is not proven yet"
    desk.put_vouched(rollout, Vouched(Standing.UNVERIFIED, "no record"))
    assert desk.step(R0).config.entry(MODEL).labels == {"canary": 2, "stable": 1}
    assert desk.step(R0).due


def test_they_are_compared_again_before_users_get_it():
    desk = a_desk()
    desk.vouches = True
    rollout = a_rollout(Phase.SHADOWING)
    desk.put_vouched(rollout, Vouched(Standing.VERIFIED, ""))
    promoting = replace(rollout, phase=Phase.PROMOTING, promoted=(R0,))
    desk.put_rollout(promoting, 2)
    seen_everywhere(desk, 1, 2, stable=1, canary=2)
    assert not desk.step(R0).due, "the label canary stays, and stable waits"
    desk.put_vouched(promoting, Vouched(Standing.VERIFIED, ""))
    assert desk.step(R0).config.entry(MODEL).labels == {"canary": 2, "stable": 2}


@pytest.mark.parametrize(("phase", "promoted"), [(Phase.LOADING, ()), (Phase.SHADOWING, ()), (Phase.PROMOTING, (R0,))])
def test_changed_files_end_a_rollout_and_do_not_stop_its_withdrawal(phase, promoted):
    desk = a_desk()
    desk.vouches = True
    rollout = a_rollout(phase, promoted=promoted)
    desk.put_rollout(rollout, 1)
    desk.put_vouched(rollout, Vouched(Standing.CHANGED, "saved_model.pb has changed"))
    seen_everywhere(desk, 1, 2, stable=1, canary=2)
    looked = desk.looked(rollout, 1.0)
    assert looked.progress[R0] is Progress.FAILED
    assert looked.detail[R0] == "version 2 is not what was published: saved_model.pb has changed"
    back = step(rollout, looked).after
    assert back.phase is Phase.ROLLING_BACK
    desk.put_rollout(back, 2)
    assert desk.looked(back, 2.0).progress[R0] is Progress.BEHIND
    seen_everywhere(desk, 1, stable=1)
    assert desk.looked(back, 2.0).progress[R0] is Progress.SETTLED


@pytest.mark.parametrize("held_from", [None, Phase.PROMOTING])
def test_no_label_moves_to_changed_files_before_the_machine_has_acted_nor_while_a_person_is_waited_for(held_from):
    desk = a_desk()
    desk.vouches = True
    phase = Phase.HELD if held_from else Phase.PROMOTING
    rollout = a_rollout(phase, held_from=held_from, promoted=(R0,))
    desk.put_rollout(rollout, 1)
    seen_everywhere(desk, 1, 2, stable=1, canary=2)
    assert desk.awaits_vouching(rollout)
    assert desk.step(R0).config.entry(MODEL).labels["stable"] == 1
    desk.put_vouched(rollout, Vouched(Standing.CHANGED, "saved_model.pb has changed"))
    assert desk.step(R0).config.entry(MODEL).labels["stable"] == 1


def test_a_revert_waits_for_no_comparison():
    desk = a_desk()
    desk.vouches = True
    assert not desk.awaits_vouching(a_rollout(Phase.PROMOTING, reverts="credit-2-test"))


def test_a_rollout_that_is_over_leaves_nothing_behind():
    desk = a_desk()
    rollout = a_rollout(Phase.SHADOWING)
    desk.put_vouched(rollout, Vouched(Standing.VERIFIED, ""))
    desk.put_rollout(replace(rollout, phase=Phase.ROLLED_BACK), 2)
    assert desk.vouched == {}


def test_a_new_version_is_asked_what_is_recorded_of_it_once_that_is_known():
    desk = a_desk()
    desk.vouches = True
    any_request = Request("any", Api.PREDICT, b"")
    recorded = Request("recorded 0", Api.PREDICT, b"x", recorded=b"y")
    desk.golden[MODEL] = any_request
    rollout = a_rollout(Phase.LOADING)
    desk.put_rollout(rollout, 1)
    assert desk.proofs() == {MODEL: [(1, any_request)]}, "an answer to any request would prove it too early"
    desk.put_vouched(rollout, Vouched(Standing.VERIFIED, "", golden=(recorded,)))
    assert desk.proofs() == {MODEL: [(1, any_request), (2, any_request), (2, recorded)]}
