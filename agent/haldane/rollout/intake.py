"""What to do about the releases of one model that were announced and have not been rolled out. Pure.

Only the highest counts: whoever publishes 8 while 7 waits wants 8. A version
that was withdrawn is not tried again by itself, and no announcement ever makes
a version number go back: both take a person who starts it by hand.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from haldane.domain.release import Announcement, Newer
from haldane.domain.rollout import Phase, Rollout

_EARLY = (Phase.PENDING, Phase.LOADING, Phase.SHADOWING)


@dataclass(frozen=True, slots=True)
class Dropped:
    """An announcement nothing will come of, and why; `refused`: somebody should know."""

    one: Announcement
    why: str
    refused: bool


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now: drop these, abort that rollout, start this one."""

    drop: tuple[Dropped, ...] = ()
    abort: Rollout | None = None
    start: Announcement | None = None


def due(
    pending: Iterable[Announcement], *, stable: int | None, live: Rollout | None, past: Iterable[Rollout], newer: Newer
) -> Due:
    """`pending`, `live` and `past` (rollouts that are over) are of one model; `stable` None: not known yet."""
    *older, newest = sorted(pending, key=lambda one: one.version)
    drop = tuple(Dropped(one, f"version {newest.version} was announced too", refused=False) for one in older)
    if ending := _ending(newest, stable, live, past, newer):
        return Due((*drop, ending))
    if live is None:
        return Due(drop, start=newest)
    supersedes = newer is Newer.SUPERSEDE and newest.version > live.new and _early(live)
    return Due(drop, abort=live if supersedes else None)


def _early(live: Rollout) -> bool:
    """Nobody was promoted yet, so nothing is lost but the pairs."""
    return not live.promoted and (live.phase in _EARLY or (live.phase is Phase.HELD and live.held_from in _EARLY))


def _ending(
    newest: Announcement, stable: int | None, live: Rollout | None, past: Iterable[Rollout], newer: Newer
) -> Dropped | None:
    """Why nothing will come of it; None when it waits or is to start."""
    version = newest.version
    if live is not None and live.new == version:
        return Dropped(newest, f"rollout {live.id} of this version is under way", refused=False)
    if stable is not None and version == stable:
        return Dropped(newest, f"version {version} is stable already", refused=False)
    if stable is not None and version < stable:
        return Dropped(newest, f"version {version} is older than stable, which is {stable}; {_BY_HAND}", refused=True)
    for one in past:
        if one.new == version and one.phase is Phase.ROLLED_BACK:
            why = f"rollout {one.id} withdrew version {version}; publish under a new number, or {_BY_HAND}"
            return Dropped(newest, why, refused=True)
    if live is not None and newer is Newer.REFUSE:
        return Dropped(newest, f"rollout {live.id} of version {live.new} is {live.phase}", refused=True)
    return None


_BY_HAND = "a person may start it by hand"
