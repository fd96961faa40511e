"""A text file that is ours to change, beside whoever else writes it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from haldane.files import replace_text
from haldane.ports import Refused, Unavailable


@dataclass(frozen=True, slots=True)
class TextFile:
    """A ConfigSink: that file, replaced by rename, so that nobody reads half of it."""

    name: str
    path: Path

    async def read(self) -> str:
        try:
            return await asyncio.to_thread(self.path.read_text, encoding="utf-8")
        except OSError as error:
            raise Unavailable(self.name, f"cannot read {self.path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise Refused(self.name, f"{self.path} is not UTF-8 text") from error

    async def write(self, before: str, after: str) -> None:
        try:
            await asyncio.to_thread(replace_text, self.path, before, after)
        except OSError as error:
            raise Unavailable(self.name, f"cannot change {self.path}: {error.strerror}") from error
