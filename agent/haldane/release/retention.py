"""Which versions may go: a pure choice, with a reason for each."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from haldane.release.shelf import State


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to become of one version, and why, as the end of a sentence about it."""

    version: int
    delete: bool
    why: str


def choose(
    states: Mapping[int, State],
    in_use: Mapping[int, Sequence[str]],
    *,
    keep: int,
    placed: Collection[int],
    abandoned: Collection[int],
) -> list[Choice]:
    """One choice for every version of which something is there, the oldest first.

    Stays: the `keep` newest that are published, what is `in_use` (version -> reasons),
    and what nobody published, for it is not ours. `placed` are the versions of which
    files lie where Serving looks, `abandoned` those whose publisher has long been silent.
    """
    newest = sorted((version for version, state in states.items() if state is State.PUBLISHED), reverse=True)[:keep]
    return [
        _choice(version, state, in_use.get(version, ()), newest, abandoned)
        for version, state in sorted(states.items())
        if state is not State.DELETED or version in placed
    ]


def _choice(
    version: int, state: State, uses: Sequence[str], newest: Sequence[int], abandoned: Collection[int]
) -> Choice:
    if uses:
        return Choice(version, False, "; ".join(uses))
    match state:
        case State.UNKNOWN:
            return Choice(version, False, "nobody published it, so it is not ours to delete")
        case State.DELETED:
            return Choice(version, True, "its deletion was begun and not ended")
        case State.UNFINISHED if version in abandoned:
            return Choice(version, True, "its publisher did not end within a day")
        case State.UNFINISHED:
            return Choice(version, False, "its publisher may still be at work")
    if version in newest:
        return Choice(version, False, "the newest" if len(newest) == 1 else f"one of the {len(newest)} newest")
    than = "the newest" if len(newest) == 1 else f"the {len(newest)} newest"
    return Choice(version, True, f"older than {than}, and nobody uses it")
