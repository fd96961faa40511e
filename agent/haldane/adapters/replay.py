"""A finite set of Requests as a TrafficSource: read from its start again whenever it ends.

Readers (`serving.restform`, `serving.records`, `adapters.tables`) give Requests
and, in the place of a bad record, a Malformed. Here the bad ones are counted and
logged once, the good ones sent on, pass after pass. A row keeps its number in
every pass: that it is a repeat is the pairing's affair.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice

import structlog

from haldane.domain.traffic import Request
from haldane.ports import Flaw, Malformed, Unusable

Read = Callable[[], Iterable[Request | Malformed]]
OnFlaw = Callable[[Flaw], None]
_KEPT_ERRORS = 10
# Records read in one visit to the worker thread: enough to make the hop cheap, few enough to hold.
_CHUNK = 256

log = structlog.get_logger()


class Replay:
    """Requests of a file or table, once or for ever.

    `requests()` raises Unavailable when the file cannot be read and Malformed when
    a whole pass gives no request at all.
    """

    finite = True  # rows repeat; a stream's never do

    def __init__(self, name: str, read: Read, *, cycle: bool = True, on_flaw: OnFlaw = lambda _: None) -> None:
        self.name = name
        self.errors: list[Malformed] = []  # the first few bad records of the first pass
        self.bad = 0  # bad records in one pass
        self.flaws: Counter[Flaw] = Counter()  # of bad records, each once however often the set is read
        self._seen = 0  # how far the set was read, the furthest time
        self.length: int | None = None  # requests in one pass, known after the first
        self._read = read
        self._cycle = cycle
        self._on_flaw = on_flaw

    async def requests(self) -> AsyncIterator[Request]:
        async for request in self._one_pass():
            yield request
        while self._cycle:
            async for request in self._one_pass():
                yield request

    async def _one_pass(self) -> AsyncIterator[Request]:
        records = iter(self._read())
        good = bad = 0
        while chunk := await asyncio.to_thread(_take, records):
            for record in chunk:
                if isinstance(record, Request):
                    good += 1
                    yield record
                else:
                    bad += 1
                    self._note(record, good + bad)
        if self.length is None and bad:
            log.warning("traffic_records_unreadable", source=self.name, bad=bad, good=good, first=str(self.errors[0]))
        self.length, self.bad = good, bad
        if not good:
            why = f"first error: {self.errors[0]}" if self.errors else "it is empty"
            raise Malformed(self.name, f"no usable request in it; {why}")

    def _note(self, error: Malformed, place: int) -> None:
        if place <= self._seen:
            return  # read again: known
        self._seen = place
        flaw = error.flaw if isinstance(error, Unusable) else Flaw.FORMAT
        self.flaws[flaw] += 1
        self._on_flaw(flaw)
        if len(self.errors) < _KEPT_ERRORS:
            self.errors.append(error)


def _take(records: Iterator[Request | Malformed]) -> list[Request | Malformed]:
    return list(islice(records, _CHUNK))


class Counted:
    """What a set holds, read once from end to end: for a check before anything starts."""

    def __init__(self, records: Iterable[Request | Malformed]) -> None:
        self.requests = self.labelled = self.bad = 0
        self.errors: list[Malformed] = []
        for record in records:
            if isinstance(record, Malformed):
                self.bad += 1
                if len(self.errors) < _KEPT_ERRORS:
                    self.errors.append(record)
                continue
            self.requests += 1
            self.labelled += record.truth is not None
