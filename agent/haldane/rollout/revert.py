"""Taking a promotion back: a rollout that begins with its rollback.

Whether harm was shown is the judge's affair. Here is what keeps a promotion from
being taken back, and the rollout that does it.
"""

from collections.abc import Iterable
from dataclasses import replace

from haldane.domain.evidence import Verdict
from haldane.domain.rollout import Mode, Phase, Rollout, RolloutId


def revert_id(rollout: RolloutId) -> RolloutId:
    """One promotion is taken back at most once, so the name says of which."""
    return RolloutId(f"{rollout}-revert")


def refusal(promoted: Rollout, *, stable: int | None, live: Iterable[Rollout]) -> str:
    """Why the promotion is not to be taken back now, or "". `stable`: the model's stable version now."""
    if promoted.phase is not Phase.SUCCEEDED or promoted.mode is not Mode.ENFORCE or promoted.reverts is not None:
        return f"rollout {promoted.id} promoted nothing"
    if promoted.first:
        return f"version {promoted.new} is the first: there is none to go back to"
    for other in live:
        if other.model == promoted.model:
            return f"rollout {other.id} of this model is {other.phase}"
    return "" if stable == promoted.new else f"version {promoted.new} is not stable any more"


def revert(promoted: Rollout, *, at: float, why: str) -> Rollout:
    """The rollout that makes the old version stable again and withdraws the new one.

    After a promotion the old version is unloaded, so it may have to be loaded first: there is time for that.
    """
    plan = promoted.plan
    return replace(
        promoted,
        id=revert_id(promoted.id),
        reverts=promoted.id,
        phase=Phase.ROLLING_BACK,
        held_from=None,
        promoted=(),
        # The gateways went back to rest before the promotion had ended, and another rollout may have them now.
        plan=replace(plan, change_seconds=plan.load_seconds + plan.change_seconds, traffic_steps=()),
        step=0,
        step_at=None,
        step_from=None,
        started_at=at,
        phase_since=at,
        verdict=Verdict.FAIL,
        why=why,
    )
