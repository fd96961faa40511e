"""What was withdrawn before: known by its files where it has a manifest, else by its number.

Read out of the store: a rollout that was taken back, and what was found of its version's files before the first label.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import ModelName
from haldane.domain.release import Past, Withdrawn
from haldane.domain.rollout import Phase, Rollout, RolloutId
from haldane.engine.apart import Apart
from haldane.ports import Store
from haldane.rollout.intake import withdrawn_before

CHECKED, MOVED, STARTED = "release_checked", "phase_changed", "rollout_started"  # kinds of Records
CONTENT_SECONDS = 10.0
_PAST = 1_000  # rollouts looked back on


@dataclass
class Withdrawals:
    """`content_now` reads a version's digest where it lies, "" where it has none. It blocks and raises no PortError."""

    store: Store
    content_now: Callable[[ModelName, int], str] = lambda model, version: ""
    _storage: Apart = field(default_factory=Apart)
    _known: dict[RolloutId, Withdrawn] = field(default_factory=dict)  # of rollouts that are over, which never change
    _by_announcement: dict[RolloutId, bool] = field(default_factory=dict)

    async def past(self, model: ModelName) -> Past:
        """What became of one model's rollouts; PortError when the store is away."""
        return await asyncio.to_thread(self._past, model)

    async def content(self, model: ModelName, version: int) -> str:
        """That of a version where it lies now; "" where it has none, or its storage does not answer."""
        try:
            read = partial(self.content_now, model, version)
            return await self._storage.ask((model, version), read, CONTENT_SECONDS)
        except TimeoutError:
            return ""

    async def told(self, model: ModelName, version: int) -> str:
        """Which rollout withdrew that version, or its files, before, as a sentence; "" when none did."""
        withdrawn = (await self.past(model)).withdrawn
        return withdrawn_before(version, await self.content(model, version), withdrawn) if withdrawn else ""

    def _past(self, model: ModelName) -> Past:
        rollouts = [one for one in self.store.rollouts(_PAST) if one.model == model]
        withdrawn = tuple(self._withdrawn(one) for one in rollouts if one.phase is Phase.ROLLED_BACK)
        # The newest tells: what came before it no longer counts.
        by_person = (one.started_at for one in rollouts if one.reverts is None and not self._announced(one))
        return Past(withdrawn, next(by_person, float("-inf")))

    def _withdrawn(self, rollout: Rollout) -> Withdrawn:
        if rollout.id not in self._known:
            records = self.store.records(rollout.reverts or rollout.id, kinds=(CHECKED, MOVED))
            content = next((one.data["digest"] for one in reversed(records) if one.kind == CHECKED), "")
            exposed = rollout.reverts is not None or any(one.data.get("promoted") for one in records)
            harmful = rollout.verdict is Verdict.FAIL
            found = Withdrawn(rollout.id, rollout.new, content, harmful, exposed, rollout.phase_since)
            self._known[rollout.id] = found
        return self._known[rollout.id]

    def _announced(self, rollout: Rollout) -> bool:
        if rollout.id not in self._by_announcement:
            started = self.store.records(rollout.id, kinds=(STARTED,))
            self._by_announcement[rollout.id] = any(one.data.get("announcement") for one in started)
        return self._by_announcement[rollout.id]
