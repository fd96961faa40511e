"""What a version directory holds, file by file: paths, bytes, SHA-256.

Looks at names and sizes before it reads a byte, so that a directory that is too
large, or leads elsewhere, is refused at once.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from haldane.ports import Malformed

MOST_FILES = 100_000  # a SavedModel has a handful, and as many assets as it has vocabularies
MOST_DEPTH = 100  # of folders in folders
_LINE = re.compile(r"[0-9a-f]{64}  [^\x00-\x1f]+")


class NotReleasable(Exception):
    """The directory cannot be a release; `check` names the rule it breaks, the text says where and how."""

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(detail)
        self.check = check


@dataclass(frozen=True, slots=True)
class File:
    """One file of a release: its path below the version directory, with "/", and its length in bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a release, sorted by path, each with its SHA-256 (hex)."""

    files: tuple[tuple[File, str], ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file, _ in self.files)

    @property
    def text(self) -> str:
        """One line per file, as `sha256sum` writes it: `sha256sum -c` in the directory checks it."""
        return text_of(self.by_path)

    @property
    def by_path(self) -> dict[str, str]:
        """Path -> SHA-256."""
        return {file.path: digest for file, digest in self.files}

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of `text`: one name for exactly these files."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def text_of(files: Mapping[str, str]) -> str:
    """The manifest of path -> SHA-256, sorted by path: the same files give the same text, byte for byte."""
    return "".join(f"{files[path]}  {path}\n" for path in sorted(files))


def parse(text: str) -> dict[str, str]:
    """Path -> SHA-256 of each file, from the `text` of a Manifest; Malformed for anything else.

    It may come from a storage that others can write to, so a path that leads out of its folder is none.
    """
    found: dict[str, str] = {}
    for index, line in enumerate(text.splitlines(), 1):
        path = PurePosixPath(line[66:])
        if not _LINE.fullmatch(line) or path.is_absolute() or ".." in path.parts or str(path) != line[66:]:
            raise Malformed("manifest", f"line {index} is not a SHA-256 and a path below the version: {line[:200]!r}")
        found[str(path)] = line[:64]
    return found


def listing(folder: Path, *, most_bytes: int) -> list[File]:
    """Every file below `folder`, sorted by path; nothing is read but names and sizes.

    NotReleasable ("size") when there is more than `most_bytes`, or more than
    MOST_FILES files; ("paths") for what leads elsewhere or is no plain file.
    """
    found, total, folders = [], 0, 0
    for file in _walk(folder):
        if file is None:
            folders += 1
        else:
            found.append(file)
            total += file.size
            if total > most_bytes:
                raise NotReleasable(
                    "size", f"{folder} holds more than {most_bytes:,} bytes ({file.path} goes beyond); see --max-size"
                )
        if len(found) + folders > MOST_FILES:
            raise NotReleasable("size", f"{folder} holds more than {MOST_FILES:,} files and folders")
    return sorted(found, key=lambda file: file.path)


def _walk(top: Path) -> Iterator[File | None]:
    """Every file, and None for every folder."""
    due = [top]
    while due:
        folder = due.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    found = _looked_at(top, entry)
                    if found is None:
                        due.append(_deeper(top, Path(entry.path)))
                    yield found
        except OSError as error:
            name = folder.relative_to(top).as_posix()
            raise NotReleasable("files", f"{name:.200} cannot be read: {error.strerror}") from error


def _deeper(top: Path, folder: Path) -> Path:
    """Storages end names at a length, and whatever cleans up may go down by recursion: neither is to fail later."""
    inside = folder.relative_to(top)
    if len(inside.parts) > MOST_DEPTH:
        raise NotReleasable("paths", f"{inside.as_posix():.14}... is nested more than {MOST_DEPTH} folders deep")
    return folder


def _looked_at(top: Path, entry: os.DirEntry[str]) -> File | None:
    """The file, None for a folder; NotReleasable for anything else."""
    path = Path(entry.path)
    name = path.relative_to(top).as_posix()
    if not name.isprintable() or "\\" in name:
        raise NotReleasable("paths", f"the name {name!r} has a character that not every storage keeps")
    if entry.is_symlink():
        # Even one that stays inside: object storage has no links, so the copy would not be what was validated.
        raise NotReleasable(
            "paths",
            f"{name} is a link to {path.readlink()}; a release holds plain files, so copy what it names",
        )
    if entry.is_dir():
        return None
    status = entry.stat()
    if not stat.S_ISREG(status.st_mode):
        raise NotReleasable("paths", f"{name} is neither a file nor a directory")
    return File(name, status.st_size)


def manifest(folder: Path, files: list[File]) -> Manifest:
    """Reads every file of a `listing`. NotReleasable ("files") when one changed or went meanwhile."""
    return Manifest(tuple((file, _sha256(folder / file.path, file)) for file in files))


def _sha256(path: Path, file: File) -> str:
    try:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            length = opened.tell()
    except OSError as error:
        raise NotReleasable("files", f"{file.path} cannot be read: {error.strerror}") from error
    if length != file.size:
        raise NotReleasable(
            "files", f"{file.path} had {file.size:,} bytes, then {length:,}: is it still being written?"
        )
    return digest
