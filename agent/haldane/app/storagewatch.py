"""New versions in storage that announce themselves."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from haldane.app.agent import Agent
from haldane.domain.fleet import ModelName
from haldane.domain.release import Announcement
from haldane.judge.storage import Shelf, lacks
from haldane.ports import PortError

log = structlog.get_logger()


@dataclass
class StorageWatch:
    """`paths`: the base paths of the models that are watched, without a last slash."""

    agent: Agent
    paths: Mapping[ModelName, str]
    _found: asyncio.Queue[tuple[str, int]] = field(default_factory=lambda: asyncio.Queue(1000))
    _told: set[tuple[ModelName, int]] = field(default_factory=set)

    def on_shelf(self, path: str, shelf: Shelf, at: float) -> None:
        """A base path was listed at `at`. A version counts when a listing before this one found the same files."""
        whole = [v for v, one in shelf.items() if one.since < at and one.files is not None and not lacks(one.files)]
        if whole and not self._found.full():  # else the next listing says it again
            self._found.put_nowait((path, max(whole)))

    async def run(self) -> None:
        while True:
            path, version = await self._found.get()
            for model in [name for name, one in self.paths.items() if one == path]:
                await self._tell(model, path, version)

    async def _tell(self, model: ModelName, path: str, version: int) -> None:
        watched = self.agent.desk.watched.get(model)
        if (model, version) in self._told or watched is None or not watched.released or version <= watched.stable:
            return
        one = Announcement(
            key=f"storage {path}/{version} of {model}",
            model=model,
            version=version,
            by="haldane",
            why=f"version {version} has come to {path}",
        )
        try:
            await self.agent.announce(one)
        except PortError as error:
            log.warning("release_not_taken", model=model, version=version, why=str(error))
            return
        self._told.add((model, version))
