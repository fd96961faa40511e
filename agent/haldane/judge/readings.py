"""Readings of gauges as evidence: gathered by time, one vote a block.

However many servers give readings, a block of time gives one vote: noise that
hits one side of all of them at once must not count as often as there are
servers. A reading that cannot be is left out and counted; a block with fewer
than half of its readings gives no vote.
"""

import math
from dataclasses import replace
from statistics import median

import numpy as np

from haldane.domain.entries import Entry
from haldane.domain.evidence import Finding
from haldane.judge.findings import Watch
from haldane.judge.gauges import UNITS, Gauge, GaugeRule
from haldane.stats.betting import Floats, Interval
from haldane.stats.blocks import RatioEvidence, trimmed_means

LADDER = 48  # RatioEvidence then lengthens blocks at most once, which is as much as minutes allow
HOUR = 3600.0
FURTHEST = 700.0  # log of a ratio
SURE = math.log(1e12)  # what a measured fact beyond its limit is worth; chance has no part in it

Values = list[tuple[int, float]]  # server, what its reading says


class GaugeEvidence(RatioEvidence):
    """Evidence against "the typical ratio of a block is at most 1 + margin"; a reading is a whole block's."""

    def __init__(self, rule: GaugeRule) -> None:
        super().__init__(margin=rule.ratio, block_pairs=1, horizon_pairs=LADDER)
        self._seconds = rule.vote_seconds

    def detail(self) -> str:
        blocks, above = self.blocks
        if not blocks:
            return f"no block of {self._seconds:g} s has been read yet"
        return f"{above} of {blocks} blocks of {self._seconds * self.block_pairs:g} s above the margin"


class CpuEvidence(GaugeEvidence):
    """The same of a switchback, which can show harm and never its absence: what else runs hides a part of it."""

    def log_harmless(self) -> float:
        return 0.0

    def detail(self) -> str:
        return f"{super().detail()}; what else ran on the server hides a part of the difference"


class FactEvidence:
    """Whether most servers measured more than is allowed. Nothing is left to chance, so no alpha is spent."""

    def __init__(self, rule: GaugeRule) -> None:
        self._limit = math.inf if rule.limit is None else rule.limit
        self._ratio = 1 + rule.margin if rule.margin else math.inf
        self._relative = rule.limit is None
        self._facts: list[tuple[float, float]] = []

    @property
    def pairs(self) -> int:
        """Servers that gave a fact."""
        return len(self._facts)

    def fold(self, stable: Floats, canary: Floats) -> None:
        """Facts of servers, shape (n,) each; stable's NaN, or nothing, where it is not known."""
        for known, value in zip(np.where(stable > 0, stable, np.nan).tolist(), canary.tolist(), strict=True):
            if math.isfinite(value) and (math.isfinite(known) or not self._relative):
                self._facts.append((known, value))

    def start(self) -> None:
        """Facts have no late starts."""

    def carrier(self) -> int:
        return 0

    @property
    def _beyond(self) -> int:
        return sum(value > self._limit or value > known * self._ratio for known, value in self._facts)

    def log_harm(self) -> float:
        return SURE if 2 * self._beyond > self.pairs else 0.0

    def log_harmless(self) -> float:
        return SURE if self._facts and not self._beyond else 0.0

    def holds(self) -> bool:
        return False

    def estimate(self) -> float | None:
        """The middle server's, in the unit of the limit; relative to stable's when only a margin is given."""
        return median(self._shown()) if self._facts else None

    def interval(self, level: float) -> Interval:
        """Over servers: least and most."""
        return (min(self._shown()), max(self._shown())) if self._facts else (None, None)

    def _shown(self) -> list[float]:
        if self._relative:
            return [value / known - 1 for known, value in self._facts]
        return [value for _, value in self._facts]

    def detail(self) -> str:
        return f"{self._beyond} of {self.pairs} servers beyond it" if self._facts else "not measured"


