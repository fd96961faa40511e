"""The policy, row by row, and what must never happen in any history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haldane.domain.evidence import Verdict
from haldane.domain.rollout import Command, CommandKind, Event, Judged, Looked, Mode, Phase, Progress
from haldane.rollout.machine import step
from haldane.testing.builders import a_rollout

SETTLED, BEHIND, FAILED, UNSEEN = Progress.SETTLED, Progress.BEHIND, Progress.FAILED, Progress.UNSEEN


def looked(r0: Progress = SETTLED, r1: Progress = SETTLED, at: float = 1.0) -> Looked:
    return Looked(at, {"r0": r0, "r1": r1}, {"r1": "broken"})


def judged(verdict: Verdict, at: float = 1.0) -> Judged:
    return Judged(at, verdict, "because")


def command(kind: CommandKind) -> Command:
    return Command(1.0, kind, by="ada", why="asked")


@pytest.mark.parametrize(
    ("phase", "event", "then"),
    [
        (Phase.PENDING, looked(), Phase.LOADING),
        (Phase.PENDING, looked(r1=UNSEEN), Phase.PENDING),
        (Phase.PENDING, looked(r1=UNSEEN, at=1e4), Phase.ROLLING_BACK),
        (Phase.LOADING, looked(), Phase.SHADOWING),
        (Phase.LOADING, looked(r1=BEHIND), Phase.LOADING),
        (Phase.LOADING, looked(r1=FAILED), Phase.ROLLING_BACK),
        (Phase.LOADING, looked(r1=BEHIND, at=1e4), Phase.ROLLING_BACK),
        (Phase.LOADING, looked(r1=UNSEEN, at=1e4), Phase.ROLLING_BACK),
        (Phase.SHADOWING, judged(Verdict.PASS), Phase.PROMOTING),
        (Phase.SHADOWING, judged(Verdict.FAIL), Phase.ROLLING_BACK),
        (Phase.SHADOWING, judged(Verdict.CONTINUE), Phase.SHADOWING),
        (Phase.SHADOWING, judged(Verdict.INCONCLUSIVE), Phase.HELD),
        (Phase.SHADOWING, looked(r1=FAILED), Phase.ROLLING_BACK),
        (Phase.SHADOWING, looked(r1=UNSEEN, at=1e4), Phase.SHADOWING),
        (Phase.PROMOTING, judged(Verdict.FAIL), Phase.ROLLING_BACK),
        (Phase.PROMOTING, judged(Verdict.INCONCLUSIVE), Phase.PROMOTING),
        (Phase.PROMOTING, looked(r1=UNSEEN), Phase.PROMOTING),
        (Phase.PROMOTING, looked(r1=UNSEEN, at=1e4), Phase.HELD),
        (Phase.BAKING, looked(at=1.0), Phase.BAKING),
        (Phase.BAKING, looked(at=1e4), Phase.SUCCEEDED),
        (Phase.BAKING, looked(r1=UNSEEN, at=1e4), Phase.BAKING),
        (Phase.BAKING, judged(Verdict.FAIL), Phase.ROLLING_BACK),
        (Phase.HELD, judged(Verdict.PASS), Phase.HELD),
        (Phase.HELD, judged(Verdict.FAIL), Phase.ROLLING_BACK),
        (Phase.HELD, command(CommandKind.ABORT), Phase.ROLLING_BACK),
        (Phase.ROLLING_BACK, looked(), Phase.ROLLED_BACK),
        (Phase.ROLLING_BACK, looked(r1=UNSEEN), Phase.ROLLING_BACK),
        (Phase.ROLLING_BACK, looked(r1=UNSEEN, at=1e4), Phase.STUCK),
        (Phase.ROLLING_BACK, judged(Verdict.PASS), Phase.ROLLING_BACK),
        (Phase.STUCK, looked(), Phase.ROLLED_BACK),
        (Phase.SHADOWING, command(CommandKind.PAUSE), Phase.HELD),
        (Phase.SHADOWING, command(CommandKind.PROMOTE), Phase.PROMOTING),
        (Phase.SUCCEEDED, judged(Verdict.FAIL), Phase.SUCCEEDED),
    ],
)
def test_step(phase: Phase, event: Event, then: Phase) -> None:
    assert step(a_rollout(phase), event).after.phase is then


def test_servers_are_promoted_one_after_the_other_each_seen_to_have_followed() -> None:
    first = step(a_rollout(Phase.SHADOWING), judged(Verdict.PASS)).after
    waiting = step(first, looked(r0=BEHIND)).after
    second = step(waiting, looked()).after
    assert (first.promoted, waiting.promoted, second.promoted) == (("r0",), ("r0",), ("r0", "r1"))
    assert step(second, looked()).after.phase is Phase.BAKING


@pytest.mark.parametrize("held_from", [Phase.RAMPING, Phase.PROMOTING, Phase.BAKING, Phase.SHADOWING])
def test_held_while_users_have_it_a_version_that_fails_is_withdrawn(held_from: Phase) -> None:
    held = a_rollout(Phase.HELD, held_from=held_from)
    exposed = held_from is not Phase.SHADOWING
    assert (held.exposed, held.judged) == (exposed, exposed)
    assert step(held, looked(r1=FAILED)).after.phase is (Phase.ROLLING_BACK if exposed else Phase.HELD)
    assert step(held, looked(r1=UNSEEN, at=1e6)).after.phase is Phase.HELD
    assert step(held, judged(Verdict.FAIL)).after.phase is Phase.ROLLING_BACK
    for verdict in (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.CONTINUE):
        assert step(held, judged(verdict)).after.phase is Phase.HELD


def test_a_resumed_rollout_goes_on_where_it_was_held() -> None:
    held = step(a_rollout(Phase.PROMOTING, promoted=("r0",)), command(CommandKind.PAUSE)).after
    resumed = step(held, command(CommandKind.RESUME)).after
    assert (resumed.phase, resumed.promoted) == (Phase.PROMOTING, ("r0",))


def test_resuming_an_inconclusive_rollout_gives_its_budget_once_more() -> None:
    held = step(a_rollout(Phase.SHADOWING), judged(Verdict.INCONCLUSIVE)).after
    assert step(held, command(CommandKind.RESUME)).after.extensions == 1


def test_a_verdict_once_passed_is_only_overturned_by_harm() -> None:
    passed = step(a_rollout(Phase.SHADOWING), judged(Verdict.PASS)).after
    assert step(passed, judged(Verdict.CONTINUE)).after.verdict is Verdict.PASS
    assert step(passed, judged(Verdict.FAIL)).after.verdict is Verdict.FAIL


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL])
def test_observe_mode_recommends_and_holds(verdict: Verdict) -> None:
    after = step(a_rollout(Phase.SHADOWING, mode=Mode.OBSERVE), judged(verdict)).after
    assert after.phase is Phase.HELD
    assert after.why.startswith("recommends")


def test_observe_mode_refuses_to_promote() -> None:
    assert step(a_rollout(Phase.SHADOWING, mode=Mode.OBSERVE), command(CommandKind.PROMOTE)).refused


def test_a_command_to_a_rollout_that_is_over_is_refused() -> None:
    assert step(a_rollout(Phase.SUCCEEDED), command(CommandKind.ABORT)).refused


def test_the_reason_names_the_server_that_is_broken() -> None:
    assert "r1: broken" in step(a_rollout(Phase.LOADING), looked(r1=FAILED)).why


progresses = st.sampled_from(list(Progress))
events = st.one_of(
    st.builds(judged, st.sampled_from(list(Verdict)), at=st.floats(0, 1e4)),
    st.builds(looked, progresses, progresses, at=st.floats(0, 1e4)),
    st.builds(command, st.sampled_from(list(CommandKind))),
)


@given(st.lists(events, max_size=30))
def test_no_server_is_promoted_without_a_pass_or_a_persons_word(history: list[Event]) -> None:
    rollout, allowed = a_rollout(), False
    for event in history:
        allowed = allowed or (isinstance(event, Judged) and event.verdict is Verdict.PASS)
        allowed = allowed or (isinstance(event, Command) and event.kind is CommandKind.PROMOTE)
        rollout = step(rollout, event).after
        assert allowed or not rollout.promoted


@given(st.lists(events, max_size=30))
def test_in_observe_mode_no_server_is_ever_promoted(history: list[Event]) -> None:
    rollout = a_rollout(mode=Mode.OBSERVE)
    for event in history:
        rollout = step(rollout, event).after
        assert not rollout.promoted


@given(st.lists(events, max_size=30))
def test_a_rollout_that_is_being_rolled_back_never_goes_forward_again(history: list[Event]) -> None:
    rollout, back = a_rollout(), False
    for event in history:
        rollout = step(rollout, event).after
        back = back or rollout.phase is Phase.ROLLING_BACK
        assert not back or rollout.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.STUCK)


@given(st.lists(events, max_size=30))
def test_the_same_history_gives_the_same_rollout(history: list[Event]) -> None:
    def run() -> object:
        rollout = a_rollout()
        for event in history:
            rollout = step(rollout, event).after
        return rollout

    assert run() == run()
