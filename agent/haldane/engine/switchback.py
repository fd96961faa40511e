"""Which kind of pair goes out now, and what a block of them cost: the switchback at work.

The schedule is `judge.switchback`'s. Here pairs are counted by the block in
which they are sent, and CPU clocks are read at its borders.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from haldane.domain.fleet import ServerName
from haldane.judge.switchback import BlockCost, Schedule, couple
from haldane.ports import PortError, ProcessMeter

Cost = tuple[float, float]  # CPU seconds a pair: A/A, A/B


class Switchback:
    """One rollout's blocks of pairs, on the servers whose CPU can be read."""

    def __init__(
        self,
        schedule: Schedule,
        servers: Sequence[ServerName],
        meters: Mapping[ServerName, ProcessMeter],
        *,
        elapsed: Callable[[], float],
        loading: Callable[[ServerName], bool],
    ) -> None:
        self._schedule, self._meters, self._elapsed, self._loading = schedule, meters, elapsed, loading
        self._index = {server: index for index, server in enumerate(servers) if server in meters}
        self._sent: dict[int, dict[ServerName, int]] = defaultdict(lambda: dict.fromkeys(self._index, 0))
        self._spoilt: dict[int, set[ServerName]] = defaultdict(set)  # a model was loading meanwhile
        self.why: dict[ServerName, str] = {}  # CPU could not be read at the last border

    def aa(self, server: ServerName) -> bool:
        """Whether the pair about to be sent is to be A/A, counting it; otherwise chance may say."""
        block = self._schedule.block(self._elapsed())
        if block is None:
            return False
        if server not in self._index:
            return self._schedule.aa(block)
        self._sent[block][server] += 1
        if self._loading(server):
            self._spoilt[block].add(server)
        return self._schedule.aa(block)

    async def couples(self) -> AsyncIterator[dict[int, Cost | None]]:
        """After each couple of blocks: server index -> cost, None where it could not be told."""
        first: dict[ServerName, BlockCost] = {}
        before: dict[ServerName, float] = {}
        began, block = 0.0, -1  # nothing is known of the block under way when this begins
        while True:
            ended = await self._border(block)
            now, clocks = self._elapsed(), await self._clocks()
            costs = self._costs(ended, now - began, before, clocks)
            if ended % 2 and ended >= 0:
                yield {
                    self._index[server]: couple(first[server], costs[server], self._schedule.block_seconds)
                    if server in first and server in costs
                    else None
                    for server in self._index
                }
            first = costs if ended % 2 == 0 else {}
            before, began, block = clocks, now, ended + 1

    async def _border(self, block: int) -> int:
        """Wait for the end of the block under way; its number."""
        # Never the same one twice, where a sleep ends a moment early; one slept through is too long to count.
        here = self._schedule.block(self._elapsed())
        block = max(block, -1 if here is None else here)
        await asyncio.sleep(max(0.0, self._schedule.ends(block) - self._elapsed()))
        return block

    async def _clocks(self) -> dict[ServerName, float]:
        read = await asyncio.gather(
            *(self._meters[server].cpu_seconds() for server in self._index), return_exceptions=True
        )
        clocks, self.why = {}, {}
        for server, value in zip(self._index, read, strict=True):
            if isinstance(value, PortError):
                self.why[server] = str(value)
            elif isinstance(value, BaseException):
                raise value
            else:
                clocks[server] = value
        return clocks

    def _costs(
        self, block: int, seconds: float, before: Mapping[ServerName, float], now: Mapping[ServerName, float]
    ) -> dict[ServerName, BlockCost]:
        sent, spoilt = self._sent.pop(block, {}), self._spoilt.pop(block, set())
        return {
            server: BlockCost(
                self._schedule.aa(block),
                seconds,
                sent.get(server, 0),
                now[server] - before[server],
            )
            for server in before.keys() & now.keys()
            if server not in spoilt
        }
