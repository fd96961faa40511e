"""Which versions a registry's aliases should name, from what is stored. Pure."""

from dataclasses import dataclass

from haldane.domain.rollout import Mode, Rollout
from haldane.rollout.wanted import Watched, standing


@dataclass(frozen=True, slots=True)
class Named:
    """The version that users get, and the one that is on trial; None where there is none."""

    stable: int | None = None
    canary: int | None = None


def named(at_rest: Watched | None, live: Rollout | None) -> Named:
    """`live` is the model's rollout that is not over. Until it is, its old version counts as stable.

    A rollout that only observes puts no label anywhere, so no alias either.
    """
    stable = at_rest.stable if at_rest is not None and at_rest.released else None
    on_trial = live is not None and live.mode is Mode.ENFORCE and standing(live).judging and live.reverts is None
    return Named(stable, live.new if live is not None and on_trial else None)
