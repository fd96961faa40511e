"""Conditions and audit records → notices: each state is told once, and once more when it is over.

What is told is kept in a journal, so that a restart neither repeats it nor
leaves it open for ever. Belongs to the comfort ring: a receiver that is gone
holds up nothing but the notices to it.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import structlog

from haldane.domain.fleet import Condition
from haldane.domain.record import Record
from haldane.ports import Notice, Notifier, PortError, Unavailable
from haldane.telemetry import Telemetry

log = structlog.get_logger()

Identity = tuple[str, str, int | None]


class Journal(Protocol):
    """A few JSON values that outlive the process."""

    def load(self) -> dict[str, Any]: ...

    def save(self, values: Mapping[str, Any]) -> None: ...


class ConditionNotices:
    """An AlertSink: one notice when a condition begins, one when it has ended.

    Retries are bounded by what holds: a condition that began and ended while
    the receiver was away is never told. `settle_seconds`: how long after a
    start a condition may take to show again, before it counts as over.
    """

    def __init__(
        self,
        notifier: Notifier,
        *,
        notice: Callable[[Condition, float | None], Notice],
        journal: Journal,
        now: Callable[[], float],
        may_tell: Callable[[], bool],
        settle_seconds: float = 180.0,
    ) -> None:
        self._notifier, self._notice, self._journal, self._now = notifier, notice, journal, now
        self._may_tell, self._settled_at = may_tell, now() + settle_seconds
        self._open = {_identity(one): one for one in _conditions(journal.load())}
        self._unseen = set(self._open)  # told before this start, and not seen to hold since

    async def tell(self, firing: Sequence[Condition]) -> None:
        """Bring the receiver to this state. Unavailable at the first notice not taken now: tell again then.

        A notice that is refused is not sent again; Refused says so at the end.
        """
        if not self._may_tell():
            return  # another agent holds the lease, and tells
        holds = {_identity(one): one for one in firing}
        self._unseen = set() if self._now() >= self._settled_at else self._unseen - holds.keys()
        over = [one for identity, one in self._open.items() if identity not in {*holds, *self._unseen}]
        refused: PortError | None = None
        for one in over:
            refused = await self._one(one, self._now()) or refused
            del self._open[_identity(one)]
            self._save()
        for identity, one in holds.items():
            if identity not in self._open:
                refused = await self._one(one, None) or refused
                self._open[identity] = one
                self._save()
        if refused:
            raise refused

    async def _one(self, condition: Condition, ended_at: float | None) -> PortError | None:
        try:
            await self._notifier.tell(self._notice(condition, ended_at))
        except Unavailable:
            raise
        except PortError as error:
            return error
        return None

    def _save(self) -> None:
        self._journal.save({"open": [asdict(one) for one in self._open.values()]})


def _conditions(kept: Mapping[str, Any]) -> list[Condition]:
    return [Condition(**{**one, "servers": tuple(one["servers"])}) for one in kept.get("open", [])]


def _identity(condition: Condition) -> Identity:
    return condition.name, condition.model, condition.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds between looks at the log, and how a notice that is not taken is tried again."""

    look: float = 2.0
    first_retry: float = 1.0
    most_retry: float = 60.0
    tries: int | None = 8  # about two minutes in all; None: until it is taken


class RecordNotices:
    """The audit log, told in its order; it is itself what keeps the notices that are not taken yet.

    A notice is given up after its tries, so that the next ones come. `name` is the notifier's, on our metrics page.
    """

    def __init__(
        self,
        records: Callable[[int], Sequence[Record]],
        notifier: Notifier,
        *,
        name: str,
        notice: Callable[[Record], Notice | None],
        journal: Journal,
        may_tell: Callable[[], bool],
        telemetry: Telemetry,
        pace: Pace | None = None,
    ) -> None:
        self._records, self._notifier, self._name, self._notice = records, notifier, name, notice
        self._journal, self._may_tell, self._telemetry = journal, may_tell, telemetry
        self._pace = pace or Pace()

    async def run(self) -> None:
        """Tell until cancelled. What was stored before the first start ever is history, and not told."""
        kept = self._journal.load().get("after")
        after = kept if isinstance(kept, int) else await self._end(0)
        while True:
            try:
                after = await self._tell_since(after) if self._may_tell() else after
            except PortError as error:
                log.warning("records_not_read", reason=error.reason, detail=error.detail)
            await asyncio.sleep(self._pace.look)

    async def _end(self, after: int) -> int:
        while found := await asyncio.to_thread(self._records, after):
            after = found[-1].seq
        self._journal.save({"after": after})
        return after

    async def _tell_since(self, after: int) -> int:
        for record in await asyncio.to_thread(self._records, after):
            if (notice := self._notice(record)) is not None:
                await self._tell(notice)
            after = record.seq
            self._journal.save({"after": after})
        return after

    async def _tell(self, notice: Notice) -> None:
        wait = self._pace.first_retry
        for tried in itertools.count(1):
            result = "told"
            try:
                await self._notifier.tell(notice)
            except Unavailable:
                result = "given_up" if tried == self._pace.tries else "unavailable"
            except PortError as error:
                result = error.reason
            self._telemetry.agent.notifications.labels(self._name, result).inc()
            if result != "unavailable":
                if result != "told":
                    log.warning(
                        "notice_not_taken", notifier=self._name, type=notice.type, subject=notice.subject, result=result
                    )
                return
            await asyncio.sleep(wait)
            wait = min(2 * wait, self._pace.most_retry)
