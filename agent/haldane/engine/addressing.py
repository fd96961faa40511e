"""Which versions a pair is meant for, and when one that came back proves nothing."""

import math
from collections.abc import Callable
from typing import NamedTuple

from haldane.domain.fleet import Clients
from haldane.domain.rollout import Mode, Phase, Rollout
from haldane.domain.traffic import Choice, Elsewhere, Outcome, Status
from haldane.rollout.wanted import named_apart, second_name

_OK = Status.OK  # as in `pairing`


class Addressing(NamedTuple):
    """How the two sides are named in a request."""

    stable: Choice
    canary: Choice


def addressing(rollout: Rollout) -> Addressing:
    """By label while SHADOWING, as users do; by number from the first flip on, when a label may move under a pair.

    In observe mode nobody has set a canary label for us, so always by number; and a first version has no
    stable beside it, so both sides ask for it. A canary that has a name of its own is asked by that name.
    """
    untouched = not rollout.promoted and Phase.SHADOWING in (rollout.phase, rollout.held_from)
    by_label = rollout.mode is Mode.ENFORCE and rollout.clients is Clients.LABEL and untouched and not rollout.first
    if named_apart(rollout):
        apart = Elsewhere(second_name(rollout.model), rollout.new)
        return Addressing("stable" if by_label else rollout.old, apart)
    return Addressing("stable", "canary") if by_label else Addressing(rollout.old, rollout.new)


def current(rollout: Callable[[], Rollout]) -> Callable[[], Addressing]:
    """The addressing of a rollout that goes on: asked twice for each pair, worked out once for each state of it."""
    known: Rollout | None = None
    address = Addressing(0, 0)

    def now() -> Addressing:
        nonlocal known, address
        if (latest := rollout()) is not known:
            known, address = latest, addressing(latest)
        return address

    return now


def set_aside_because(
    stable: Outcome, canary: Outcome, expected: tuple[int, int], known: tuple[int, int], *, moved: bool
) -> str | None:
    """Why this pair proves nothing, or None when it counts.

    `known` are the rollout's versions; `moved` says that the addressing changed
    while it was out. A side that failed names no version: it counts only as
    long as its address cannot have moved.
    """
    sides = stable, canary
    timed = 0.0 <= stable.seconds < math.inf and 0.0 <= canary.seconds < math.inf
    if stable.status is canary.status is _OK and (stable.version, canary.version) == expected and timed:
        return None  # nearly all of them: the rest need not be fast
    if any(side.status is Status.EXHAUSTED for side in sides):
        return "exhausted"
    if all(side.status is Status.INVALID for side in sides):
        return "invalid"
    if any(side.status is Status.NOT_FOUND for side in sides):
        return "not_found"
    if not timed:
        return "bad_timing"
    for side, version in zip(sides, expected, strict=True):
        if side.status is Status.OK and side.version != version:
            return "straddled" if side.version in known else "wrong_version"
        if side.status is not Status.OK and moved:
            return "straddled"
    return None
