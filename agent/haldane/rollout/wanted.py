"""Wanted: the whole config one server should have, composed purely.

Wanted = base config + the stable version of each watched model + every live
rollout. It is never built from what a server says, so a lost reply, a crash or
a restarted server changes nothing of it; a rollback is a change rendered into
the current Wanted, never a stored config.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from haldane.domain.fleet import Clients, ModelEntry, ModelName, Policy, ServerConfig, ServerName
from haldane.domain.rollout import Phase, Rollout

STABLE = "stable"
CANARY = "canary"

_CANARY_LOADED = (Phase.LOADING, Phase.SHADOWING, Phase.RAMPING, Phase.PROMOTING, Phase.BAKING)


@dataclass(frozen=True, slots=True)
class Watched:
    """A model we look after: the version users get at rest, and how they ask for it."""

    stable: int
    clients: Clients
    provable: bool = True  # a golden request is at hand, so that even stable must answer it before it is labelled
    released: bool = True  # False: `stable` is the model's first version and has not passed yet, so nobody gets it


def stable_of(entry: ModelEntry) -> int | None:
    """The version a base entry means users to get: its `stable` label, or its only version; None when unclear."""
    if STABLE in entry.labels:
        return entry.labels[STABLE]
    if entry.policy is Policy.SPECIFIC and len(entry.versions) == 1:
        return entry.versions[0]
    return None


def compose(
    base: ServerConfig, watched: Mapping[ModelName, Watched], rollouts: Iterable[Rollout], server: ServerName
) -> ServerConfig:
    """The config that server should have now. KeyError when a watched model is not in the base config."""
    config = base
    live = {rollout.model: rollout for rollout in rollouts if server in rollout.servers}
    for model, at_rest in watched.items():
        entry = base.entry(model)
        if entry is None:
            raise KeyError(model)
        config = config.with_entry(_entry(entry, at_rest, live.get(model), server))
    return config


def _entry(entry: ModelEntry, at_rest: Watched, rollout: Rollout | None, server: ServerName) -> ModelEntry:
    """One watched model on one server. Labels that are not ours stay, and so do the versions they name."""
    foreign = {label: version for label, version in entry.labels.items() if label not in (STABLE, CANARY)}
    versions, labels = _share(at_rest, rollout, server) if at_rest.released else _first(entry, rollout, server)
    return entry.serving((*versions, *foreign.values()), {**foreign, **labels})


def _share(at_rest: Watched, rollout: Rollout | None, server: ServerName) -> tuple[tuple[int, ...], dict[str, int]]:
    """Our versions and labels on one server."""
    if rollout is None or standing(rollout) not in _CANARY_LOADED:
        stable = rollout.old if rollout else at_rest.stable
        return (stable,), {STABLE: stable} if at_rest.clients is Clients.LABEL else {}
    promoted = server in rollout.promoted
    both = (rollout.old, rollout.new)
    if rollout.clients is Clients.LABEL:
        return both, {STABLE: rollout.new if promoted else rollout.old, CANARY: rollout.new}
    # Unversioned clients get the highest version loaded: loading is promoting.
    return (both if promoted or server in rollout.dedicated else (rollout.old,)), {}


def _first(entry: ModelEntry, rollout: Rollout | None, server: ServerName) -> tuple[tuple[int, ...], dict[str, int]]:
    """A model none of whose versions has passed yet: what its file has stays loaded, and is labelled when it has."""
    if rollout is None or standing(rollout) not in _CANARY_LOADED:
        return entry.versions, {}
    stable = {STABLE: rollout.new} if server in rollout.promoted else {}
    return (*entry.versions, rollout.new), {CANARY: rollout.new, **stable}


def standing(rollout: Rollout) -> Phase:
    """The phase whose config holds: a held rollout keeps that of the phase it was held from."""
    return (rollout.held_from or rollout.phase) if rollout.phase is Phase.HELD else rollout.phase
