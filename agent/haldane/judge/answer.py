"""One word on a version for a machine that asks: pass, fail, wait or inconclusive.

For progressive delivery tools beside us, which know no phases. Doubt is never
"pass", and never "fail" either: what is not known makes them wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from haldane.domain.evidence import Verdict
from haldane.domain.rollout import Mode, Phase, Rollout


class Answer(StrEnum):
    """What a delivery tool should do with the version."""

    PASS = "pass"  # promote it
    FAIL = "fail"  # take it back
    WAIT = "wait"  # ask again
    INCONCLUSIVE = "inconclusive"  # the budget is spent and nothing was shown: a person should look


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer, the sentence for it, and the rollout it rests on; None when there is none."""

    answer: Answer
    why: str
    rollout: Rollout | None = None


def reply_on(model: str, version: int, rollouts: Sequence[Rollout], *, dropped: str = "") -> Reply:
    """The answer for that version, from rollouts in the order newest first.

    `dropped`: why nothing came of its announcement, "" when it was not announced or still waits.
    """
    own = [one for one in rollouts if one.model == model]
    found = next((one for one in own if one.new == version and one.reverts is None), None)
    if found is None and dropped:
        return Reply(Answer.INCONCLUSIVE, f"no rollout of version {version} was started: {dropped}")
    if found is None:
        return Reply(Answer.WAIT, f"no rollout of version {version} has been started")
    if revert := next((one for one in own if one.reverts == found.id), None):
        return Reply(Answer.FAIL, f"its promotion was taken back: {revert.why}", found)
    return Reply(_answer(found), found.why, found)


def _answer(rollout: Rollout) -> Answer:
    if rollout.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.STUCK) or rollout.verdict is Verdict.FAIL:
        return Answer.FAIL
    if rollout.phase is Phase.SUCCEEDED:
        return Answer.PASS
    if rollout.verdict is Verdict.PASS:
        # In observe mode a PASS ends in a hold, with the recommendation as its reason; any other hold is a doubt.
        recommended = rollout.mode is Mode.OBSERVE and rollout.why.startswith("recommends promoting")
        return Answer.PASS if recommended or rollout.phase is not Phase.HELD else Answer.WAIT
    return Answer.INCONCLUSIVE if rollout.verdict is Verdict.INCONCLUSIVE else Answer.WAIT
