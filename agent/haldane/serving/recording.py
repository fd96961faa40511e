"""Files of recorded requests: TFRecords of PredictionLog, finished by size or age, removed by size or age.

A file that is written to ends in .part and gets its own name when it is
finished, so a reader of *.tfrecord never sees half a file. What a crash left is
finished at the next start: a record it cut off is passed over by readers. One
process records a model in a folder at a time. Synchronous: runs in a worker
thread. Owns the files of its model there and touches no others.
"""

import fcntl
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from haldane.ports import Refused
from haldane.serving.records import frame

log = structlog.get_logger()
SUFFIX, PART = ".tfrecord", ".part"


@dataclass(frozen=True, slots=True)
class Terms:
    """Where, and how much: bytes and seconds."""

    directory: Path
    file_bytes: int
    file_seconds: float
    keep_bytes: int
    keep_seconds: float


class Recording:
    """The files of one model. Use it after `open`; `close` finishes the last file."""

    def __init__(self, model: str, terms: Terms) -> None:
        self._model, self._terms = model, terms
        self._own = re.compile(re.escape(model) + r"-\d{8}T\d{6}-\d+" + re.escape(SUFFIX))
        self._lock = -1
        self._file = -1
        self._path, self._size, self._begun = terms.directory, 0, 0.0

    def open(self) -> None:
        """Finish what a crash left. Refused when the folder cannot be written, or another process records there."""
        try:
            self._terms.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._terms.directory / f"{self._model}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            says = (
                f"cannot write to {self._terms.directory}: {error.strerror}; set traffic.record.directory to a folder"
            )
            raise Refused(self._model, f"{says} that this user may write") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            says = f"another tap records into {self._terms.directory}; give each its own traffic.record.directory"
            raise Refused(self._model, says) from error
        for left in self._terms.directory.iterdir():
            if left.suffix == PART and self._own.fullmatch(left.stem):
                _finish(left)
        self.tidy()

    def close(self) -> None:
        """Finish the file; OSError when that cannot be stored."""
        try:
            self._rotate()
        finally:
            os.close(self._lock)

    def write(self, logs: Sequence[bytes]) -> None:
        """Append serialized PredictionLogs: all of them, or none and OSError (a full disk, a folder gone)."""
        data = b"".join(map(frame, logs))
        if self._file < 0:
            self._begin()
        try:
            _write_all(self._file, data)
        except OSError:
            try:
                os.ftruncate(self._file, self._size)
                os.lseek(self._file, self._size, os.SEEK_SET)
            finally:
                self._give_up()
            raise
        self._size += len(data)
        if self._size >= self._terms.file_bytes:
            self._rotate()
            with suppress(OSError):  # what was written is kept all the same; the next tidying by itself tells why
                self.tidy()

    def tidy(self) -> None:
        """Finish a file that is old enough, remove the oldest beyond what is to be kept; OSError when one cannot be."""
        if self._file >= 0 and time.monotonic() - self._begun >= self._terms.file_seconds:
            self._rotate()
        kept = self._size if self._file >= 0 else 0
        for path, held in sorted(self._finished().items(), key=lambda one: one[0].name, reverse=True):
            kept += held.st_size
            if kept > self._terms.keep_bytes or time.time() - held.st_mtime > self._terms.keep_seconds:
                path.unlink(missing_ok=True)

    def _finished(self) -> dict[Path, os.stat_result]:
        found = {}
        for path in self._terms.directory.glob("*" + SUFFIX):  # none where the folder was taken away
            if self._own.fullmatch(path.name):
                with suppress(FileNotFoundError):  # somebody else may tidy, too
                    found[path] = path.stat()
        return found

    def _begin(self) -> None:
        now = time.time_ns()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 10**9))
        self._terms.directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # somebody may have tidied up
        name = f"{self._model}-{stamp}-{now % 10**9:09d}{SUFFIX}{PART}"
        self._path = self._terms.directory / name
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._size, self._begun = 0, time.monotonic()

    def _rotate(self) -> None:
        if self._file < 0:
            return
        try:
            os.fsync(self._file)
        finally:
            self._give_up()

    def _give_up(self) -> None:
        """No more into this file; what it holds is kept."""
        file, self._file = self._file, -1
        os.close(file)
        _finish(self._path)


def _finish(part: Path) -> None:
    if part.stat().st_size:
        part.rename(part.with_suffix(""))
    else:
        part.unlink()


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
