"""CPU of two versions in one process: blocks of A/A and A/B pairs in turn, on a schedule fixed ahead.

A process has one CPU clock, so only time tells the versions apart. In an A/A
block each pair costs 2 s (stable's cost twice), in an A/B block s + c; what
else runs there costs the same in both and so hides a part of the difference,
never makes one up. Couples run A/A A/B, then A/B A/A: a steady drift raises
one couple as much as it lowers the next.

Source: Bojinov, Simchi-Levi, Zhao, Design and analysis of switchback experiments.
"""

import math
from dataclasses import dataclass

LONGER = 0.2  # a block this much longer or shorter than planned is no measurement


@dataclass(frozen=True, slots=True)
class Schedule:
    """Blocks of `block_seconds` from `warmup_seconds` of judging on; servers take turns the other way round."""

    block_seconds: float
    warmup_seconds: float

    def block(self, at: float) -> int | None:
        """The number of the block at that second of judging; None while it is warm-up."""
        block = math.floor((at - self.warmup_seconds) / self.block_seconds)
        return block if block >= 0 else None

    def ends(self, block: int) -> float:
        """The second of judging at which that block is over."""
        return self.warmup_seconds + (block + 1) * self.block_seconds

    def aa(self, block: int, server: int) -> bool:
        """Whether that block is one of A/A pairs on that server."""
        return ((block % 4) in (0, 3)) == (server % 2 == 0)


@dataclass(frozen=True, slots=True)
class BlockCost:
    """What one block cost on one server: seconds it took, pairs sent, CPU seconds used."""

    aa: bool
    seconds: float
    pairs: int
    cpu_seconds: float

    def per_pair(self, planned_seconds: float) -> float | None:
        """CPU seconds a pair; None when the block was cut short or long, sent nothing, or the counter was reset."""
        regular = abs(self.seconds - planned_seconds) <= LONGER * planned_seconds
        if not regular or self.pairs < 1 or not 0 < self.cpu_seconds < math.inf:
            return None
        return self.cpu_seconds / self.pairs


def couple(first: BlockCost, second: BlockCost, planned_seconds: float) -> tuple[float, float] | None:
    """(A/A, A/B) CPU seconds a pair of two neighbouring blocks; None when they are no couple of both kinds."""
    costs = first.per_pair(planned_seconds), second.per_pair(planned_seconds)
    if first.aa == second.aa or costs[0] is None or costs[1] is None:
        return None
    return (costs[0], costs[1]) if first.aa else (costs[1], costs[0])
