"""What to do about the releases of one model that were announced and have not been rolled out. Pure.

Only the highest counts: whoever publishes 8 while 7 waits wants 8. A version
that was withdrawn is not tried again by itself, nor are its files under another
number, and no announcement ever makes a version number go back: all take a
person who starts it by hand.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from haldane.domain.release import Announcement, Newer, Past, Withdrawn
from haldane.domain.rollout import Phase, Rollout

FLAPS, FLAP_SECONDS = 3, 86_400.0  # so many promotions of announced versions that went back, within a day

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


def withdrawn_before(version: int, content: str, past: Iterable[Withdrawn]) -> str:
    """Which rollout took this back before, as a sentence; "" when none did.

    By content where it is known of both: other files under the old number are another version, and the same files under
    a new one are what was harmful. Where it is not, the number says which one it is. `past`: newest first.
    """
    for one in past:
        same = one.version == version
        if content and one.content:
            same = one.content == content and (one.harmful or same)
        if same:
            alike = f", which has the same files (content {content[:12]})" if one.version != version else ""
            return f"rollout {one.rollout} withdrew version {one.version}{alike}"
    return ""


def flapping(past: Past, at: float) -> str:
    """Why no announcement starts anything before a person has, as a sentence; "" when nothing stands against it.

    Each of these moved users to a version and back. Whoever publishes goes on by itself; somebody should look first.
    """
    back = [
        one
        for one in past.withdrawn
        if one.exposed and one.harmful and one.at > past.by_person_at and at - one.at < FLAP_SECONDS
    ]
    if len(back) < FLAPS:
        return ""
    names = ", ".join(one.rollout for one in back)
    return f"users were given {len(back)} versions within a day and taken back ({names}); a person must start the next"


def due(
    pending: Iterable[Announcement],
    *,
    stable: int | None,
    live: Rollout | None,
    past: Sequence[Withdrawn],
    newer: Newer,
    content: str = "",
) -> Due:
    """`pending`, `live` and `past` are of one model; `stable` None: not known yet. `content`: that of the highest."""
    *older, newest = sorted(pending, key=lambda one: one.version)
    drop = tuple(Dropped(one, f"version {newest.version} was announced too", refused=False) for one in older)
    if ending := _ending(newest, stable, live, withdrawn_before(newest.version, content, past), newer):
        return Due((*drop, ending))
    if live is None:
        return Due(drop, start=newest)
    supersedes = newer is Newer.SUPERSEDE and newest.version > live.new and _early(live)
    return Due(drop, abort=live if supersedes else None)


def _early(live: Rollout) -> bool:
    """Nobody was promoted yet, so nothing is lost but the pairs."""
    return not live.promoted and (live.phase in _EARLY or (live.phase is Phase.HELD and live.held_from in _EARLY))


def _ending(
    newest: Announcement, stable: int | None, live: Rollout | None, withdrawn: str, newer: Newer
) -> Dropped | None:
    """Why nothing will come of it; None when it waits or is to start."""
    version = newest.version
    if live is not None and live.new == version:
        return Dropped(newest, f"rollout {live.id} of this version is under way", refused=False)
    if stable is not None and version == stable:
        return Dropped(newest, f"version {version} is stable already", refused=False)
    if stable is not None and version < stable:
        return Dropped(newest, f"version {version} is older than stable, which is {stable}; {_BY_HAND}", refused=True)
    if withdrawn:
        return Dropped(newest, f"{withdrawn}; publish other files under a new number, or {_BY_HAND}", refused=True)
    if live is not None and newer is Newer.REFUSE:
        return Dropped(newest, f"rollout {live.id} of version {live.new} is {live.phase}", refused=True)
    return None


_BY_HAND = "a person may start it by hand"
