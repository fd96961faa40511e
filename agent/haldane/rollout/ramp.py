"""Steps of traffic: the share a gateway should send to the canary's servers, and how far it is from it.

As with the config of a server, what is wanted follows from the stored rollouts
alone, so a crash loses nothing and a rollback is only another share.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from haldane.domain.rollout import Phase, Progress, Rollout
from haldane.rollout.wanted import standing

TOLERANCE = 0.1  # of the share: gateways count in whole weights, and their servers come and go


@dataclass(frozen=True, slots=True)
class GatewayView:
    """What one gateway was seen to do: the share, 0 to 1, of users' calls it sends to the canary's servers.

    None when that is not known, and `trouble` says why.
    """

    share: float | None
    trouble: str = ""


def wanted_share(rollout: Rollout) -> float:
    """The share of users' calls, 0 to 1, that should reach the canary's servers now."""
    if standing(rollout) not in (Phase.RAMPING, Phase.PROMOTING) or not rollout.step:
        return 0.0
    return rollout.plan.traffic_steps[rollout.step - 1]


def wanted_of(rollouts: Iterable[Rollout]) -> float | None:
    """The share a gateway should have; None when no live rollout has steps, so that it is left alone.

    One rollout with steps is live at a time; a second one is refused at its start.
    """
    return max((wanted_share(rollout) for rollout in rollouts if rollout.plan.traffic_steps), default=None)


def taken(wanted: float, seen: float) -> bool:
    """Whether the share seen is the one wanted. None and all are exact: a user too many is one too many."""
    if wanted in (0.0, 1.0):
        return seen == wanted
    return abs(seen - wanted) <= TOLERANCE * wanted


def gateway_progress(rollout: Rollout, seen: Mapping[str, GatewayView]) -> tuple[Progress, str]:
    """How far the gateways are from what the rollout wants of them, and why: of the first that is not there."""
    if not rollout.plan.traffic_steps:
        return Progress.SETTLED, ""
    if not seen:
        return Progress.UNSEEN, "gateway: the config has none any more, though this rollout goes by steps of traffic"
    wanted = wanted_share(rollout)
    for name, view in sorted(seen.items()):
        if view.share is None:
            return Progress.UNSEEN, f"gateway {name}: {view.trouble}"
        if not taken(wanted, view.share):
            return (
                Progress.BEHIND,
                f"gateway {name}: sends {percent(view.share)} to the canary's servers, not {percent(wanted)}"
                + (f" ({view.trouble})" if view.trouble else ""),
            )
    return Progress.SETTLED, ""


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"
