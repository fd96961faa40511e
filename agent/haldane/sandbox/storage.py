"""Which versions should be served: names of directories, policies, polling.

Source: sources/storage_path/file_system_storage_path_source.cc.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from haldane.sandbox import log
from haldane.sandbox.servable import StatusError

_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*", re.ASCII)

Aspire = Callable[[str, Sequence[tuple[int, str]]], None]


def version_number(name: str) -> int | None:
    """The version that a directory of this name holds, or None: any signed 64-bit decimal counts ("007" is 7)."""
    match = _INTEGER.fullmatch(name)
    if not match:
        return None
    value = int(match[1])
    return value if -(2**63) <= value < 2**63 else None


@dataclass(frozen=True, slots=True)
class Watched:
    """One model's base path and version policy (a FileSystemStoragePathSourceConfig.ServableVersionPolicy)."""

    name: str
    base_path: str
    policy: Any


def local_path(base_path: str) -> Path:
    """The local directory that a base path names; StatusError UNIMPLEMENTED for other file systems."""
    scheme, separator, rest = base_path.partition("://")
    if not separator:
        return Path(base_path)
    if scheme == "file":
        return Path(rest)
    raise StatusError(
        grpc.StatusCode.UNIMPLEMENTED, f"File system scheme '{scheme}' not implemented (file: '{base_path}')"
    )


def aspired_versions(watched: Watched) -> list[tuple[int, str]]:
    """(version, directory) of every version that the policy wants and the disk holds.

    With policy `all` a number may occur twice ("2" and "002"); the manager takes
    the first. StatusError when the base path cannot be listed.
    """
    base = local_path(watched.base_path)
    if not _exists(base):
        raise StatusError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"Could not find base path {watched.base_path} for servable {watched.name} with error "
            f"NOT_FOUND: {watched.base_path} not found",
        )
    try:
        names = sorted(child.name for child in base.iterdir())
    except OSError as failure:
        code = grpc.StatusCode.FAILED_PRECONDITION
        raise StatusError(code, f"{watched.base_path}; {failure.strerror}") from failure
    found = [(version, name) for name in names if (version := version_number(name)) is not None]
    chosen = _by_policy(watched, found)
    if not chosen:
        log.warning(
            f"No versions of servable {watched.name} found under base path {watched.base_path}. Did you forget to name "
            "your leaf directory as a number (eg. '/1/')?"
        )
    return [(version, os.path.join(base, name)) for version, name in chosen]  # noqa: PTH118 - text as in Serving


def _exists(path: Path) -> bool:
    # Path.exists() lets some errors through (a name too long, no permission), which must not end the polling.
    return os.path.exists(path)  # noqa: PTH110


def _by_policy(watched: Watched, found: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    choice = watched.policy.WhichOneof("policy_choice")
    if choice == "all":
        return list(found)
    by_version = _index(found)
    if choice == "specific":
        return _specific(watched, by_version)
    highest = sorted(by_version, reverse=True)[: max(watched.policy.latest.num_versions, 1)]
    return [(version, by_version[version]) for version in highest]


def _specific(watched: Watched, by_version: dict[int, str]) -> list[tuple[int, str]]:
    chosen = []
    for version in sorted(set(watched.policy.specific.versions)):
        if version in by_version:
            # A directory that spells the number plainly comes before "007".
            plain = str(version)
            exists = _exists(local_path(watched.base_path) / plain)
            chosen.append((version, plain if exists else by_version[version]))
        else:
            log.warning(
                f"Version {version} of servable {watched.name}, which was requested to be served as a 'specific' "
                "version in the servable's version policy, was not found in the file system"
            )
    return chosen


def _index(found: Sequence[tuple[int, str]]) -> dict[int, str]:
    by_version: dict[int, str] = {}
    for version, name in found:
        if version in by_version:
            log.warning(
                f"Duplicate version directories detected. Version {version} will be loaded from {name}, "
                f"{by_version[version]} will be ignored."
            )
        by_version[version] = name
    return by_version


class StorageSource:
    """Polls base paths and says, per model, which versions to aspire to.

    One base path that cannot be listed aborts the whole poll: no model gets news.
    `poll_seconds` 0 means one poll at the start, a negative number none at all.
    """

    def __init__(self, aspire: Aspire, *, poll_seconds: float, watched: Iterable[Watched] = ()) -> None:
        self._aspire = aspire
        self._poll_seconds = poll_seconds
        self._lock = threading.Lock()  # held by a poll and by an update, as in Serving
        self._watched = tuple(watched)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def names(self) -> frozenset[str]:
        return frozenset(watched.name for watched in self._watched)

    def update(self, watched: Iterable[Watched]) -> None:
        """Watch these models from the next poll on; models left out are un-aspired now."""
        fresh = tuple(watched)
        with self._lock:
            for name in sorted(self.names - {item.name for item in fresh}):
                self._aspire(name, ())
            self._watched = fresh

    def start(self) -> None:
        if self._poll_seconds >= 0:
            self._thread = threading.Thread(target=self._run, name="storage_poll", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """No poll after this one."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            started = time.monotonic()
            self.poll()
            if self._poll_seconds == 0:
                return
            self._stopped.wait(max(0.0, self._poll_seconds - (time.monotonic() - started)))

    def poll(self) -> None:
        """Look once, then tell of all models or, on any failure, of none."""
        with self._lock:
            try:
                found = [(watched.name, aspired_versions(watched)) for watched in self._watched]
            except StatusError as failure:
                log.error(f"FileSystemStoragePathSource encountered a filesystem access error: {failure.message}")
                return
            for name, versions in found:
                self._aspire(name, versions)
