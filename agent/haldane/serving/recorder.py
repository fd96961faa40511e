"""From mirrored calls to a model's files: drawn calls in, redacted records out, what cannot be stored counted."""

import asyncio
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import structlog

from haldane.domain.fleet import ModelName
from haldane.domain.traffic import Api
from haldane.serving.intake import Fate, Intake, Mirrored, Use, Waiting
from haldane.serving.recording import Recording
from haldane.serving.records import log_of
from haldane.serving.redact import Redaction
from haldane.serving.tapfeed import Reading

log = structlog.get_logger()
_AT_ONCE = 64
_TIDY_SECONDS = 5.0  # how late a file may be finished or removed
_RETRY_SECONDS = 1.0  # after the disk refused
_FINISH_SECONDS = 3.0  # for what waits when the tap is told to stop, which is killed after ten by most that run it
_NAMES_SOUGHT_IN = 100  # requests, after which a field that none of them had is told


class Recorder:
    """One model's recording, opened. While its disk is full calls are dropped and counted, and it is tried again."""

    def __init__(
        self, model: ModelName, intake: Intake, reading: Reading, recording: Recording, redaction: Redaction
    ) -> None:
        self._model, self._intake, self._reading = model, intake, reading
        self._recording, self._redaction = recording, redaction
        self._busy = Lock()  # a write goes on in its thread when its task is cancelled
        self._failing, self._retry_at, self._untidy = False, 0.0, False
        self._in_hand = 0
        self._recording_them: asyncio.Task[None] | None = None
        self._unseen, self._sought = set(redaction.drop | redaction.hash), 0

    async def run(self) -> None:
        """Never ends; when it is cancelled, what waits is written while there is time, and the file is finished."""
        waiting, loop = self._intake.recorded[self._model], asyncio.get_running_loop()
        due = loop.time() + _TIDY_SECONDS
        try:
            while True:
                if calls := await _some(waiting, due):
                    await asyncio.shield(self._begin(calls))
                if loop.time() >= due:
                    await self._tidy()
                    due = loop.time() + _TIDY_SECONDS
        finally:
            try:
                await self._finish(waiting)
            finally:
                self._close()

    def _begin(self, calls: Sequence[Mirrored]) -> asyncio.Task[None]:
        """A task of its own, so that calls in hand are not lost between the queue and the file."""
        self._in_hand, self._recording_them = len(calls), asyncio.create_task(self._record(calls))
        return self._recording_them

    async def _finish(self, waiting: Waiting) -> None:
        """Nothing more comes. What cannot be written in time is counted."""
        try:
            async with asyncio.timeout(_FINISH_SECONDS):
                if self._recording_them is not None:
                    await self._recording_them
                while len(waiting):
                    await self._begin(await waiting.take(_AT_ONCE))
        except TimeoutError:
            self._settle(Fate.STOPPED, self._in_hand + len(waiting))

    def _close(self) -> None:
        try:
            with self._busy:
                self._recording.close()
        except OSError as error:
            log.error("recording_failed", model=self._model, detail=str(error))

    async def _tidy(self) -> None:
        """A file that cannot be removed is no reason to drop calls; told when it begins."""
        try:
            await asyncio.to_thread(self._alone, self._recording.tidy)
            self._untidy = False
        except OSError as error:
            if not self._untidy:
                log.error("recording_not_tidied", model=self._model, detail=str(error))
            self._untidy = True

    async def _record(self, calls: Sequence[Mirrored]) -> None:
        usable: list[tuple[Api, Any]] = []
        for call, request in zip(calls, await self._reading.read(calls), strict=True):
            if isinstance(request, Fate):
                self._settle(request, 1)
            else:
                usable.append((call.api, request))
        logs = await asyncio.to_thread(self._redacted, usable)
        self._settle(Fate.UNREADABLE, len(usable) - len(logs))
        if logs:
            stored = await self._write(logs)
            self._settle(Fate.GIVEN if stored else Fate.DISK, len(logs))

    async def _write(self, logs: Sequence[bytes]) -> bool:
        """Whether the disk took them; told once when it begins to refuse, and when it takes again."""
        loop = asyncio.get_running_loop()
        if self._failing and loop.time() < self._retry_at:
            return False
        try:
            await asyncio.to_thread(self._alone, lambda: self._recording.write(logs))
        except OSError as error:
            if not self._failing:
                log.error("recording_failed", model=self._model, detail=str(error))
            self._failing, self._retry_at = True, loop.time() + _RETRY_SECONDS
            return False
        if self._failing:
            log.info("recording_resumed", model=self._model)
        self._failing = False
        return True

    def _alone(self, deed: Callable[[], None]) -> None:
        with self._busy:
            deed()

    def _redacted(self, usable: Sequence[tuple[Api, Any]]) -> list[bytes]:
        """The records to write, without those that could not be redacted."""
        logs = []
        for api, request in usable:
            try:
                self._unseen -= self._redaction.apply(api, request)
                logs.append(log_of(api, request))
            except Exception as error:  # whatever somebody sends must not end the tap, nor be written as it came
                # An error's own words may quote what should go.
                log.error("mirrored_call_broke_redaction", model=self._model, error=type(error).__name__)
        if self._sought < _NAMES_SOUGHT_IN <= self._sought + len(usable) and self._unseen:
            # A mistyped name would leave in what should go.
            log.warning("redacted_field_never_seen", model=self._model, fields=sorted(self._unseen))
        self._sought += len(usable)
        return logs

    def _settle(self, fate: Fate, count: int) -> None:
        self._intake.tally.settle(self._model, Use.RECORD, fate, count)


async def _some(waiting: Waiting, until: float) -> list[Mirrored]:
    """The oldest calls; none when nothing came until then."""
    try:
        async with asyncio.timeout_at(until):
            return await waiting.take(_AT_ONCE)
    except TimeoutError:
        return []
