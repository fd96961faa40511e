"""Servers from files in Prometheus's file_sd format, read anew each time.

Source: Prometheus docs, configuration, <file_sd_config>: a list of groups with `targets` and `labels`, in YAML or JSON.
"""

import asyncio
import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from haldane.adapters.listing import Form
from haldane.config.marks import Marked, read_yaml
from haldane.domain.fleet import Server
from haldane.ports import Malformed, NoData, Unavailable

_MOST_BYTES = 16 << 20
_KEYS = {"targets", "labels"}


@dataclass(frozen=True, slots=True)
class FileList:
    """A ServerList: the files that `pattern`, a path or a glob, matches now."""

    name: str
    pattern: Path
    form: Form

    async def read(self) -> Sequence[Server]:
        return await asyncio.to_thread(self._read)

    def _read(self) -> list[Server]:
        files = [self.pattern]
        if glob.has_magic(self.pattern.name):  # as for Prometheus, only the last part of a path may be a glob
            files = sorted(self.pattern.parent.glob(self.pattern.name))
        if not files:
            raise NoData(self.name, f"no file matches {self.pattern}")
        found = [server for file in files for server in self._servers(file)]
        if not found:
            raise NoData(self.name, "no target is in it")
        return found

    def _servers(self, file: Path) -> Iterator[Server]:
        try:
            if file.stat().st_size > _MOST_BYTES:
                raise Malformed(self.name, f"{file}: more than {_MOST_BYTES >> 20} MB")
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise Unavailable(self.name, f"cannot read {file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise Malformed(self.name, f"{file} is not UTF-8 text") from error
        marked = read_yaml(text, str(file))
        if marked.problems:
            raise Malformed(self.name, str(marked.problems[0]))
        try:
            yield from self._groups(marked)
        except _Wrong as error:
            raise Malformed(self.name, f"{file}:{marked.line(error.loc)}: {error}") from error

    def _groups(self, marked: Marked) -> Iterator[Server]:
        groups = [] if marked.value is None else marked.value
        if not isinstance(groups, list):
            raise _Wrong((), "must be a list of {targets: [HOST:PORT], labels: {...}}")
        for index, group in enumerate(groups):
            if not isinstance(group, dict) or not group.keys() <= _KEYS:
                raise _Wrong((index,), "a group has targets and labels, and nothing else")
            targets, labels = group.get("targets"), group.get("labels") or {}
            if not isinstance(targets, list):
                raise _Wrong((index, "targets"), "targets must be a list of HOST:PORT")
            if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
                raise _Wrong((index, "labels"), "labels must be a map of words; write numbers in quotes")
            if "instance" in labels and len(targets) > 1:
                raise _Wrong((index, "labels", "instance"), f"names {len(targets)} targets alike; a group for each")
            for place, target in enumerate(targets):
                yield self._server(target, labels, (index, "targets", place))

    def _server(self, target: Any, labels: dict[str, str], loc: tuple[str | int, ...]) -> Server:
        host, _, port = str(target).rpartition(":")
        if not isinstance(target, str) or not host or not port.isdecimal() or not 0 < int(port) < 65536 or "/" in host:
            raise _Wrong(loc, f"a target must be HOST:PORT, got {target!r}")
        path, url = labels.get("__metrics_path__", ""), labels.get("__metrics_url__", "")
        found = self.form.server(
            host.strip("[]"),
            int(port),
            name=labels.get("instance", ""),
            scheme=labels.get("__scheme__", "http"),
            metrics_path=path if path.startswith("/") or not path else f"/{path}",
        )
        return replace(found, metrics_url=url) if url else found


class _Wrong(ValueError):
    """What is wrong, and the key it is wrong at."""

    def __init__(self, loc: tuple[str | int, ...], says: str) -> None:
        super().__init__(says)
        self.loc = loc
