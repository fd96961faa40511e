"""Who is sick: the version, one replica, or stable itself.

Relative margins mean nothing when what they are relative to is failing, so a
sick baseline vetoes promotion. A replica on which stable fails, while it does
not elsewhere, says nothing of the canary: it is set aside until it is well.
Set aside by what was seen before a batch, never by the batch itself, so what
is judged stays a fair game.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from haldane.domain.traffic import Batch, Status
from haldane.stats.betting import MEANS
from haldane.stats.onset import Onset

OK, INVALID, NOT_FOUND, EXHAUSTED = (int(Status[name]) for name in ("OK", "INVALID", "NOT_FOUND", "EXHAUSTED"))
# Cells of the latency ratio canary to stable, by 2 % from 1/3 to 3: enough to tell one replica from another.
RATIO_EDGES = np.log(1.02) * (np.arange(-55, 55) + 0.5)
LEAST_RATIOS = 200  # pairs of a replica before its typical ratio is told
APART = 0.10  # replicas whose typical ratios differ by more are told apart
NAMED = np.log(100.0)  # evidence that the canary's failures sit on one replica


@dataclass(slots=True)
class Replica:
    """The small books of one server."""

    failing: Onset  # stable's requests that failed
    unsteady: Onset  # pairs of stable with itself whose answers differ
    asked: int = 0  # stable's requests
    failed: int = 0  # among them
    compared: int = 0  # pairs of stable with itself
    differed: int = 0  # among them
    pairs: int = 0  # of stable with canary, judged
    canary_only: int = 0  # among them, those that only the canary failed
    aside: int = 0  # pairs not judged because this server was sick
    aside_since: tuple[int, float] | None = None  # pair and second when it was last set aside
    ratios: NDArray[np.int32] = field(default_factory=lambda: np.zeros(len(RATIO_EDGES) + 1, np.int32))

    def take(self, failed: NDArray[np.bool_], differ: NDArray[np.bool_]) -> None:
        """Stable's requests, shape (n,), and pairs of it with itself, shape (m,), in order."""
        self.failing.fold(failed)
        self.unsteady.fold(differ)
        self.asked, self.failed = self.asked + len(failed), self.failed + int(failed.sum())
        self.compared, self.differed = self.compared + len(differ), self.differed + int(differ.sum())

    def typical_ratio(self) -> float | None:
        """Middle of canary / stable seconds, minus 1; None while there are too few."""
        total = int(self.ratios.sum())
        if total < LEAST_RATIOS:
            return None
        cell = int(np.searchsorted(np.cumsum(self.ratios), total / 2))
        return float(np.expm1(RATIO_EDGES[0] + np.log(1.02) * (cell - 0.5)))


