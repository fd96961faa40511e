"""The releases of one model in a storage: how they lie there, and how a version is taken in.

    MODEL/5/                  the version, as Serving reads it
    MODEL/.haldane/5.yaml     what is known of it; whoever makes this file owns the number
    MODEL/.haldane/5.sha256   its files, as sha256sum writes them
    MODEL/.haldane/5.golden   requests, and how it answered them when it was validated
    MODEL/.haldane/5.deleted  why the version is gone; its number is never given again

Serving takes no notice of names that are no number. The order is always: claim
the number, write the manifest, stage the files, prove them, and only then put
them where Serving looks. So what Serving sees has a manifest, and a publisher
that dies leaves a number unused and nothing else.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from haldane.domain.release import Profile
from haldane.judge.storage import version_of
from haldane.ports import Malformed, Refused
from haldane.release.answers import Answered, from_lines, to_lines
from haldane.release.manifest import parse, text_of
from haldane.release.storage import LAST, Storage

KEPT = ".haldane"
_PIECE = 2**20
MOST_VERSION = 2**63 - 1  # an int64 on the wire
_PART = re.compile(r"(?!\d+$)[A-Za-z0-9_][A-Za-z0-9_.-]*")  # a folder that is all digits would be a version


class Release(BaseModel):
    """What is known of one version since it was published. Stored as YAML; times are UTC, ISO 8601."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_number: Literal[1] = 1
    model: str
    version: int
    digest: str  # SHA-256 of its manifest's text: one name for exactly these files
    size_bytes: int
    files: int
    published_at: str
    published_by: str
    golden: str = ""  # SHA-256 of the requests and answers recorded with it, "" without any
    profile: Profile | None = None  # what it took when it was validated
    checks: dict[str, str] = {}  # what it was validated by -> what was found
    metadata: dict[str, Any] = {}  # the publisher's own: owner, data version, parameters


class State(StrEnum):
    """Where one version number stands."""

    PUBLISHED = "published"
    UNFINISHED = "unfinished"  # its publisher has not ended, or died
    DELETED = "deleted"
    UNKNOWN = "unknown"  # a version nobody published: there is no record of it


