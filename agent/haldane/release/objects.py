"""Object storage through fsspec: s3:// and gs:// with the extras `s3` and `gcs`, abfs:// when adlfs is installed."""

import contextlib
import errno
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from haldane.ports import Refused, Unavailable
from haldane.release.storage import LAST

# Those whose fsspec driver has a conditional write (`mode="create"`); the others look first and write then,
# and two publishers could both find nothing.
_EXCLUSIVE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")


def open_objects(url: str) -> "Objects":
    """The storage below a URL such as s3://bucket/models. Refused when it cannot be used, with what can."""
    scheme = url.partition("://")[0]
    if scheme not in _EXCLUSIVE:
        kinds = ", ".join(f"{kind}://" for kind in ("file", *_EXCLUSIVE))
        raise Refused(url, f"{scheme}:// has no way to make a file only if it is not there; use one of {kinds}")
    try:
        import fsspec
    except ImportError as error:
        raise Refused(url, 'object storage needs fsspec: pip install "haldane[s3]"') from error
    try:
        # Without listings of its own: another publisher may have written since.
        system, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:  # the driver of that kind is missing
        raise Refused(url, f"cannot be used: {error}") from error
    return Objects(system, root.rstrip("/"), url.rstrip("/"))


class Objects:
    """Objects below one prefix; a "folder" is what begins with its name and "/"."""

    def __init__(self, system: Any, root: str, name: str) -> None:
        self._system, self._root, self.name = system, root, name

    def children(self, folder: str) -> list[str]:
        with self._told(folder):
            try:
                found = self._system.ls(self._at(folder), detail=False)
            except FileNotFoundError:
                return []
            return sorted({str(path).rstrip("/").rpartition("/")[2] for path in found})

    def files(self, folder: str) -> list[str]:
        with self._told(folder):
            top = self._at(folder)
            found = (str(path) for path in self._system.find(top))
            return sorted(path[len(top) + 1 :] for path in found if path.startswith(top + "/"))

    def read(self, path: str) -> bytes | None:
        with self._told(path):
            try:
                return cast(bytes, self._system.cat_file(self._at(path)))
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[BinaryIO]:
        with self._told(path), self._system.open(self._at(path), "rb") as file:
            yield file

    def create(self, path: str, data: bytes) -> bool:
        with self._told(path):
            try:
                self._system.pipe_file(self._at(path), data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                # S3 says "conflict" (EBUSY) while another's write to the same name is under way.
                if error.errno != errno.EBUSY or not self._system.exists(self._at(path)):
                    raise
                return False
            return True

    def write(self, path: str, data: bytes) -> None:
        with self._told(path):
            self._system.pipe_file(self._at(path), data)

    def upload(self, source: Path, path: str) -> None:
        with self._told(path):
            self._system.put_file(str(source), self._at(path))

    def download(self, path: str, target: Path) -> None:
        with self._told(path):
            self._system.get_file(self._at(path), str(target))

    def copy(self, path: str, to: str) -> None:
        with self._told(path):
            self._system.cp_file(self._at(path), self._at(to))

    def place(self, staged: str, folder: str, paths: Iterable[str]) -> bool:
        # A listing may be late, or leave something out; one object is asked for by name, and the paths are known.
        if self.files(folder) or self.read(f"{folder}/{LAST}") is not None:
            return False
        for path in sorted(paths, key=lambda path: path == LAST):
            self.copy(f"{staged}/{path}", f"{folder}/{path}")
        self.remove(staged)
        return True

    def remove(self, folder: str) -> None:
        found = sorted(self.files(folder), key=lambda path: path != LAST)
        for path in found:
            with self._told(path):
                self._system.rm_file(self._at(f"{folder}/{path}"))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextlib.contextmanager
    def _told(self, path: str) -> Iterator[None]:
        try:
            yield
        except Unavailable:
            raise
        except Exception as error:  # every driver has errors of its own, botocore's and aiohttp's among them
            raise Unavailable(f"{self.name}/{path}", f"{type(error).__name__}: {error}") from error
