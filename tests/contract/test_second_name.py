"""A broken version under a canary's own name keeps no rollback waiting, on a server that has real reload locks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from haldane.domain.fleet import Availability, Clients, ModelName, ModelView, Placement, ServerName
from haldane.domain.rollout import Mode, Phase, Progress, Rollout
from haldane.engine.converge import Converge, Pace
from haldane.engine.desk import Desk
from haldane.serving.client import open_client
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout
from haldane.testing.sandboxes import Sandbox, affine_request

SCORER, FRAUD = ModelName("scorer"), ModelName("fraud")
APART = ModelName("scorer_canary")
R0 = ServerName("r0")


class One:
    """One server that is kept at what the desk wants of it."""

    def __init__(self, box: Sandbox, desk: Desk) -> None:
        self.box, self.desk = box, desk
        self.revision = 0

    def put(self, rollout: Rollout) -> None:
        self.revision += 1
        self.desk.put_rollout(rollout, self.revision)

    def seen(self, model: ModelName) -> ModelView:
        view = self.desk.views.get(R0)
        return view.models.get(model, ModelView()) if view else ModelView()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            await self.desk.wait_until(holds)

    async def until_settled(self, rollout: Rollout) -> None:
        await self.until(lambda: self.desk.looked(rollout, 0.0).progress[R0] is Progress.SETTLED)

    async def until_loading(self, model: ModelName, version: int) -> None:
        def loading() -> bool:
            found = self.seen(model).status(version)
            return found is not None and found.availability is Availability.LOADING

        await self.until(loading)


@asynccontextmanager
async def kept(folder: Path, *, broken: bool) -> AsyncIterator[One]:
    """A server of two models. A broken version 2 of scorer is tried for a minute."""

    async def nothing(*_: Any) -> str:
        return ""

    async def note(kind: str, data: dict[str, Any]) -> None:
        return None

    with Sandbox(folder, flags=("--num_load_threads=2",)) as box:
        for model in (SCORER, FRAUD):
            box.add(model, 1)
            box.add(model, 2, "corrupt_pb" if broken and model == SCORER else "affine")
        base = box.config(box.entry(SCORER, 1), box.entry(FRAUD, 1))
        box.start(base)
        desk = Desk(Mode.ENFORCE, {R0: box.server}, base, {})
        for model in (SCORER, FRAUD):
            desk.put_stable(model, 1, 1, Clients.LABEL, provable=True)
            desk.golden[model] = affine_request(1.0)
        async with open_client(box.server) as client:
            converge = Converge(
                server=box.server,
                client=client,
                desk=desk,
                telemetry=Telemetry.on(CollectorRegistry()),
                may_act=lambda: True,
                guard=nothing,
                note=note,
                on_view=lambda server, view: None,
                pace=Pace(live=0.2, rest=0.2),
            )
            task = asyncio.create_task(converge.run())
            try:
                one = One(box, desk)
                await one.until(lambda: all(one.seen(model).labels.get("stable") == 1 for model in (SCORER, FRAUD)))
                yield one
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def a_trial(phase: Phase) -> Rollout:
    return a_rollout(phase, id="scorer-2", model=SCORER, servers=(R0,), placement=Placement.SECOND_NAME)


async def test_trap_06_another_models_rollback_waits_for_no_broken_version_under_its_own_name(tmp_path: Path) -> None:
    async with kept(tmp_path, broken=True) as one:
        one.put(a_trial(Phase.LOADING))
        await one.until_loading(APART, 2)
        promoted = a_rollout(Phase.BAKING, id="fraud-2", model=FRAUD, servers=(R0,), promoted=(R0,))
        one.put(promoted)
        await one.until(lambda: one.seen(FRAUD).labels.get("stable") == 2)
        one.put(replace(promoted, phase=Phase.ROLLING_BACK, promoted=()))
        await one.until(lambda: one.seen(FRAUD).labels.get("stable") == 1)
        assert not one.seen(APART).available(2) and one.seen(APART).available(1), "scorer's trial was over by itself"
        one.put(a_trial(Phase.ROLLING_BACK))  # its own rollback waits for no attempt to load either
        await one.until_settled(a_trial(Phase.ROLLING_BACK))


async def test_clients_by_label_get_the_new_version_from_the_models_own_entry(tmp_path: Path) -> None:
    async with kept(tmp_path, broken=False) as one:
        one.put(a_trial(Phase.LOADING))
        await one.until_settled(a_trial(Phase.LOADING))
        assert (one.seen(SCORER).loaded, one.seen(SCORER).labels) == ((1,), {"stable": 1})
        assert one.seen(APART).loaded == (2,)
        promoting = replace(a_trial(Phase.PROMOTING), promoted=(R0,))
        one.put(promoting)
        await one.until_settled(promoting)
        assert one.seen(SCORER).labels == {"stable": 2} and one.seen(APART).loaded == (2,)
        baking = replace(promoting, phase=Phase.BAKING)
        one.put(baking)
        await one.until_settled(baking)
        assert one.seen(SCORER).loaded == (1, 2) and one.seen(APART).loaded == ()
