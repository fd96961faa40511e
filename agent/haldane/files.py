"""Files by path, by glob or by URL, read as local ones, with gzip undone by content.

What a URL names is copied once into a scratch folder and read from there: a
network that fails does so before the first record, and readers need only know
local paths. Owns the finding, the copying and the unpacking; what the bytes mean
is the readers' affair. fsspec is imported at the first URL (extras `s3`
and `gcs`; adlfs and others work when installed).
"""

import glob
import gzip
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, cast

from haldane.ports import Refused, StaleWrite, Unavailable

_GZIP = b"\x1f\x8b"
TABLES = (".parquet", ".pq", ".csv", ".tsv", ".npz")  # kinds of labelled sets


def is_url(where: Path | str) -> bool:
    return isinstance(where, str) and "://" in where


@dataclass
class FileSet:
    """The files behind one path, glob or URL. `where` may hold a secret in a URL's query, so only `name` is told."""

    where: Path | str
    _scratch: tempfile.TemporaryDirectory[str] | None = None  # goes with this object
    _copied: dict[str, Path] = field(default_factory=dict)  # remote path -> its copy

    @property
    def name(self) -> str:
        """The last part of the path, e.g. "*.tfrecord"."""
        return PurePosixPath(str(self.where).partition("?")[0]).name if is_url(self.where) else Path(self.where).name

    def found(self) -> list[Path]:
        """The local files that the path or glob means, by name."""
        path = Path(self.where)
        if not glob.has_magic(str(path)) or path.exists():
            return [path]
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no whole path
        return [one for one in map(Path, matches) if one.is_file()]

    def paths(self) -> list[Path]:
        """All of them, by name; a glob is looked up anew each time. May take as long as a download.

        Unavailable when there is none or it cannot be fetched, Refused when the URL's protocol needs a package.
        """
        if is_url(self.where):
            return self._fetched(str(self.where))
        found = self.found()
        if not found:
            raise Unavailable(self.name, "no file matches")
        return found

    def _fetched(self, url: str) -> list[Path]:
        try:
            import fsspec
        except ImportError as error:
            raise Refused(self.name, 'files by URL need fsspec: pip install "haldane[s3]"') from error
        try:
            filesystem, path = fsspec.core.url_to_fs(url)
            remote = sorted(filesystem.glob(path)) if glob.has_magic(path) else [path]
            for one in remote:
                if one not in self._copied:
                    copy = self._place(one)
                    filesystem.get_file(one, str(copy))
                    self._copied[one] = copy
        except (ImportError, ValueError) as error:  # an unknown protocol, or one whose package is missing
            raise Refused(self.name, f"cannot be read by URL: {error}") from error
        except Exception as error:  # every filesystem has errors of its own, botocore's and aiohttp's among them
            raise Unavailable(self.name, f"cannot be fetched: {type(error).__name__}: {error}") from error
        if not remote:
            raise Unavailable(self.name, "no file matches")
        return [self._copied[one] for one in remote]

    def _place(self, remote: str) -> Path:
        """Where the copy goes: its own name, in a folder of its own."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="haldane-")
        folder = Path(self._scratch.name) / str(len(self._copied))
        folder.mkdir(exist_ok=True)
        return folder / (PurePosixPath(remote).name or "file")


def kind_of(path: Path) -> str:
    """The suffix that says what is in it, without that of packing: ".csv" of rows.csv.gz."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked when they begin as gzip does. Unavailable when it cannot be read."""
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP
            with gzip.open(raw) if packed else raw as file:
                yield cast(IO[bytes], file)
    except gzip.BadGzipFile:
        raise  # the reader's affair: the content is broken, the file is there
    except OSError as error:
        raise Unavailable(path.name, f"cannot be read: {error.strerror or error}") from error


def replace_text(path: Path, before: str, after: str) -> None:
    """Write a text file whole, by rename and with its own permissions. OSError when it cannot be.

    StaleWrite, with nothing written, when its text is no longer `before`.
    """
    handle, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, fresh)
        if path.read_text(encoding="utf-8") != before:
            raise StaleWrite(path.name, f"{path} was written by somebody else just now")
        Path(fresh).replace(path)
    finally:
        Path(fresh).unlink(missing_ok=True)
