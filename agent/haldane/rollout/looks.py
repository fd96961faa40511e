"""What a look at the fleet says to the machine: is all as wanted, who is not, and has it been so for too long."""

from haldane.domain.fleet import ServerName
from haldane.domain.rollout import Looked, Progress, Rollout


def all_settled(looked: Looked) -> bool:
    """Every server of the fleet is, and every gateway; a fleet without servers shows nothing."""
    return set(looked.progress.values()) == {Progress.SETTLED} == {looked.gateway}


def first(looked: Looked, what: Progress) -> ServerName | None:
    """By name the first server that is so far."""
    return next((name for name, progress in sorted(looked.progress.items()) if progress is what), None)


def worst(looked: Looked) -> str:
    """The first server or gateway that is not settled, with its reason."""
    for progress in (Progress.FAILED, Progress.UNSEEN, Progress.BEHIND):
        if name := first(looked, progress):
            return f"{name}: {looked.detail.get(name, progress)}"
    return looked.gateway_detail or "every server is settled"


def laggard(looked: Looked) -> str:
    """What kind of thing is not as wanted, in words."""
    return "a gateway" if set(looked.progress.values()) <= {Progress.SETTLED} else "a server"


def overdue(rollout: Rollout, looked: Looked) -> bool:
    """Those that are behind have had their time: that of a change, or of a load where only newcomers are."""
    behind = {name for name, progress in looked.progress.items() if progress is not Progress.SETTLED}
    newcomers = bool(behind) and behind <= set(rollout.joining)  # they have the new version to load first
    return late(rollout, looked, rollout.plan.load_seconds if newcomers else rollout.plan.change_seconds)


def late(rollout: Rollout, looked: Looked, seconds: float) -> bool:
    """What is waited for has had so long, and so has the newest of those that are still joining.

    An agent that has just begun has seen next to nothing: what was due while none was there gets the time of a change.
    """
    lasted = looked.at - rollout.waits_since if looked.lasted is None or looked.joined else looked.lasted
    return lasted >= seconds and looked.watched >= min(seconds, rollout.plan.change_seconds)
