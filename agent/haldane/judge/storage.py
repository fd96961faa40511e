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


Shelf = Mapping[int, Stored]  # by version: all that one base path holds


def version_of(name: str) -> int | None:
    """The version a directory of that name holds, as Serving reads it: any whole integer, with leading zeros too."""
    try:
        return int(name) if name.strip("+-").isdecimal() else None
    except ValueError:
        return None


def listed(before: Shelf, found: Mapping[int, Files | None], at: float) -> Shelf:
    """The shelf after a listing at `at` (seconds)."""
    same = {version for version, files in found.items() if version in before and before[version].files == files}
    return {v: before[v] if v in same else Stored(files, at) for v, files in found.items()}


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
    seen = [view for memory in memories for model, view in _models(memory) if _path(memory, model) == path]
    loaded = {version for view in seen for version in view.loaded}
    moving = {status.version for view in seen for status in view.versions if _moving(status)}
    return lambda found: ({*found} & moving) | ({max(found)} - loaded if found else set())


def noticed(memory: Memory, entries: Mapping[ModelName, ModelEntry], shelves: Mapping[str, Shelf], at: float) -> Memory:
    """The memory beside what storage holds. `entries`: what the server's config says; `shelves` by base path."""
    incomplete: dict[Key, Since] = {}
    unserved: dict[Key, Since] = {}
    for model, seen in () if memory.unseen else _models(memory):
        entry = (memory.expected or {}).get(model) or entries.get(model)
        shelf = shelves.get(_path(memory, model), {})
        if entry is None or entry.platform != "tensorflow" or not _same_place(seen, shelf):
            continue
        for version, stored, due in _asked_for(seen, entry, shelf):
            key = (model, version)
            if stored.files is None:
                continue
            if lacking := lacks(stored.files):
                since = max(stored.since, memory.incomplete.get(key, Since(0.0)).at)
                incomplete[key] = Since(since, f"{_path(memory, model)}/{version} {lacking}; is the upload complete?")
            elif due:
                detail = f"storage holds it, complete, and nothing tries to load it; {_serves(seen)}"
                unserved[key] = Since(memory.unserved.get(key, Since(at)).at, detail)
    return replace(memory, incomplete=incomplete, unserved=unserved)


def _asked_for(seen: ModelView, entry: ModelEntry, shelf: Shelf) -> Iterator[tuple[int, Stored, bool]]:
    """Versions a server tries to load, or by its policy should; the last word: it should, and does not try."""
    for version, stored in sorted(shelf.items()):
        status = seen.status(version)
        due = (
            entry.policy is not Policy.SPECIFIC
            and version == max(shelf)
            and all(version > other for other in seen.loaded)
            and (status is None or (status.availability is Availability.END and not status.failed))
        )
        if due or (status is not None and _moving(status)):
            yield version, stored, due


def _same_place(seen: ModelView, shelf: Shelf) -> bool:
    """Whether what is listed here is what the server reads: else the same path is another disk there."""
    return not seen.loaded or any(version in shelf for version in seen.loaded)


def _serves(seen: ModelView) -> str:
    return f"the newest that serves is {max(seen.loaded)}" if seen.loaded else "no version serves"


def _moving(status: VersionStatus) -> bool:
    return status.availability in (Availability.START, Availability.LOADING)


def _models(memory: Memory) -> Iterable[tuple[ModelName, ModelView]]:
    return memory.view.models.items() if memory.view else ()


def _path(memory: Memory, model: ModelName) -> str:
    return memory.paths.get(model, "").rstrip("/")
