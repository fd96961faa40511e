"""A validated directory becomes the next version in a storage, and a version there one on a server's disk."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from haldane.domain.release import Profile
from haldane.ports import Refused
from haldane.release.answers import Answered, to_lines
from haldane.release.manifest import Manifest
from haldane.release.shelf import Release, Shelf, State, differences
from haldane.release.storage import Disk


@dataclass(frozen=True, slots=True)
class Origin:
    """Who publishes, when (UTC), and what else is to be known of it."""

    by: str
    at: datetime
    checks: Mapping[str, str]
    metadata: Mapping[str, Any]
    answers: Sequence[Answered] = ()  # as the version gave them when it was validated
    profile: Profile | None = None


def already(shelf: Shelf, manifest: Manifest) -> Release | None:
    """The newest published version, if it holds exactly these files: a job that is run again publishes nothing."""
    newest = next(iter(shelf.published()), None)
    release = None if newest is None else shelf.release(newest)
    return release if release and release.digest == manifest.digest else None


def publish(folder: Path, manifest: Manifest, shelf: Shelf, origin: Origin) -> Release:
    """Store `folder`, whose files are those of `manifest`, under the next number.

    May be called by several at once. Unavailable when the storage fails, Refused
    when what arrived there is not what was validated; then the number stays unused.
    """

    def record(version: int) -> Release:
        return Release(
            model=shelf.model,
            version=version,
            digest=manifest.digest,
            size_bytes=manifest.size,
            files=len(manifest.files),
            published_at=origin.at.astimezone(UTC).isoformat(timespec="seconds"),
            published_by=origin.by,
            golden=hashlib.sha256(to_lines(origin.answers).encode()).hexdigest() if origin.answers else "",
            profile=origin.profile,
            checks=dict(origin.checks),
            metadata=dict(origin.metadata),
        )

    release = shelf.claim(record)
    shelf.note(release, manifest.by_path, origin.answers)

    def fetch(path: str, to: str) -> None:
        shelf.storage.upload(folder / path, to)

    if not shelf.take_in(release.version, manifest.by_path, fetch):
        where = f"{shelf.storage.name}/{shelf.folder(release.version)}"
        raise Refused(where, "something was put there meanwhile, by someone who does not publish; nothing was changed")
    return release


def sync(shelf: Shelf, disk: Disk, version: int) -> bool:
    """Bring a published version to a server's disk; False when it is there already, whole.

    May be called by several at once, and again after a crash. Refused when the
    version is not published, or something else lies in its place; Malformed when
    the storage no longer holds what was published.
    """
    release = shelf.release(version)
    if (state := shelf.states()[version]) is not State.PUBLISHED:
        raise Refused(f"{shelf.model} {version}", f"is {state} in {shelf.storage.name}")
    manifest, answers = shelf.manifest(release), shelf.answers(release)
    target = Shelf(disk, shelf.model)
    folder = target.folder(version)

    def fetch(path: str, to: str) -> None:
        local = disk.path(to)
        local.parent.mkdir(parents=True, exist_ok=True)
        shelf.storage.download(f"{shelf.folder(version)}/{path}", local)

    if not disk.path(folder).exists():
        target.note(release, manifest, answers)
        if target.take_in(version, manifest, fetch):
            return True
    if wrong := list(differences(disk, folder, manifest)):
        raise Refused(f"{disk.name}/{folder}", f"is there, and is not what was published: {'; '.join(wrong)}")
    target.note(release, manifest, answers)
    return False
