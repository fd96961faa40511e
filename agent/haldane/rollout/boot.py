"""What servers boot with: every model on the version that users get at rest. Pure.

It differs from what servers hold on purpose. A canary is never in it, and a promotion only after its bake, so a
server that restarts serves nothing that was not judged. Who else writes there is never fought: only a version that
we know to have stood there before is replaced.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from haldane.domain.fleet import ModelEntry, ModelName, ServerConfig
from haldane.rollout.wanted import CANARY, STABLE, Watched, stable_of


@dataclass(frozen=True, slots=True)
class Booting:
    """What is to be written, as (the version now, the entry to be), and what is left alone, a sentence each."""

    write: tuple[tuple[int, ModelEntry], ...] = ()
    left: tuple[str, ...] = ()


def at_rest(entry: ModelEntry, stable: int) -> ModelEntry:
    """That entry with users on `stable` and without a canary.

    No label is added: a server that lacks --allow_version_labels_for_unavailable_models would not start on it. Other
    labels stay, and the versions they name.
    """
    labels = {label: version for label, version in entry.labels.items() if label != CANARY}
    if STABLE in labels:
        labels[STABLE] = stable
    return entry.serving((stable, *labels.values()), labels)


def booting(
    now: ServerConfig,
    base: ServerConfig,
    watched: Mapping[ModelName, Watched],
    declared: Mapping[ModelName, int],
    written: Mapping[ModelName, int],
) -> Booting:
    """`now` is what stands there, `written` the versions that we put there last, `declared` those of the config."""
    write, left = [], []
    for model, rest in watched.items():
        entry, known = now.entry(model), base.entry(model)
        if not rest.released or known is None:
            continue
        if entry is None:
            left.append(f"model {model} is not in it")
        elif entry.base_path.rstrip("/") != known.base_path.rstrip("/"):
            left.append(f"{model}: its base_path is {entry.base_path}; in the agent's config it is {known.base_path}")
        elif (version := stable_of(entry)) is None:
            left.append(f"{model}: it does not say which one version users get; use specific, or a label stable")
        elif version != rest.stable:
            known_before = {declared.get(model), written.get(model)} - {None}
            if version in known_before and written.get(model) != rest.stable:
                write.append((version, at_rest(entry, rest.stable)))
            else:
                left.append(f"{model}: somebody put version {version} there, and stable is {rest.stable}; it stays")
    return Booting(tuple(write), tuple(left))
