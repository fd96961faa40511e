"""Wanted: the whole config one server should have, composed purely.

Wanted = base config + the stable version of each watched model + every live
rollout. It is never built from what a server says, so a lost reply, a crash or
a restarted server changes nothing of it; a rollback is a change rendered into
the current Wanted, never a stored config.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from haldane.domain.fleet import Clients, ModelEntry, ModelName, Placement, Policy, ServerConfig, ServerName
from haldane.domain.rollout import Mode, Phase, Rollout

STABLE = "stable"
CANARY = "canary"

# What the entry of a canary's own name ends in.
SECOND = "_canary"

_CANARY_LOADED = (Phase.LOADING, Phase.SHADOWING, Phase.RAMPING, Phase.PROMOTING, Phase.BAKING)

# Not while baking: every server then has both versions under the model's own name, and the copy is in the way.
_NAMED_APART = (Phase.LOADING, Phase.SHADOWING, Phase.PROMOTING)


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


def at_rest(declared: int, settled: tuple[int, int] | None, *, declared_at: float, moved_at: float) -> int:
    """A model's stable version when an agent begins: what the config declares, or what rollouts made of it since.

    `settled`: the version that the last rollout left stable, and what was declared to it. A config that declares
    another one now is the newer word only where it was written (`declared_at`) after that rollout's end (`moved_at`;
    both on one clock): it may be what a standby read long ago, or a file that has yet to follow, and going by that
    would take every server back to a version that was left behind, unjudged.
    """
    if settled is None:
        return declared
    stable, was_declared = settled
    return declared if was_declared != declared and declared_at > moved_at else stable


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
        if model in live and named_apart(live[model]):
            apart = replace(entry.serving((live[model].new,), {}), name=second_name(model))
            config = ServerConfig((*config.models, apart))
    return config


def second_name(model: ModelName) -> ModelName:
    """What a canary of that model is called where it has a name of its own."""
    return ModelName(model + SECOND)


def has_second_name(rollout: Rollout) -> bool:
    """Its canary has, had or will have a name of its own: that entry is ours for as long as the rollout is live.

    A model's first version has no stable one beside it, and a revert no canary.
    """
    apart = rollout.placement is Placement.SECOND_NAME and rollout.mode is Mode.ENFORCE
    return apart and not rollout.first and rollout.reverts is None


def named_apart(rollout: Rollout) -> bool:
    """Its canary should have its own name now."""
    return has_second_name(rollout) and standing(rollout) in _NAMED_APART


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
    if has_second_name(rollout):
        stable = rollout.new if promoted else rollout.old
        labels = {STABLE: stable} if rollout.clients is Clients.LABEL else {}
        return (both if promoted else (rollout.old,)), labels
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
