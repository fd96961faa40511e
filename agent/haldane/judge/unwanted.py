"""Where a server differs from what somebody here decided: versions and labels not as wanted, and how long so.

Pure. Belongs to `judge.memory`, which keeps what is found here from look to look.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from haldane.domain.fleet import Availability, ModelEntry, ModelName, ModelView, ReplicaView, VersionStatus

K = TypeVar("K")
Key = tuple[ModelName, int]
LabelKey = tuple[ModelName, str, int | None]  # of model and label; the version it should name, None: none
Expected = Mapping[ModelName, ModelEntry]  # entries whose versions and labels somebody here decides

LOADED = "was loaded, but nothing here asked for it"
_LEAVING = (Availability.UNLOADING, Availability.END)


@dataclass(frozen=True, slots=True)
class Spell:
    """Something that may come and go, as when Serving polls a file that says otherwise: first and last seen."""

    first: float
    last: float
    detail: str


def statuses(view: ReplicaView) -> Iterable[tuple[Key, VersionStatus]]:
    """Every version of a view."""
    return (((model, status.version), status) for model, seen in view.models.items() for status in seen.versions)


def expects(expected: Expected | None, key: Key) -> bool:
    """False only when it is known that this version should not be there."""
    model, version = key
    return expected is None or model not in expected or version in expected[model].versions


def unapproved(view: ReplicaView, expected: Expected | None) -> Iterable[Key]:
    """Versions loaded that should not be, for as long as they are."""
    for model, seen in view.models.items():
        if expected is not None and model in expected:
            yield from ((model, version) for version in seen.loaded if version not in expected[model].versions)


def came_unasked(
    kept: Mapping[Key, Spell],
    before: ReplicaView,
    view: ReplicaView,
    *,
    wanted: tuple[Expected | None, Expected | None],
    at: float,
) -> Mapping[Key, Spell]:
    """Versions that came into a running process unasked, at the look before and at this; `detail` once loaded.

    Told though they are gone soon, as where the agent sends its config again. Those that a process starts with are
    not among them: after a restart Serving's own file holds for a moment.
    """
    known = dict(statuses(before))
    found = dict(kept)
    for key, status in statuses(view):
        if any(expects(one, key) for one in wanted) or status.availability in _LEAVING:
            continue
        listed = {version for name, version in known if name == key[0]}
        same_process = listed <= {other.version for other in view.models[key[0]].versions}
        came = same_process and (key not in known or known[key].availability in _LEAVING)
        if key in kept or came:
            spell = kept.get(key, Spell(at, at, ""))
            serves = LOADED if status.availability is Availability.AVAILABLE else spell.detail
            found[key] = Spell(spell.first, at, serves)
    return found


def labels_off(view: ReplicaView, expected: Expected | None) -> Iterable[tuple[LabelKey, str]]:
    """Labels that name another version than they should, though that one could answer.

    A label that resolves to nothing is dangling instead, unless it should name a version that is there.
    """
    for model, entry in (expected or {}).items():
        seen = view.models.get(model, ModelView())
        for label in sorted({*entry.labels, *seen.labels}):
            want, now = entry.labels.get(label), seen.labels.get(label)
            waiting = want is not None and (not seen.available(want) or want in seen.unproven_because)
            if want != now and not waiting:
                says = f"label {label} should {'not be set' if want is None else f'name {want}'}"
                yield (model, label, want), f"{says}, but {'is not set' if now is None else f'names {now}'}"


def missing(view: ReplicaView, expected: Expected | None) -> Iterable[tuple[Key, str]]:
    """Versions that should be there and that the server neither has nor tries to load."""
    for model, entry in (expected or {}).items():
        seen = view.models.get(model, ModelView())
        for version in entry.versions:
            status = seen.status(version)
            if status is None or (status.availability in _LEAVING and not status.failed):
                yield (model, version), f"version {version} should be loaded, but is {_plain(status)}"


def _plain(status: VersionStatus | None) -> str:
    return "not known there: no such directory, or another config" if status is None else status.availability.value


def wanted_labels(expected: Expected | None) -> Callable[[LabelKey], bool]:
    """Whether a label is still wanted so."""
    return lambda key: key[0] in (expected or {}) and (expected or {})[key[0]].labels.get(key[1]) == key[2]


def wanted_versions(expected: Expected | None) -> Callable[[Key], bool]:
    """Whether a version is still wanted."""
    return lambda key: key[0] in (expected or {}) and key[1] in (expected or {})[key[0]].versions


def spells(
    before: Mapping[K, Spell], now: Mapping[K, str], wanted: Callable[[K], bool], at: float, linger: float
) -> Mapping[K, Spell]:
    """Spells go on over pauses shorter than `linger`, for as long as the same is wanted."""
    kept = {key: spell for key, spell in before.items() if wanted(key) and at - spell.last < linger}
    return kept | {key: Spell(kept[key].first if key in kept else at, at, why) for key, why in now.items()}
