"""CPU of two versions in one process: blocks of A/A and A/B pairs in turn, on a schedule fixed ahead.

A process has one CPU clock, so only time tells the versions apart. In an A/A
block each pair costs 2 s (stable's cost twice), in an A/B block s + c, and
what else runs there costs u a second in both. If c <= (1 + m) s, then
(u + n (s + c)) / max(n, n') <= (1 + m / 2) (u + 2 n' s) / n' whatever u, for n
A/B and n' A/A pairs: so u hides a part of the difference and never makes one
up, not even where a slow canary lets fewer pairs through. So do the few A/A
pairs that chance draws in an A/B block.
Couples run A/A A/B, then A/B A/A: a steady drift raises one couple as much as
it lowers the next. All servers keep the same time: a request's kind of pair
never depends on which server takes it.

Source: Bojinov, Simchi-Levi, Zhao, Design and analysis of switchback experiments.
"""

import math
from dataclasses import dataclass

LONGER = 0.2  # a block this much longer or shorter than planned is no measurement


@dataclass(frozen=True, slots=True)
class Schedule:
    """Blocks of `block_seconds` from `warmup_seconds` of judging on."""

    block_seconds: float
    warmup_seconds: float

    def block(self, at: float) -> int | None:
        """The number of the block at that second of judging; None while it is warm-up."""
        block = math.floor((at - self.warmup_seconds) / self.block_seconds)
        return block if block >= 0 else None

    def ends(self, block: int) -> float:
        """The second of judging at which that block is over."""
        return self.warmup_seconds + (block + 1) * self.block_seconds

    def aa(self, block: int) -> bool:
        """Whether that block is one of A/A pairs."""
        return block % 4 in (0, 3)


@dataclass(frozen=True, slots=True)
class BlockCost:
    """What one block cost on one server: seconds it took, pairs sent, CPU seconds used."""

    aa: bool
    seconds: float
    pairs: int
    cpu_seconds: float

    def sound(self, planned_seconds: float) -> bool:
        """It was not cut short or long, pairs were sent, and the counter was not reset."""
        regular = abs(self.seconds - planned_seconds) <= LONGER * planned_seconds
        return regular and self.pairs > 0 and 0 < self.cpu_seconds < math.inf


def couple(first: BlockCost, second: BlockCost, planned_seconds: float) -> tuple[float, float] | None:
    """(A/A, A/B) CPU seconds a pair of two neighbouring blocks; None when they are no sound couple of both kinds."""
    if first.aa == second.aa or not (first.sound(planned_seconds) and second.sound(planned_seconds)):
        return None
    aa, ab = (first, second) if first.aa else (second, first)
    return aa.cpu_seconds / aa.pairs, ab.cpu_seconds / max(ab.pairs, aa.pairs)
