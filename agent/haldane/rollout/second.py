"""A canary under a name of its own: how a server is given that name, and how it loses it.

A reload that names a model the server does not have yet holds the server's only reload lock until that model has
settled; of a broken version that is minutes, in which nobody's rollback is heard. So the name is introduced with the
version that serves under the model's own name, which is known to load there, and only then moved to the new one: for
a name that is known a reload waits for nothing. Source: server_core.cc, HandleReloadConfigRequest and
WaitUntilModelsAvailable; docs/design/serving-traps.md, trap 6.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from haldane.domain.fleet import Availability, ModelEntry, ModelName, ModelView, Placement
from haldane.domain.rollout import Mode, Phase, Rollout
from haldane.rollout.wanted import has_second_name, second_name

_THERE = (Availability.LOADING, Availability.AVAILABLE)


@dataclass(frozen=True, slots=True)
class Second:
    """A second name that a rollout may give or has given: whose, with which version it is introduced and which follows.

    `waits`: why it may not be introduced now, or "".
    """

    model: ModelName
    stable: int
    new: int
    waits: str = ""


def seconds(
    live: Iterable[Rollout], unread: Callable[[Rollout], bool], ended: Iterable[Rollout] = ()
) -> dict[ModelName, Second]:
    """All that may be on a server, those to be taken away too, by name.

    `live`: the rollouts of that server. `unread`: the files of a rollout's new version have not been compared yet.
    `ended`: the last of each model: a reload whose answer was lost may land after its end.
    """
    changing = [rollout for rollout in live if rollout.mode is Mode.ENFORCE]
    named = [(rollout, "") for rollout in ended]
    named += [(rollout, _waits(rollout, changing, unread)) for rollout in changing]
    return {
        second_name(one.model): Second(one.model, one.old, one.new, waits)
        for one, waits in named
        if has_second_name(one)
    }


def _waits(rollout: Rollout, live: Iterable[Rollout], unread: Callable[[Rollout], bool]) -> str:
    if unread(rollout):
        return f"the files of version {rollout.new} have not been compared with their manifest yet"
    for other in live:
        if other.id != rollout.id:
            return f"rollout {other.id} is live there too, and its rollback must find the server's reload lock free"
    return ""


def introduced(entry: ModelEntry, seen: ModelView, own: ModelView, second: Second) -> ModelEntry | None:
    """The part of a second name's wanted entry that can be asked for now; None: nothing of it yet.

    `seen` is the second name on that server, `own` the model there. That the version which introduces it serves
    there shows that its path can be read.
    """
    if seen.loaded:
        there = any(seen.available(version) for version in entry.versions)
        return entry if there else entry.serving((*entry.versions, *seen.loaded), {})
    states = [status.availability for status in seen.versions]
    begun = any(state in _THERE for state in states)  # the lock is held still: nothing else is sent
    leaving = Availability.UNLOADING in states  # a name that comes back too soon is reported as failed
    if not own.available(second.stable) or (not begun and (second.waits or leaving)):
        return None
    return entry.serving((second.stable,), {})


def left(seen: ModelView, second: Second, *, given_up: bool) -> list[str]:
    """What is still to go of a second name that is not wanted, in words; `given_up` as in the planner.

    One that has other versions than the rollout's is not what it left behind.
    """
    going = (Availability.AVAILABLE,) if given_up else _THERE
    there = [status.version for status in seen.versions if status.availability in going]
    ours = {*there} <= {second.stable, second.new}
    return [f"version {version} should be unloaded" for version in there] if ours else []


def missing(rollout: Rollout, seen: ModelView) -> str:
    """What is missing still under the second name, or ""."""
    name = second_name(rollout.model)
    if not seen.available(rollout.new):
        return f"version {rollout.new} is not available as {name} yet"
    return "" if rollout.new in seen.proven else f"version {rollout.new} is not proven as {name} yet"


def refusal(placement: Placement, live: Iterable[Rollout]) -> str:
    """Why a rollout that changes servers must not start beside those, or "": one introduces a name alone."""
    for other in live:
        if other.mode is not Mode.ENFORCE:
            continue
        if placement is Placement.SECOND_NAME:
            return (
                f"its canary gets a name of its own, and while a server takes that up no other reload is heard there:"
                f" rollout {other.id} is {other.phase}; wait for its end, or abort it"
            )
        if has_second_name(other) and other.phase in (Phase.PENDING, Phase.LOADING):
            return (
                f"rollout {other.id} gives its canary a name of its own, and no other reload is heard meanwhile; start"
                " it when that one is SHADOWING"
            )
    return ""
