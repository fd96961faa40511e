"""Where releases are kept: a directory, or object storage through fsspec (`objects`).

Owns how one file is made only if it is not there, and how a whole version
appears at once. Knows nothing of models, versions or manifests. Paths are
relative to the storage's root, with "/".
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from haldane.ports import Refused, Unavailable

LAST = "saved_model.pb"  # without it Serving loads nothing, so it is the last to appear and the first to go


class Storage(Protocol):
    """What a release needs of the place it is kept in. Every call raises Unavailable when the storage fails."""

    name: str

    def children(self, folder: str) -> list[str]:
        """The names right below a folder, sorted; none when it is not there."""

    def files(self, folder: str) -> list[str]:
        """The paths, relative to the folder, of all files below it, sorted; none when it is not there."""

    def read(self, path: str) -> bytes | None:
        """A small file's bytes, None when it is not there."""

    def opened(self, path: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """A file to be read in pieces."""

    def create(self, path: str, data: bytes) -> bool:
        """Make a file, whole or not at all; False when there is one already. Of two at once, one wins."""

    def write(self, path: str, data: bytes) -> None:
        """Make or replace a small file, whole or not at all."""

    def upload(self, source: Path, path: str) -> None:
        """A local file's copy at `path`."""

    def download(self, path: str, target: Path) -> None:
        """A copy of `path` in a local file."""

    def copy(self, path: str, to: str) -> None:
        """A copy within the storage: nothing is sent."""

    def place(self, staged: str, folder: str, paths: Iterable[str]) -> bool:
        """Move a staged folder, which holds these `paths`, to where it is looked for; False when something is there.

        Whoever loads `folder` meanwhile finds it whole, or finds no SavedModel in it.
        """

    def remove(self, folder: str) -> None:
        """Delete a folder with all that is in it; whoever loads it meanwhile finds no SavedModel in it."""


def open_storage(where: str) -> Storage:
    """The storage that a path, a file:// URI or an fsspec URL names.

    Refused when its kind is not known, or cannot make a file only if it is
    not there, so that two publishers could take the same number.
    """
    if "://" not in where:
        return Disk(Path(where))
    parts = urlsplit(where)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise Refused(where, "a file:// URI names a directory of this machine: file:///models")
        return Disk(Path(unquote(parts.path)))
    from haldane.release.objects import open_objects

    return open_objects(where)


class Disk:
    """A directory of this machine, or one that is mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.name = str(root)

    def path(self, relative: str) -> Path:
        return self._root / relative

    def children(self, folder: str) -> list[str]:
        with self._told(folder):
            path = self.path(folder)
            return sorted(child.name for child in path.iterdir()) if path.is_dir() else []

    def files(self, folder: str) -> list[str]:
        with self._told(folder):
            top = self.path(folder)
            # A link counts as a file: it is none of ours, and whoever compares with a manifest must see it.
            found = [path for path in top.rglob("*") if path.is_symlink() or not path.is_dir()]
            return sorted(path.relative_to(top).as_posix() for path in found)

    def read(self, path: str) -> bytes | None:
        with self._told(path):
            try:
                return self.path(path).read_bytes()
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[BinaryIO]:
        with self._told(path), self.path(path).open("rb") as file:
            yield file

    def create(self, path: str, data: bytes) -> bool:
        with self._told(path), self._beside(path, data) as aside:
            try:
                os.link(aside, self.path(path))
            except FileExistsError:
                return False
            _sync(self.path(path).parent)
            return True

    def write(self, path: str, data: bytes) -> None:
        with self._told(path), self._beside(path, data) as aside:
            aside.replace(self.path(path))
            _sync(self.path(path).parent)

    def upload(self, source: Path, path: str) -> None:
        with self._told(path):
            target = self.path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            _sync(target)

    def download(self, path: str, target: Path) -> None:
        with self._told(path):
            shutil.copyfile(self.path(path), target)
            _sync(target)

    def copy(self, path: str, to: str) -> None:
        self.upload(self.path(path), to)

    def place(self, staged: str, folder: str, paths: Iterable[str]) -> bool:
        with self._told(folder):
            source, target = self.path(staged), self.path(folder)
            for inner in (source, *(path for path in source.rglob("*") if path.is_dir())):
                _sync(inner)
            if target.exists():  # a rename would silently replace an empty directory
                return False
            try:
                source.rename(target)
            except OSError as error:  # another was faster
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                return False
            _sync(target.parent)
            return True

    def remove(self, folder: str) -> None:
        with self._told(folder):
            path = self.path(folder)
            (path / LAST).unlink(missing_ok=True)
            if path.exists():
                shutil.rmtree(path)

    @contextlib.contextmanager
    def _beside(self, path: str, data: bytes) -> Iterator[Path]:
        """The bytes, safe on the disk, under another name in the same directory."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            aside.write_bytes(data)
            _sync(aside)
            yield aside
        finally:
            aside.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _told(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(f"{self.name}/{path}", error.strerror or str(error)) from error


def _sync(path: Path) -> None:
    """Wait until a file's bytes, or a directory's names, would survive a power cut."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
