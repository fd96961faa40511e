"""What a delivery tool is told: pass only on a proof or an end in success, fail only on harm or a withdrawal."""

import pytest

from haldane.domain.evidence import Verdict
from haldane.domain.rollout import Command, CommandKind, Judged, Mode, Phase
from haldane.judge.answer import Answer, reply_on
from haldane.rollout.machine import step
from haldane.testing.builders import MODEL, a_rollout

OTHER = "another"
PASS, FAIL, CONTINUE, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.CONTINUE, Verdict.INCONCLUSIVE


def answer_on(*rollouts, version=2):
    return reply_on(MODEL, version, rollouts).answer


@pytest.mark.parametrize(
    ("phase", "verdict", "answer"),
    [
        (Phase.PENDING, CONTINUE, Answer.WAIT),
        (Phase.LOADING, CONTINUE, Answer.WAIT),
        (Phase.SHADOWING, CONTINUE, Answer.WAIT),
        (Phase.PROMOTING, PASS, Answer.PASS),
        (Phase.PROMOTING, CONTINUE, Answer.WAIT),  # a person promoted it without a proof
        (Phase.BAKING, PASS, Answer.PASS),
        (Phase.SUCCEEDED, PASS, Answer.PASS),
        (Phase.SUCCEEDED, CONTINUE, Answer.PASS),
        (Phase.HELD, CONTINUE, Answer.WAIT),
        (Phase.HELD, PASS, Answer.WAIT),  # a server did not follow, or a person paused it
        (Phase.HELD, INCONCLUSIVE, Answer.INCONCLUSIVE),
        (Phase.HELD, FAIL, Answer.FAIL),
        (Phase.ROLLING_BACK, FAIL, Answer.FAIL),
        (Phase.ROLLING_BACK, PASS, Answer.FAIL),  # a person aborted it
        (Phase.ROLLED_BACK, CONTINUE, Answer.FAIL),
        (Phase.STUCK, PASS, Answer.FAIL),
    ],
)
def test_the_answer_in_every_phase(phase, verdict, answer):
    assert answer_on(a_rollout(phase=phase, verdict=verdict)) is answer


def test_in_observe_mode_a_recommendation_is_the_answer_and_a_pause_is_none():
    shadowing = a_rollout(phase=Phase.SHADOWING, mode=Mode.OBSERVE)
    for verdict, answer in ((PASS, Answer.PASS), (FAIL, Answer.FAIL), (INCONCLUSIVE, Answer.INCONCLUSIVE)):
        assert answer_on(step(shadowing, Judged(1.0, verdict, "shown")).after) is answer

    paused = step(shadowing, Command(1.0, CommandKind.PAUSE, "ada", "a freeze")).after
    assert answer_on(step(paused, Judged(2.0, PASS, "shown")).after) is Answer.WAIT


def test_only_the_version_asked_for_counts_and_of_it_the_newest_rollout():
    passed = a_rollout(id="a", phase=Phase.SUCCEEDED, verdict=PASS)
    assert reply_on(MODEL, 3, [passed]).why == "no rollout of version 3 has been started"
    assert answer_on(passed, version=3) is Answer.WAIT
    assert reply_on(OTHER, 2, [passed]).answer is Answer.WAIT
    assert answer_on(a_rollout(id="b", phase=Phase.SHADOWING), passed) is Answer.WAIT


def test_a_promotion_that_was_taken_back_fails():
    passed = a_rollout(id="a", phase=Phase.SUCCEEDED, verdict=PASS)
    revert = a_rollout(id="a-revert", phase=Phase.ROLLING_BACK, reverts="a", why="labels show harm")
    reply = reply_on(MODEL, 2, [revert, passed])
    assert (reply.answer, reply.why) == (Answer.FAIL, "its promotion was taken back: labels show harm")
