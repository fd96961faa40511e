"""Before a rollout sets a label: are the version's files those that were published.

Once before `canary`, once more before the first `stable`: in between lie hours in
which a server may restart and load what lies there by then. Reading a large model
takes a while, so it is done beside the looking, and the label waits for it. A
revert is not looked into: it must not wait, and it goes back to what was promoted.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import structlog

from haldane.domain.fleet import ModelName
from haldane.domain.release import Profile
from haldane.domain.rollout import Rollout, RolloutId
from haldane.domain.vouched import Vouched
from haldane.engine.apart import Apart
from haldane.engine.desk import Desk
from haldane.ports import Store, Unavailable

log = structlog.get_logger()

STORE_RETRY_SECONDS = 1.0


_Stage = tuple[RolloutId, bool]  # and whether it promotes


def _over(busy: set[_Stage], stage: _Stage, _: asyncio.Task[None]) -> None:
    busy.discard(stage)


@dataclass
class Vouching:
    """Vouches for the new version of every live rollout. Both calls block, and raise nothing that is expected.

    `measured` is what a version took when it was validated, for the one now served.
    """

    desk: Desk
    store: Store
    compare: Callable[[ModelName, int], Vouched]
    measured: Callable[[ModelName, int], Profile | None] = lambda *_: None
    _storage: Apart = field(default_factory=lambda: Apart(64))  # one storage that hangs keeps no other's label waiting

    async def run(self) -> None:
        """Each rollout's in a task of its own: a storage that hangs keeps no other model's label waiting."""
        busy = set[_Stage]()
        async with asyncio.TaskGroup() as group:
            while True:
                for rollout in self.desk.live():
                    stage = rollout.id, bool(rollout.promoted)
                    if stage not in busy and self.desk.awaits_vouching(rollout):
                        busy.add(stage)
                        task = group.create_task(self._vouch(rollout), name=f"vouching {rollout.id}")
                        task.add_done_callback(partial(_over, busy, stage))
                await self.desk.wait_changed(5.0)

    async def _vouch(self, rollout: Rollout) -> None:
        found = await self._compared(rollout)
        log.info("release_checked", rollout=rollout.id, model=rollout.model, result=found.standing, why=found.why)
        data: dict[str, Any] = {"result": found.standing.value, "why": found.why, "digest": found.digest}
        data |= {"version": rollout.new, "golden": len(found.golden), "metadata": dict(found.metadata)}
        data |= {"profile": asdict(found.profile)} if found.profile else {}
        served = None if rollout.first else await self._served(rollout)
        data |= {"served": {"version": rollout.old, "profile": asdict(served)}} if served else {}
        while True:
            try:
                await asyncio.to_thread(
                    lambda: self.store.record("release_checked", data, rollout=rollout.id, model=rollout.model)
                )
                break
            except Unavailable as error:
                log.error("record_not_stored", rollout=rollout.id, detail=error.detail)
                await asyncio.sleep(STORE_RETRY_SECONDS)
        self.desk.put_vouched(rollout, found)

    async def _compared(self, rollout: Rollout) -> Vouched:
        compare = partial(self.compare, rollout.model, rollout.new)
        return await self._storage.ask((rollout.id, bool(rollout.promoted)), compare)

    async def _served(self, rollout: Rollout) -> Profile | None:
        return await self._storage.ask((rollout.model, rollout.old), partial(self.measured, rollout.model, rollout.old))
