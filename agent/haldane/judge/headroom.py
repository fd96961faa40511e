"""Whether a server has room for one more version, from what is known of both. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from haldane.domain.fleet import ServerName
from haldane.domain.release import Profile
from haldane.judge.verdict import quantity

# Serving's own estimate, by which it keeps to --total_model_memory_limit_bytes: RAM is 1.2 times the bytes of all
# files. Source: EstimateResourceFromPath, servables/tensorflow/bundle_factory_util.cc.
PER_BYTE_ON_DISK = 1.2
MOST_UNLIKE = 2


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that loading a version takes, and how that is known, in words."""

    size: float
    how: str


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier version that was measured when it was validated; bytes."""

    version: int
    memory_bytes: int
    size_on_disk: int

    def is_like(self, size_on_disk: int) -> bool:
        """At most twice as large, or half: what any model takes says nothing of one a hundred times the size."""
        return self.size_on_disk <= MOST_UNLIKE * size_on_disk and size_on_disk <= MOST_UNLIKE * self.size_on_disk


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that a server's process may use, and uses now; `used` None: not known, `why` says why."""

    limit: float
    used: float | None
    why: str = ""


def need_of(profile: Profile | None, size_on_disk: int | None, earlier: Earlier | None = None) -> Need | None:
    """What was measured when the version was validated; else as an earlier one, byte for byte; else Serving's estimate.

    None when not even the size of its files is known.
    """
    if profile is not None and profile.memory_bytes:
        return Need(profile.memory_bytes, "as measured when it was validated")
    if size_on_disk and earlier is not None and earlier.is_like(size_on_disk):
        ratio = earlier.memory_bytes / earlier.size_on_disk
        return Need(ratio * size_on_disk, f"{ratio:.3g} times its files, as measured of version {earlier.version}")
    if size_on_disk:
        return Need(PER_BYTE_ON_DISK * size_on_disk, "by Serving's own estimate, 1.2 times its files")
    return None


def headroom(version: int, need: Need, rooms: Mapping[ServerName, Room]) -> tuple[list[str], list[str]]:
    """One sentence a server: those without room for it, and those with room or without data."""
    short, told = list[str](), list[str]()
    for server, room in rooms.items():
        if room.used is None:
            told.append(f"{server}: no data: {room.why}")
            continue
        free = max(0.0, room.limit - room.used)
        says = f"version {version} needs {_size(need.size)} ({need.how}), {_size(free)} of {_size(room.limit)} are free"
        (short if need.size > free else told).append(f"{server}: {says}")
    return short, told


def _size(value: float) -> str:
    return quantity(value, "bytes")
