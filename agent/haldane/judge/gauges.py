"""What is judged besides pairs: resources and any other gauge, and the rule of each.

A gauge is read beside the pairs, by a clock. Belongs here: which kinds there
are and what makes a rule of one right. How readings become evidence is
`judge.readings`.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from haldane.domain.evidence import Role


class Gauge(StrEnum):
    """What a gauge measures, and by which scope the versions are told apart."""

    QUERY = "query"  # an expression asked once per side
    CPU = "cpu"  # processor seconds per pair, blocks of A/A and A/B in turn on one process
    MEMORY = "memory"  # resident bytes that the load of a version added
    GROWTH = "memory_growth"  # resident bytes an hour while the canary is loaded
    LOAD = "load_time"  # seconds a version took to load

    @property
    def fact(self) -> bool:
        """Measured once per server; a limit on it is crossed or not, without chance."""
        return self in (Gauge.MEMORY, Gauge.LOAD)


# One pod, or one process, a side cannot tell a version from a node: little weight. A fact spends no alpha.
GAUGE_WEIGHT, FACT_WEIGHT = 0.1, 0.001
UNITS = {Gauge.MEMORY: "bytes", Gauge.GROWTH: "bytes/h", Gauge.LOAD: "seconds"}  # of limits; others are ratios


@dataclass(frozen=True, slots=True, kw_only=True)
class GaugeRule:
    """How one gauge is judged.

    `margin` is relative to stable, `limit` (bytes, bytes an hour or seconds)
    holds for the canary alone. `weight` is its share of alpha. Readings come
    every `every_seconds`, are gathered over `block_seconds` into one vote, and
    do not count in the first `warmup_seconds` of judging.
    """

    name: str
    kind: Gauge
    role: Role = Role.GUARDRAIL
    margin: float = 0.0
    limit: float | None = None
    weight: float = GAUGE_WEIGHT
    higher_is_worse: bool = True
    counter: bool = False  # the query gives a count that only grows: its rate is compared
    query: str = ""
    every_seconds: float = 5.0
    block_seconds: float = 60.0
    warmup_seconds: float = 120.0

    def __post_init__(self) -> None:
        for key in ("weight", "every_seconds", "block_seconds"):
            self._require(0.0 < getattr(self, key) < math.inf, f"{key} must be positive, got {getattr(self, key)!r}")
        self._require(0.0 <= self.warmup_seconds < math.inf, f"warmup_seconds: {self.warmup_seconds!r}")
        self._require(0.0 <= self.margin < math.inf, f"margin: {self.margin!r}")
        self._require(self.limit is None or 0.0 < self.limit < math.inf, f"limit must be positive: {self.limit!r}")
        self._require(self.every_seconds <= self.block_seconds, "every is longer than a block")
        if self.kind is Gauge.QUERY:
            self._require(bool(self.query), "a query gauge needs query")
        else:
            self._require(not self.query and not self.counter, f"{self.kind} takes no query")
            self._require(self.higher_is_worse, f"{self.kind}: more is always worse")
        if self.kind in (Gauge.QUERY, Gauge.CPU):
            self._require(self.margin > 0 and self.limit is None, 'give a margin relative to stable such as "+10%"')
            self._require(self.higher_is_worse or self.margin < 1, "a drop of 100 % or more is no margin")
        if self.kind is Gauge.CPU:
            self._require(
                self.role is not Role.OBJECTIVE,
                "what else runs on the server hides a part of the difference, so cpu can show harm and never the "
                "absence of harm; make it a guardrail, signal or info",
            )
        if self.kind is Gauge.GROWTH:
            self._require(self.limit is not None and not self.margin, "growth has no stable side: give a limit")
        if self.kind.fact:
            self._require(bool(self.margin) or self.limit is not None, "give a limit, or a margin relative to stable")

    def _require(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise ValueError(f"{self.name}: {otherwise}")

    @property
    def ratio(self) -> float:
        """The margin of the ratio that is tested, worse side over better, minus 1.

        A pair of both versions costs s + c where one of stable alone costs 2 s,
        so a canary dearer by m shows as m / 2. A drop by m is 1 / (1 - m).
        """
        if self.kind is Gauge.CPU:
            return self.margin / 2
        return self.margin if self.higher_is_worse else 1 / (1 - self.margin) - 1

    @property
    def vote_seconds(self) -> float:
        """What one vote takes: a block, or two where neighbours are compared."""
        return self.block_seconds * (2 if self.kind in (Gauge.CPU, Gauge.GROWTH) else 1)

    @property
    def last_entry(self) -> float:
        """Seconds of judging after which a gauge that gave nothing yet stays out: time for some spoilt votes."""
        return self.warmup_seconds + 5 * self.vote_seconds
