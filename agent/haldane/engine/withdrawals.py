"""What was withdrawn before: known by its files where it has a manifest, else by its number.

Read out of the store: a rollout that was taken back, and what was found of its version's files before the first label.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import ModelName
from haldane.domain.release import Withdrawn
from haldane.domain.rollout import Phase, Rollout, RolloutId
from haldane.ports import Store
from haldane.rollout.intake import withdrawn_before

CHECKED = "release_checked"  # kind of Record
CONTENT_SECONDS = 10.0
_PAST = 1_000  # rollouts looked back on


@dataclass
class Withdrawals:
    """`content_now` reads a version's digest where it lies, "" where it has none. It blocks and raises no PortError."""

    store: Store
    content_now: Callable[[ModelName, int], str] = lambda model, version: ""
    _content: dict[RolloutId, str] = field(default_factory=dict)  # of rollouts that are over, which never changes

    async def past(self, model: ModelName) -> Sequence[Withdrawn]:
        """Those of one model, newest first; PortError when the store is away."""
        return await asyncio.to_thread(self._past, model)

    async def content(self, model: ModelName, version: int) -> str:
        """That of a version where it lies now; "" where it has none, or its storage does not answer."""
        try:
            async with asyncio.timeout(CONTENT_SECONDS):
                return await asyncio.to_thread(self.content_now, model, version)
        except TimeoutError:
            return ""

    async def told(self, model: ModelName, version: int) -> str:
        """Which rollout withdrew that version, or its files, before, as a sentence; "" when none did."""
        past = await self.past(model)
        return withdrawn_before(version, await self.content(model, version), past) if past else ""

    def _past(self, model: ModelName) -> list[Withdrawn]:
        return [
            Withdrawn(one.id, one.new, self._content_of(one), harmful=one.verdict is Verdict.FAIL)
            for one in self.store.rollouts(_PAST)
            if one.model == model and one.phase is Phase.ROLLED_BACK
        ]

    def _content_of(self, rollout: Rollout) -> str:
        if rollout.id not in self._content:
            checked = self.store.records(rollout.reverts or rollout.id, kinds=(CHECKED,))
            self._content[rollout.id] = next((one.data["digest"] for one in reversed(checked)), "")
        return self._content[rollout.id]
