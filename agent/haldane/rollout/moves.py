"""Every move a rollout can make: what it is afterwards, and what is said of it.

Which of them follows from an event is the policy of `rollout.machine`.
"""

from dataclasses import replace

from haldane.domain.evidence import Verdict
from haldane.domain.rollout import Mode, Phase, Rollout, Transition
from haldane.rollout.ramp import percent, wanted_share


def withdraw(rollout: Rollout, at: float, why: str) -> Transition:
    """Harm: take the canary back, or in observe mode say that it should be."""
    rollout = replace(rollout, verdict=Verdict.FAIL)
    if rollout.mode is Mode.OBSERVE:
        return hold(rollout, at, f"recommends withdrawing version {rollout.new}: {why}")
    return back(rollout, at, why)


def back(rollout: Rollout, at: float, why: str) -> Transition:
    """Every server to the old version; in observe mode nothing was changed, so it is over."""
    if rollout.mode is Mode.OBSERVE:
        return move(rollout, at, Phase.ROLLED_BACK, f"closed, no server was changed; {why}")
    return move(at_step(replace(rollout, promoted=()), 0), at, Phase.ROLLING_BACK, why)


def hold(rollout: Rollout, at: float, why: str) -> Transition:
    """A person is waited for; servers keep what they have."""
    return move(replace(rollout, held_from=rollout.phase), at, Phase.HELD, why)


def resume(rollout: Rollout, at: float, why: str) -> Transition:
    """On from where it was held; where the budget was spent, with the budget once more."""
    back_to = rollout.held_from or Phase.SHADOWING
    more = rollout.extensions + (rollout.verdict is Verdict.INCONCLUSIVE)
    again = at_step(rollout, rollout.step)  # what was seen of a step before the hold says nothing of it now
    return move(replace(again, held_from=None, extensions=more), at, back_to, why)


def promote(rollout: Rollout, at: float, why: str) -> Transition:
    """To the users: in steps of traffic where the plan has some, else server by server at once."""
    if not rollout.plan.traffic_steps:
        return flip(rollout, at, why)
    ready = at_step(replace(rollout, held_from=None, promoted=rollout.dedicated), 0)
    return move(ready, at, Phase.RAMPING, why)


def next_share(rollout: Rollout, at: float, why: str) -> Transition:
    """The next step of traffic, or after the last one the servers that take users at rest."""
    if rollout.step == len(rollout.plan.traffic_steps):
        return flip(rollout, at, why)
    on = at_step(rollout, rollout.step + 1)
    return move(on, at, Phase.RAMPING, f"{why}; next step: {percent(wanted_share(on))}")


def at_step(rollout: Rollout, step: int) -> Rollout:
    """That step is ordered, and nothing seen of it yet."""
    return replace(rollout, step=step, step_at=None, step_from=None)


def flip(rollout: Rollout, at: float, why: str) -> Transition:
    """The servers that take users at rest, one wave after the other; at whatever share the last step had."""
    begun = any(name in rollout.promoted for name in rollout.serving)
    first = () if begun else rollout.serving[: rollout.plan.at_once]
    ahead = replace(rollout, held_from=None, promoted=(*rollout.promoted, *first))
    return move(ahead, at, Phase.PROMOTING, why)


def move(rollout: Rollout, at: float, phase: Phase, why: str) -> Transition:
    """To that phase, which begins now."""
    after = replace(rollout, phase=phase, phase_since=at, why=why)
    return Transition(before=rollout, after=after, why=why)


def note(rollout: Rollout, why: str) -> Transition:
    """Where it stands, but with something new to say."""
    return Transition(before=rollout, after=replace(rollout, why=why), why=why)


def stay(rollout: Rollout, why: str, *, refused: bool = False) -> Transition:
    """Nothing follows; `refused`: of a command that means nothing now."""
    return Transition(before=rollout, after=rollout, why=why, refused=refused)
