"""What was found out about one message holds for the next one that is laid out like it.

Answers of one version to requests of one shape have their fields at the same
places, and differ only in what their tensors hold. So what costs something to
find out is kept by the bytes that stand around it.
"""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

Part = tuple[int, bytes]  # what stands at a place


class _Known(NamedTuple, Generic[T]):
    parts: tuple[Part, ...]
    finding: T


class Alike(Generic[T]):
    """Findings by length of a message and the parts of it that say so much.

    Bounded: so many lengths, and of each so many kinds, which are a few versions of a few models.
    """

    def __init__(self, lengths: int = 64, kinds: int = 4) -> None:
        self._lengths, self._kinds = lengths, kinds
        self._known: dict[int, list[_Known[T]]] = {}  # newest first; a list is never changed

    def __getitem__(self, data: bytes) -> T:
        """Of an earlier message of the same length and parts. KeyError when there was none."""
        for parts, finding in self._known[len(data)]:
            for place, part in parts:
                if not data.startswith(part, place):
                    break
            else:
                return finding
        raise KeyError

    def keep(self, data: bytes, parts: Sequence[Part], finding: T) -> None:
        """`finding` is so of every message of this length with these parts; of one that lacks them nothing is kept."""
        if all(data.startswith(part, place) for place, part in parts):
            if len(self._known) >= self._lengths:
                self._known.clear()
            kinds = self._known.get(len(data), [])
            self._known[len(data)] = [_Known(tuple(parts), finding), *kinds[: self._kinds - 1]]