class Health:
    """Books over all servers of a rollout; `names` are theirs by index, for the sentences."""

    def __init__(self, limit: float, names: Sequence[str] = ()) -> None:
        self.limit, self.names = limit, tuple(names)
        self.baseline = Onset(limit)  # stable on the servers that are not set aside
        self.replicas: dict[int, Replica] = {}
        self.seen = 0

    def admits(self, batch: Batch) -> NDArray[np.bool_]:
        """Which rows of a batch not taken in yet may be judged, shape (n,): those of servers not set aside."""
        return np.isin(batch["server"], self.aside, invert=True)

    def admit(self, batch: Batch) -> Batch:
        """The rows that may be judged, by what was seen before this batch; then the whole batch is taken in."""
        aside = self.aside
        admitted = batch[self.admits(batch)] if aside else batch
        by, failed = _stable_failures(batch)
        self.baseline.fold(failed[np.isin(by, aside, invert=True)] if aside else failed)
        compared = batch["aa"] & np.isfinite(batch["disagrees"])
        differ, compared_by = batch["disagrees"][compared] > 0, batch["server"][compared]
        for server in np.unique(batch["server"]).tolist():
            book = self.replicas.setdefault(server, Replica(Onset(self.limit), Onset(self.limit)))
            book.take(failed[by == server], differ[compared_by == server])
        self._count_versus(batch, aside)
        self.seen += len(batch)
        for server in self.aside:
            if server not in aside:
                self.replicas[server].aside_since = self.seen, float(batch["at"].max())
        return admitted

    def _count_versus(self, batch: Batch, aside: tuple[int, ...]) -> None:
        """Pairs of stable with canary: how many, how many only the canary failed, and how much longer it took."""
        versus = ~batch["aa"]
        server, stable, canary = batch["server"], batch["stable_status"] == OK, batch["canary_status"] == OK
        times = batch["stable_seconds"], batch["canary_seconds"]
        timed = versus & stable & canary & ~batch["masked"]
        for seconds in times:
            timed &= np.isfinite(seconds) & (seconds > 0)
        cells = np.searchsorted(RATIO_EDGES, np.log(times[1][timed]) - np.log(times[0][timed]))
        alone, timed_by = versus & stable & ~canary, server[timed]
        for one, book in self.replicas.items():
            here = versus & (server == one)
            if one in aside:
                book.aside += int(here.sum())
                continue
            book.pairs += int(here.sum())
            book.canary_only += int((alone & here).sum())
            book.ratios += np.bincount(cells[timed_by == one], minlength=len(book.ratios)).astype(np.int32)

    @property
    def aside(self) -> tuple[int, ...]:
        """The servers set aside now: sick, while those that are not are well."""
        books = self.replicas
        failing = {server for server, book in books.items() if book.failing.above}
        unsteady = {server for server, book in books.items() if book.unsteady.above}
        others = [book for server, book in books.items() if server not in failing]
        if not _well(self.limit, [(book.failed, book.asked) for book in others]):
            failing = set()  # it is the baseline that is sick
        others = [book for server, book in books.items() if server not in unsteady]
        if not _well(self.limit, [(book.differed, book.compared) for book in others]):
            unsteady = set()  # stable differs from itself everywhere: the model's own noise, which its floor tells
        sick = failing | unsteady
        return tuple(sorted(sick if sick < books.keys() else failing))

    @property
    def stable_fails(self) -> bool:
        """More of stable's requests fail than is accepted, over the servers that are not set aside or on every one."""
        everywhere = bool(self.replicas) and all(book.failing.above for book in self.replicas.values())
        return self.baseline.above or everywhere

    @property
    def set_aside(self) -> tuple[str, ...]:
        """The names of the servers set aside now."""
        return tuple(self._name(server) for server in self.aside)

    def doubts(self) -> tuple[str, ...]:
        """Why nothing may be promoted against this baseline."""
        if not self.stable_fails:
            return ()
        return (
            f"stable itself fails: {self.baseline.events:,} of its last {self.baseline.readings:,} requests "
            f"(limit {100 * self.limit:g} %), and nothing is promoted against a sick baseline",
        )

    def notes(self) -> tuple[str, ...]:
        """What a reader should know of single replicas, as short sentences."""
        return (*self._told_aside(), *self._told_concentrated(), *self._told_latency())

    def _told_aside(self) -> list[str]:
        told, now = [], self.aside
        for server, book in sorted(self.replicas.items()):
            if server in now and book.aside_since:
                what, onset = ("stable itself fails there", book.failing)
                if not onset.above:
                    what, onset = "stable differs from itself there", book.unsteady
                pair, seconds = book.aside_since
                told.append(
                    f"{self._name(server)} is set aside as sick since pair {pair:,} ({seconds:,.0f} s): {what}, "
                    f"{onset.events:,} of the last {onset.readings:,}; {book.aside:,} pairs not judged"
                )
            elif book.aside:
                told.append(f"{self._name(server)} was set aside as sick for a time; {book.aside:,} pairs not judged")
        return told

    def _told_concentrated(self) -> list[str]:
        """Servers on which the canary alone fails, far beyond their share of the pairs."""
        pairs, failed = (sum(getattr(b, what) for b in self.replicas.values()) for what in ("pairs", "canary_only"))
        return [
            f"the canary fails on {self._name(server)} above all: {book.canary_only:,} of {book.pairs:,} pairs there, "
            f"{failed - book.canary_only:,} of {pairs - book.pairs:,} elsewhere"
            for server, book in sorted(self.replicas.items())
            if 0 < book.pairs < pairs and _log_e_share(book.canary_only, failed, book.pairs / pairs) >= NAMED
        ]

    def _told_latency(self) -> list[str]:
        typical = {server: book.typical_ratio() for server, book in sorted(self.replicas.items())}
        known = {server: ratio for server, ratio in typical.items() if ratio is not None}
        if len(known) < 2 or max(known.values()) - min(known.values()) <= APART:
            return []
        parts = ", ".join(f"{self._name(server)} {100 * ratio:+.0f} %" for server, ratio in known.items())
        return [f"typical latency relative to stable differs by replica: {parts}"]

    def _name(self, server: int) -> str:
        return self.names[server] if 0 <= server < len(self.names) else f"server {server}"


def _stable_failures(batch: Batch) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Server and whether stable failed, per request it was asked; one that both sides refuse is itself at fault."""
    first, second = batch["stable_status"], batch["canary_status"]
    fair = ~((first == INVALID) & (second == INVALID))
    asked = [fair & (side != NOT_FOUND) & (side != EXHAUSTED) for side in (first, second)]
    asked[1] &= batch["aa"]
    servers = [batch["server"][rows] for rows in asked]
    return np.concatenate(servers), np.concatenate([first[asked[0]] != OK, second[asked[1]] != OK])


def _well(limit: float, books: Sequence[tuple[int, int]]) -> bool:
    """Something was seen of these servers, and no more than the limit of it was bad; pairs of bad and all."""
    bad, seen = (sum(counts) for counts in zip(*books, strict=True)) if books else (0, 0)
    return seen > 0 and bad <= limit * seen


def _log_e_share(there: int, total: int, share: float) -> float:
    """Log e-value against "an event falls there with its share of the pairs at most"."""
    bets = MEANS.harm
    wealths = there * np.log1p(bets.sizes * (1 - share) / share) + (total - there) * np.log1p(-bets.sizes)
    return float(bets.mix(wealths))
