"""What has passed waits for people where the plan says so, and never goes forward in a freeze."""

from dataclasses import replace

import pytest

from haldane.domain.evidence import Verdict
from haldane.domain.rollout import Command, CommandKind, Judged, Phase, Plan, Rollout, Transition
from haldane.rollout.machine import step
from haldane.testing.builders import a_rollout

PASSED = Judged(5.0, Verdict.PASS, "no harm", 900)
FROZEN = replace(PASSED, frozen="frozen until Mon 08:00: weekend")


def waiting(approvals: int) -> Rollout:
    """Passed, and waiting for so many approvals; eve started it."""
    rollout = a_rollout(Phase.SHADOWING, plan=Plan(approvals=approvals), by="eve")
    return step(rollout, PASSED).after


def approve(rollout: Rollout, by: str, *, known: bool = True) -> Transition:
    return step(rollout, Command(6.0, CommandKind.APPROVE, by, "looks right", known))


def test_a_pass_alone_promotes_nothing_and_says_what_it_waits_for() -> None:
    rollout = waiting(1)
    assert (rollout.phase, rollout.verdict) == (Phase.SHADOWING, Verdict.PASS)
    assert rollout.why == "passed; waits for approval (0 of 1)"


def test_two_people_besides_the_one_who_started_it() -> None:
    once = approve(waiting(2), "ada").after
    assert step(once, PASSED).after.why == "passed; waits for approval (1 of 2)"
    twice = approve(once, "bob")
    assert twice.after.approvals == ("ada", "bob")
    assert step(twice.after, PASSED).after.phase is Phase.PROMOTING


@pytest.mark.parametrize(
    ("by", "known", "says"),
    [
        ("eve", True, "eve started this rollout; somebody else must approve"),
        ("ada", True, "ada has approved already; somebody else must approve"),
        ("bob", False, "an approval takes a token of one's own"),
    ],
)
def test_who_may_not_approve(by: str, known: bool, says: str) -> None:
    once = approve(waiting(2), "ada").after
    refused = approve(once, by, known=known)
    assert (refused.refused, refused.after) == (True, once)
    assert refused.why.startswith(says)


def test_nothing_can_be_approved_before_it_has_passed_or_where_no_approval_is_asked_for() -> None:
    undecided = a_rollout(Phase.SHADOWING, plan=Plan(approvals=1))
    assert approve(undecided, "ada").refused
    assert approve(a_rollout(Phase.SHADOWING, verdict=Verdict.PASS), "ada").refused


def test_harm_shown_while_it_waits_withdraws_it() -> None:
    assert step(waiting(1), Judged(7.0, Verdict.FAIL, "harm", 1000)).after.phase is Phase.ROLLING_BACK


def test_in_a_freeze_it_waits_and_goes_on_by_itself_after() -> None:
    rollout = step(a_rollout(Phase.SHADOWING), FROZEN).after
    assert (rollout.phase, rollout.why) == (Phase.SHADOWING, "passed; frozen until Mon 08:00: weekend")
    assert step(rollout, PASSED).after.phase is Phase.PROMOTING


def test_in_a_freeze_harm_is_withdrawn_and_a_person_may_promote() -> None:
    rollout = step(a_rollout(Phase.SHADOWING), FROZEN).after
    harm = replace(FROZEN, verdict=Verdict.FAIL)
    assert step(rollout, harm).after.phase is Phase.ROLLING_BACK
    assert step(rollout, Command(6.0, CommandKind.PROMOTE, "ada", "it cannot wait")).after.phase is Phase.PROMOTING
