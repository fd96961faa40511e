"""Keeps one config that servers boot with at the versions which are stable.

Looks, changes what is due, says what it leaves. What it wrote is on record, so that a later process knows a person's
change from one that it still owes. Leaves to `rollout.boot` what is due, and to the sink how a text is kept.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from haldane.domain.fleet import ModelEntry, ModelName, ServerConfig
from haldane.domain.record import Record
from haldane.domain.rollout import Mode
from haldane.engine.converge import Note
from haldane.engine.desk import Desk
from haldane.ports import ConfigSink, PortError
from haldane.rollout.boot import booting
from haldane.telemetry import Telemetry

log = structlog.get_logger()

WRITTEN = "boot_config_written"  # kind of Record
EVERY_SECONDS = 10.0  # a person's change, or a ConfigMap that is back, is seen within these

Parse = Callable[[str], ServerConfig]  # ValueError when the text is none
Edit = Callable[[str, Sequence[ModelEntry]], str]  # the text with these entries; ValueError when that is not safe
Records = Callable[[int], Sequence[Record]]  # those of WRITTEN after a seq, at most a page; blocks


@dataclass
class BootConfig:
    """One of them. Only the event loop touches it."""

    name: str
    sink: ConfigSink
    desk: Desk
    telemetry: Telemetry
    may_act: Callable[[], bool]
    note: Note
    records: Records
    parse: Parse
    edit: Edit
    _written: dict[ModelName, int] | None = None  # by us, as the audit log has it; None: not read yet
    _unrecorded: list[dict[str, Any]] = field(default_factory=list)

    async def run(self) -> None:
        """Until cancelled; a look every few seconds, and at once when a version becomes stable."""
        while True:
            before = self._stable()
            await self.keep()
            until = time.monotonic() + EVERY_SECONDS
            while (left := until - time.monotonic()) > 0 and self._stable() == before:
                await self.desk.wait_changed(left)

    async def keep(self) -> None:
        """One look, and what is due after it; nothing at all where this agent may not act."""
        if self.may_act() and self.desk.mode is Mode.ENFORCE:
            self._say(await self._kept())

    def _stable(self) -> dict[ModelName, int]:
        return {model: rest.stable for model, rest in self.desk.watched.items() if rest.released}

    def _say(self, trouble: str) -> None:
        says = trouble or "as it should be"
        if self.desk.boot.get(self.name) != says:
            log.log(30 if trouble else 20, "boot_config", sink=self.name, says=says)
        self.desk.boot[self.name] = says
        self.telemetry.lists.boot_config_behind.labels(self.name).set(bool(trouble))

    async def _kept(self) -> str:
        """Do what is due; what is not as it should be then, or ""."""
        try:
            written = await self._recalled()
            await self._recorded()
            text = await self.sink.read()
            due = booting(self.parse(text), self.desk.base, self.desk.watched, self.desk.declared, written)
            if due.write and self.may_act():
                await self.sink.write(text, self.edit(text, [entry for _, entry in due.write]))
                for was, entry in due.write:
                    version = self._stable()[entry.name]
                    written[entry.name] = version
                    self._unrecorded.append(
                        {"sink": self.name, "model": str(entry.name), "was": was, "version": version}
                    )
                await self._recorded()
            return "; ".join(due.left)
        except PortError as error:
            return error.detail
        except ValueError as error:  # not a model config, or one that cannot be changed safely
            return str(error)

    async def _recorded(self) -> None:
        while self._unrecorded:
            await self.note(WRITTEN, self._unrecorded[0])
            del self._unrecorded[0]

    async def _recalled(self) -> dict[ModelName, int]:
        if self._written is None:
            found: dict[ModelName, int] = {}
            after = 0
            while page := await asyncio.to_thread(self.records, after):
                for one in page:
                    if one.data["sink"] == self.name:
                        found[ModelName(one.data["model"])] = one.data["version"]
                after = page[-1].seq
            self._written = found
        return self._written
