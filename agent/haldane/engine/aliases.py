"""Aliases of a model registry, kept in step: `champion` with what is stable, `challenger` with what is on trial.

Belongs to the comfort ring: a registry that is away holds up nothing but its own
aliases. Looks before it acts, so doing it again does no harm, and looks again now
and then, since others may set aliases, too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from haldane.domain.fleet import ModelName
from haldane.engine.desk import Desk
from haldane.ports import PortError, Registry
from haldane.rollout.aliases import Named, named
from haldane.telemetry import Telemetry

log = structlog.get_logger()

CHAMPION, CHALLENGER = "champion", "challenger"
SET = "aliases_set"  # kind of Records

RunOf = Callable[[ModelName, int], str]  # the training run a version came out of, "" without one; blocks; PortError
Note = Callable[[str, dict[str, Any], ModelName], Awaitable[None]]  # an audit record, stored when it returns


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasPace:
    """Seconds: how soon what failed is tried again, at first and at most, and how often all is looked at again."""

    first_retry: float = 2.0
    most_retry: float = 60.0
    again: float = 300.0


@dataclass
class Aliases:
    """`names`: what each model is called in the registry. `standing`: how it stands with each, in words."""

    desk: Desk
    registry: Registry
    names: Mapping[ModelName, str]
    run_of: RunOf
    note: Note
    telemetry: Telemetry
    pace: AliasPace = field(default_factory=AliasPace)
    standing: dict[ModelName, str] = field(default_factory=dict)

    async def run(self) -> None:
        """Each model in a task of its own, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for model in self.names:
                group.create_task(self._keep(model), name=f"aliases {model}")

    async def _keep(self, model: ModelName) -> None:
        clock, wait = asyncio.get_running_loop().time, self.pace.first_retry
        done: Named | None = None
        again = 0.0
        while True:
            want = self._wanted(model)
            if want == done and clock() < again:
                await self.desk.wait_changed(min(5.0, self.pace.again))
                continue
            result = "told"
            try:
                self.standing[model] = await self._bring(model, want)
                done, again, wait = want, clock() + self.pace.again, self.pace.first_retry
            except PortError as error:
                result, done = error.reason, None
                self.standing[model] = f"not in step, is tried again: {error}"
                log.warning("aliases_not_set", model=model, why=str(error))
            self.telemetry.agent.notifications.labels("mlflow", result).inc()
            if done is None:
                await asyncio.sleep(wait)
                wait = min(2 * wait, self.pace.most_retry)

    def _wanted(self, model: ModelName) -> Named:
        live = next((one for one in self.desk.live() if one.model == model), None)
        return named(self.desk.watched.get(model), live)

    async def _bring(self, model: ModelName, want: Named) -> str:
        """The registry's aliases to that; how they stand then. PortError when it cannot be done now."""
        name, told, changed = self.names[model], [], False
        have = await self.registry.aliases(name)
        for alias, version in ((CHAMPION, want.stable), (CHALLENGER, want.canary)):
            number = None if version is None else await self._number(model, version)
            if number is not None and have.get(alias) != number:
                await self.registry.set_alias(name, alias, number)
                changed = True
            elif number is None and alias == CHALLENGER and alias in have:
                await self.registry.drop_alias(name, alias)
                changed = True
            told.append(_said(alias, version, number))
        if changed:
            log.info(SET, model=model, registered=name, why="; ".join(told))
            data = {"registered": name, "stable": want.stable, "canary": want.canary, "why": "; ".join(told)}
            await self.note(SET, data, model)
        return "; ".join(told)

    async def _number(self, model: ModelName, version: int) -> str | None:
        """The registry's number of that version; None when it came out of no run that is known there."""
        run = await asyncio.to_thread(self.run_of, model, version)
        return await self.registry.version_of(self.names[model], run) if run else None


def _said(alias: str, version: int | None, number: str | None) -> str:
    if version is None:
        return f"no {alias}"
    if number is not None:
        return f"{alias} is {version}, registered as {number}"
    # A champion of before is wrong by one version; none at all would break whoever asks for it.
    left = ", so it is left as it is" if alias == CHAMPION else ""
    return f"{alias} should be {version}, which comes from no run that is registered{left}"
