"""What storage holds of a model → which versions are not all there, and which a server does not even try to load.

Pure. Serving says nothing of either: it retries a directory without a model in
silence, and a base path it cannot list keeps every model of the server from
news. Owns: when a version's files are complete, and since when they have not
changed. Leaves to `adapters.storage` the listing, to `judge.conditions` how
long something must hold to be told.

Source of the files' names: tensorflow/cc/saved_model/constants.h; shards as in
tensorflow/core/util/tensor_bundle/naming.cc.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from haldane.domain.fleet import Availability, ModelEntry, ModelName, ModelView, Policy, VersionStatus
from haldane.judge.memory import Memory, Since
from haldane.judge.unwanted import Key

SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")
_INDEX = "variables/variables.index"
_SHARD = re.compile(r"variables/variables\.data-(\d{5})-of-(\d{5})")

Files = Mapping[str, int]  # path below the version's directory -> bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """One version's directory: its files, None when not looked into, and since when it has been listed just so."""

    files: Files | None
    since: float


Shelf = dict[int, Stored]  # by version, ascending: all that one base path holds


def version_of(name: str) -> int | None:
    """The version a directory of that name holds, as Serving reads it: any whole integer, with leading zeros too."""
    try:
        return int(name) if name.strip("+-").isdecimal() else None
    except ValueError:
        return None


def listed(before: Shelf, found: Mapping[int, Files | None], at: float) -> Shelf:
    """The shelf after a listing at `at` (seconds)."""
    same = {version for version, files in found.items() if version in before and before[version].files == files}
    return {v: before[v] if v in same else Stored(files, at) for v, files in sorted(found.items())}


def lacks(files: Files) -> str:
    """What a SavedModel with these files lacks, as the end of a sentence about it, or ""."""
    model = next((name for name in SAVED_MODEL if name in files), None)
    if model is None:
        held = ", ".join(sorted(files)[:5]) or "nothing"
        return f"has no {SAVED_MODEL[0]} (it holds {held})"
    if not files[model]:
        return f"has an empty {model}"
    shards = [match.groups() for name in files if (match := _SHARD.fullmatch(name))]
    there = {(int(shard), int(total)) for shard, total in shards}
    for total in sorted({total for _, total in there}):
        if missing := [shard for shard in range(total) if (shard, total) not in there]:
            return f"lacks {len(missing)} of the {total} files of its variables"
    if bool(there) != (_INDEX in files):
        return f"has no {_INDEX}" if there else "has no variables/variables.data-* beside their index"
    return ""


def worth_a_look(memories: Iterable[Memory], path: str) -> Callable[[Collection[int]], set[int]]:
    """Which of the versions found below `path` are to be looked into: those under way, and the newest if none has it.

    Loaded versions are complete, and older ones nobody asks for, so a listing stays small.
    """
    loaded, moving = set[int](), set[int]()
    for memory in memories:
        for model in _named(memory, path):
            seen = memory.view.models.get(model, ModelView()) if memory.view else ModelView()
            loaded |= {status.version for status in seen.versions if status.availability is Availability.AVAILABLE}
            moving |= {status.version for status in seen.versions if _moving(status)}
    return lambda found: ({*found} & moving) | ({max(found)} - loaded if found else set())


def noticed(memory: Memory, entries: Mapping[ModelName, ModelEntry], shelves: Mapping[str, Shelf], at: float) -> Memory:
    """The memory beside what storage holds. `entries`: what the server's config says; `shelves` by base path."""
    incomplete: dict[Key, Since] = {}
    unserved: dict[Key, Since] = {}
    for model, seen in memory.view.models.items() if memory.view and not memory.unseen else ():
        path = _path(memory, model)
        shelf = shelves.get(path)
        entry = (memory.expected or {}).get(model) or entries.get(model)
        if not shelf or entry is None or entry.platform != "tensorflow":
            continue
        for version, stored, due in _asked_for(seen, entry, shelf):
            key = (model, version)
            if lacking := lacks(stored.files or {}):
                since = max(stored.since, memory.incomplete.get(key, Since(0.0)).at)
                incomplete[key] = Since(since, f"{path}/{version} {lacking}; is the upload complete?")
            elif due:
                detail = f"storage holds it, complete, and nothing tries to load it; {_serves(seen)}"
                unserved[key] = Since(memory.unserved.get(key, Since(at)).at, detail)
    if not incomplete and not unserved and not memory.incomplete and not memory.unserved:
        return memory
    return replace(memory, incomplete=incomplete, unserved=unserved)


def _asked_for(seen: ModelView, entry: ModelEntry, shelf: Shelf) -> Iterator[tuple[int, Stored, bool]]:
    """Versions a server tries to load, or by its policy should, and whose files are known.

    The last word: it should, and does not even try. Nothing where no version that serves lies on this shelf:
    then the same path is another disk there. Called for every model at every look, so it goes once over few values.
    """
    newest, known = next(reversed(shelf)), False
    moving: list[int] = []
    loaded: list[int] = []
    for status in seen.versions:
        if status.availability is Availability.AVAILABLE:
            loaded.append(status.version)
        elif _moving(status):
            moving.append(status.version)
        known |= status.version == newest and (status.availability is not Availability.END or status.failed)
    if loaded and not any(version in shelf for version in loaded):
        return
    due = not known and entry.policy is not Policy.SPECIFIC and all(newest > version for version in loaded)
    for version in (*moving, newest) if due else moving:
        stored = shelf.get(version)
        if stored is not None and stored.files is not None:
            yield version, stored, version not in moving


def _serves(seen: ModelView) -> str:
    return f"the newest that serves is {max(seen.loaded)}" if seen.loaded else "no version serves"


def _moving(status: VersionStatus) -> bool:
    return status.availability in (Availability.START, Availability.LOADING)


def _named(memory: Memory, path: str) -> Iterator[ModelName]:
    """The models that lie below that path, for that server."""
    return (model for model, other in memory.paths.items() if other.rstrip("/") == path)


def _path(memory: Memory, model: ModelName) -> str:
    return memory.paths.get(model, "").rstrip("/")