@dataclass(frozen=True, slots=True)
class Shelf:
    """One model's folder. Unavailable when the storage fails, Malformed when what it holds is not ours any more."""

    storage: Storage
    model: str

    def __post_init__(self) -> None:
        if not all(_PART.fullmatch(part) for part in self.model.split("/")):
            raise Refused(self.model, "no model's name: letters, digits, '_', '.', '-', and '/' between parts")

    def states(self) -> dict[int, State]:
        """Every number that was ever given or seen, in order."""
        noted = self.storage.children(f"{self.model}/{KEPT}")
        stems: dict[str, set[int]] = {"yaml": set(), "deleted": set()}
        for name in noted:
            stem, _, kind = name.partition(".")
            if kind in stems and stem.isdecimal():
                stems[kind].add(int(stem))
        placed = self.placed()
        return {
            version: self._state(
                version, placed=version in placed, noted=version in stems["yaml"], deleted=version in stems["deleted"]
            )
            for version in sorted(placed | stems["yaml"] | stems["deleted"])
        }

    def placed(self) -> set[int]:
        """The versions of which anything lies where Serving looks."""
        names = self.storage.children(self.model)
        return {version for name in names if (version := version_of(name)) is not None}

    def _state(self, version: int, *, placed: bool, noted: bool, deleted: bool) -> State:
        # Only what is there is looked into: the numbers of years of versions are remembered.
        if noted and placed and LAST in self.storage.files(self.folder(version)):
            return State.PUBLISHED
        return State.DELETED if deleted else State.UNFINISHED if noted else State.UNKNOWN

    def published(self) -> list[int]:
        """The versions that may be served, the newest first."""
        return sorted((version for version, state in self.states().items() if state is State.PUBLISHED), reverse=True)

    def newest(self) -> int:
        """The newest published version; Refused when there is none."""
        if not (found := self.published()):
            raise Refused(self.model, f"has no published version in {self.storage.name}")
        return found[0]

    def release(self, version: int) -> Release:
        """What is known of a version; Refused when nobody published it."""
        name = f"{self.model}/{KEPT}/{version}.yaml"
        data = self.storage.read(name)
        if data is None:
            have = ", ".join(map(str, self.states())) or "none"
            raise Refused(
                f"{self.model} {version}", f"there is no record of it in {self.storage.name}; that has {have}"
            )
        try:
            found = Release.model_validate(yaml.safe_load(data))
        except (yaml.YAMLError, ValidationError) as error:
            raise Malformed(f"{self.storage.name}/{name}", f"is no record of a release: {error}") from error
        if (_last(found.model), found.version) != (_last(self.model), version):
            raise Malformed(f"{self.storage.name}/{name}", f"is the record of {found.model} {found.version}")
        return found

    def manifest(self, release: Release) -> dict[str, str]:
        """Path -> SHA-256 of each of its files; Malformed when that is not what was published."""
        name = f"{self.model}/{KEPT}/{release.version}.sha256"
        text = self.storage.read(name)
        if text is None:
            raise Malformed(f"{self.storage.name}/{name}", "is missing")
        if hashlib.sha256(text).hexdigest() != release.digest:
            raise Malformed(f"{self.storage.name}/{name}", "is not the manifest that was published: its digest differs")
        return parse(text.decode())

    def answers(self, release: Release) -> tuple[Answered, ...]:
        """The requests and answers recorded with it; Malformed when they are not what was published."""
        if not release.golden:
            return ()
        name = f"{self.model}/{KEPT}/{release.version}.golden"
        data = self.storage.read(name) or b""
        if hashlib.sha256(data).hexdigest() != release.golden:
            raise Malformed(f"{self.storage.name}/{name}", "is not what was published: its digest differs")
        return from_lines(data.decode())

    def claim(self, make: Callable[[int], Release]) -> Release:
        """The record with the next number, stored. Two at once get two numbers, and no number is given twice."""
        version = max(self.states(), default=0) + 1
        while True:
            if version > MOST_VERSION:
                raise Refused(self.model, f"{version - 1} is the last number that Serving knows")
            release = make(version)
            if self.storage.create(f"{self.model}/{KEPT}/{version}.yaml", _yaml(release)):
                return release
            version += 1

    def note(self, release: Release, manifest: Mapping[str, str], answers: Iterable[Answered] = ()) -> None:
        """Store record, manifest and golden answers of a version whose number was claimed, here or elsewhere."""
        if release.golden:
            self.storage.write(f"{self.model}/{KEPT}/{release.version}.golden", to_lines(answers).encode())
        self.storage.write(f"{self.model}/{KEPT}/{release.version}.sha256", text_of(manifest).encode())
        self.storage.write(f"{self.model}/{KEPT}/{release.version}.yaml", _yaml(release))

    def take_in(self, version: int, manifest: Mapping[str, str], fetch: Callable[[str, str], None]) -> bool:
        """Put a version where Serving looks, whole and proven; False when something lies there already.

        `fetch(path, to)` brings one file into the storage, at `to`. A file that an earlier
        version has is copied inside the storage instead. Refused when what arrived is not
        what was validated.
        """
        staged = f"{self.model}/{KEPT}/incoming-{version}-{secrets.token_hex(4)}"
        try:
            have = self._have()
            for path, digest in manifest.items():
                target = f"{staged}/{path}"
                if digest in have:
                    self.storage.copy(have[digest], target)
                    if sha256(self.storage, target) == digest:
                        continue  # or else that earlier version has been changed since
                fetch(path, target)
            if wrong := list(differences(self.storage, staged, manifest)):
                raise Refused(f"{self.model} {version}", f"arrived changed: {'; '.join(wrong)}")
            return self.storage.place(staged, self.folder(version), manifest)
        finally:
            self.storage.remove(staged)

    def _have(self) -> dict[str, str]:
        """SHA-256 -> where such a file lies, for the versions of late."""
        found: dict[str, str] = {}
        for version in self.published()[:3]:  # an older one has little in common with what is new
            try:
                files = self.manifest(self.release(version))
            except Malformed:
                continue  # `release verify` tells; here it is only of no use
            found |= {digest: f"{self.folder(version)}/{path}" for path, digest in files.items()}
        return found

    def verify(self, version: int) -> list[str]:
        """What differs between a version and what was published, in sentences; every byte of it is read."""
        return list(differences(self.storage, self.folder(version), self.manifest(self.release(version))))

    def delete(self, version: int, note: Mapping[str, str]) -> None:
        """Delete a version and what its publisher left; `note` says who and why, and is kept with its record.

        May be called again after a crash. The note comes first: a number is never free again.
        """
        text = yaml.safe_dump(dict(note), sort_keys=False, allow_unicode=True)
        self.storage.write(f"{self.model}/{KEPT}/{version}.deleted", text.encode())
        self.storage.remove(self.folder(version))
        for name in self.storage.children(f"{self.model}/{KEPT}"):
            if name.startswith(f"incoming-{version}-"):
                self.storage.remove(f"{self.model}/{KEPT}/{name}")

    def folder(self, version: int) -> str:
        return f"{self.model}/{version}"


def _last(model: str) -> str:
    """The name without its namespace, which may be part of the storage's path as well."""
    return model.rpartition("/")[2]


def differences(storage: Storage, folder: str, manifest: Mapping[str, str]) -> Iterator[str]:
    """Sentences on what the folder has more, less or other than the manifest."""
    found = set(storage.files(folder))
    for path in sorted(found | set(manifest)):
        if path not in found:
            yield f"{path} is missing"
        elif path not in manifest:
            yield f"{path} was not there when it was validated"
        elif sha256(storage, f"{folder}/{path}") != manifest[path]:
            yield f"{path} has changed"


def sha256(storage: Storage, path: str) -> str:
    digest = hashlib.sha256()
    with storage.opened(path) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _yaml(release: Release) -> bytes:
    return yaml.safe_dump(release.model_dump(mode="json"), sort_keys=False, allow_unicode=True).encode()