class Blocks:
    """Readings of one gauge in, one log ratio per block of time out."""

    def __init__(self, rule: GaugeRule) -> None:
        self.rule = rule
        self.taken = 0  # readings that said something
        self.missing = 0  # no answer, or none that can be
        self.dropped = 0  # a counter that was reset, a clock that jumped
        self._fewest = max(1, math.ceil(rule.block_seconds / rule.every_seconds / 2))
        self._block: int | None = None
        self._values: Values = []
        self._before: dict[int, tuple[float, float, float]] = {}  # server -> at and counts of the last reading
        self._half: dict[int, float] = {}  # of growth: server -> middle of the block before
        self._grown: tuple[float, int] = (0.0, 0)  # sum of bytes over couples, couples

    def take(self, rows: Entry) -> tuple[Floats, Floats]:
        """Rows of this gauge, in order: (stable, canary) of the blocks they close, shape (n,) each.

        Facts go on as they are. Rows of CPU are one couple of blocks, whichever server they are of.
        """
        rows = rows[rows["at"] >= self.rule.warmup_seconds] if not self.rule.kind.fact else rows
        if self.rule.kind.fact:
            self.taken += len(rows)
            return rows["stable"].astype(np.float64), rows["canary"].astype(np.float64)
        locations = self._couple(rows) if self.rule.kind is Gauge.CPU else self._by_time(rows)
        # Beyond that a ratio is no number any more.
        return np.ones(len(locations)), np.exp(np.clip(np.array(locations, np.float64), -FURTHEST, FURTHEST))

    def _couple(self, rows: Entry) -> list[float]:
        for row in rows:
            self._keep(int(row["server"]), _log_ratio(float(row["stable"]), float(row["canary"])))
        values, self._values = self._values, []
        return [_location(values)] if values else []

    def _by_time(self, rows: Entry) -> list[float]:
        closed: list[float] = []
        for row in rows:
            at, server = float(row["at"]), int(row["server"])
            if not math.isfinite(at):
                self.dropped += 1
                continue
            block = int((at - self.rule.warmup_seconds) // self.rule.block_seconds)
            if self._block is not None and block < self._block:  # the clock went back
                self.dropped += 1
                continue
            if self._block is not None and block > self._block:
                closed += self._close(self._block)
            self._block = block
            self._read(at, server, float(row["stable"]), float(row["canary"]))
        return closed

    def _read(self, at: float, server: int, stable: float, canary: float) -> None:
        if self.rule.kind is Gauge.GROWTH:
            self._keep(server, canary if math.isfinite(canary) and canary > 0 else None)
        elif self.rule.counter:
            self._count(at, server, stable, canary)
        else:
            self._keep(server, _log_ratio(stable, canary))

    def _keep(self, server: int, value: float | None) -> None:
        if value is None:
            self.missing += 1
            return
        self.taken += 1
        self._values.append((server, value if self.rule.higher_is_worse else -value))

    def _count(self, at: float, server: int, stable: float, canary: float) -> None:
        """Counts become rates over the time since the reading before; both sides share it, so only growth counts."""
        before = self._before.get(server)
        if not (math.isfinite(stable) and math.isfinite(canary)):
            self.missing += 1
            self._before.pop(server, None)
            return
        if before is not None:
            seconds, more, more_canary = at - before[0], stable - before[1], canary - before[2]
            if more < 0 or more_canary < 0 or not 0 < seconds <= max(4 * self.rule.every_seconds, 30.0):
                self.dropped += 1
            elif more == 0 or more_canary == 0:
                return  # not scraped anew on one side: the next reading spans both
            else:
                self._keep(server, _log_ratio(more, more_canary))
        self._before[server] = at, stable, canary

    def _close(self, block: int) -> list[float]:
        values, self._values = self._values, []
        enough = len(values) >= self._fewest
        if self.rule.kind is Gauge.GROWTH:
            return self._grow(block, values if enough else [])
        return [_location(values)] if enough else []

    def _grow(self, block: int, values: Values) -> list[float]:
        """Couples of blocks that do not overlap, so that one couple's noise is not the next one's.

        Growth beyond the limit is a ratio above 1 of the second to the first plus what is allowed.
        """
        by_server: dict[int, list[float]] = {}
        for server, value in values:
            by_server.setdefault(server, []).append(value)
        middles = {server: median(found) for server, found in by_server.items()}
        if block % 2 == 0:
            self._half = middles
            return []
        first, self._half = self._half, {}
        both = sorted(first.keys() & middles.keys())
        if not both:
            return []
        allowed = (self.rule.limit or 0.0) * self.rule.block_seconds / HOUR
        grown = sum(middles[server] - first[server] for server in both) / len(both)
        self._grown = self._grown[0] + grown, self._grown[1] + 1
        return [_location([(server, math.log(middles[server] / (first[server] + allowed))) for server in both])]

    @property
    def growth(self) -> float | None:
        """Mean growth, bytes an hour; None before the first couple of blocks."""
        total, couples = self._grown
        return total / couples * HOUR / self.rule.block_seconds if couples else None

    def detail(self) -> str:
        """What was left out, "" when nothing was."""
        told = [(self.missing, "missing"), (self.dropped, "dropped (reset or clock)")]
        seen = self.taken + self.missing + self.dropped
        return "; ".join(f"{count:,} of {seen:,} readings {what}" for count, what in told if count)


def gauge_watch(rule: GaugeRule) -> Watch:
    """One gauge under judgement."""
    cpu = rule.kind is Gauge.CPU  # half of a pair is stable's
    evidence = FactEvidence if rule.kind.fact else CpuEvidence if cpu else GaugeEvidence
    return Watch(
        rule.name,
        rule.role,
        rule.weight,
        evidence(rule),
        measures=rule.kind,
        unit="ratio" if rule.limit is None else UNITS[rule.kind],
        margin=rule.limit if rule.limit is not None else rule.ratio * (2 if cpu else 1),
        scale=2.0 if cpu else 1.0,
        last_entry=rule.last_entry,
        patience=math.inf if rule.kind.fact else 5 * rule.vote_seconds,
    )


def told(found: Finding, blocks: Blocks) -> Finding:
    """The finding with the readings that were left out; growth, which is tested as a ratio, in bytes."""
    if blocks.rule.kind is Gauge.GROWTH:
        found = replace(found, estimate=blocks.growth, lower=None, upper=None)
    left_out = blocks.detail()
    return replace(found, detail=f"{found.detail}; {left_out}") if left_out else found


def _log_ratio(stable: float, canary: float) -> float | None:
    """None when a side is missing, infinite or not positive."""
    usable = math.isfinite(stable) and math.isfinite(canary) and stable > 0 and canary > 0
    return math.log(canary) - math.log(stable) if usable else None


def _location(values: Values) -> float:
    return float(trimmed_means(np.array([[value for _, value in values]]))[0])
