"""`champion` follows what is stable and `challenger` what is on trial, whatever the registry does meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from haldane.domain.fleet import Clients
from haldane.domain.rollout import Mode, Phase
from haldane.engine.aliases import Aliases, AliasPace
from haldane.engine.desk import Desk
from haldane.ports import Refused, Unavailable
from haldane.rollout.aliases import Named, named
from haldane.rollout.wanted import Watched
from haldane.telemetry import Telemetry
from haldane.testing.builders import MODEL, a_config, a_rollout

AT_REST = Watched(1, Clients.LABEL)


@pytest.mark.parametrize(
    ("rollout", "canary"),
    [
        ({"phase": Phase.LOADING}, None),
        ({"phase": Phase.SHADOWING}, 2),
        ({"phase": Phase.BAKING}, 2),
        ({"phase": Phase.HELD, "held_from": Phase.SHADOWING}, 2),
        ({"phase": Phase.HELD, "held_from": Phase.LOADING}, None),
        ({"phase": Phase.ROLLING_BACK}, None),
        ({"phase": Phase.SHADOWING, "mode": Mode.OBSERVE}, None),
    ],
)
def test_a_version_has_the_alias_while_it_has_the_label(rollout, canary):
    assert named(AT_REST, a_rollout(**rollout)) == Named(1, canary)


def test_a_model_at_rest_has_a_stable_version_once_one_has_passed():
    assert named(AT_REST, None) == Named(1, None)
    assert named(Watched(1, Clients.LABEL, released=False), None) == named(None, None) == Named()


class Shelf:
    """A registry that knows run-1 as 11 and run-2 as 12, and may be away."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.away: Exception | None = None
        self.changes = 0

    async def version_of(self, name: str, run: str) -> str | None:
        return {"run-1": "11", "run-2": "12"}.get(run)

    async def aliases(self, name: str) -> dict[str, str]:
        if self.away:
            raise self.away
        assert name == "Credit"
        return dict(self.kept)

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        self.kept[alias] = version
        self.changes += 1

    async def drop_alias(self, name: str, alias: str) -> None:
        del self.kept[alias]
        self.changes += 1


class House:
    def __init__(self) -> None:
        self.desk, self.shelf = Desk(Mode.ENFORCE, {}, a_config(), {}), Shelf()
        self.desk.put_stable(MODEL, 1, 1, Clients.LABEL, provable=False)
        self.notes: list[str] = []
        self.telemetry = Telemetry.on(CollectorRegistry())
        self.aliases = Aliases(
            self.desk,
            self.shelf,
            {MODEL: "Credit"},
            lambda _, version: f"run-{version}" if version != 3 else "",
            self.note,
            self.telemetry,
            AliasPace(first_retry=0.01, most_retry=0.02, again=0.05),
        )

    async def note(self, kind: str, data: dict[str, object], model: str) -> None:
        self.notes.append(f"{kind} {data['why']}")

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.aliases.run())
        yield
        task.cancel()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 - nothing sets an event
                await asyncio.sleep(0.01)


async def test_the_aliases_follow_a_rollout_to_its_end():
    house = House()
    async with house.at_work():
        await house.until(lambda: house.shelf.kept == {"champion": "11"})
        rollout = a_rollout(Phase.SHADOWING)
        house.desk.put_rollout(rollout, 1)
        await house.until(lambda: house.shelf.kept == {"champion": "11", "challenger": "12"})
        house.desk.put_rollout(a_rollout(Phase.SUCCEEDED), 2)
        await house.until(lambda: house.shelf.kept == {"champion": "12"})
        assert house.aliases.standing[MODEL] == "champion is 2, registered as 12; no challenger"
        house.shelf.kept["champion"] = "11"  # by somebody else
        await house.until(lambda: house.shelf.kept == {"champion": "12"})
    await house.until(lambda: len(house.notes) >= 4)
    assert house.notes[0] == "aliases_set champion is 1, registered as 11; no challenger"


@pytest.mark.parametrize("error", [Unavailable("mlflow", "status 503"), Refused("mlflow", "status 404: not there")])
async def test_a_registry_that_cannot_is_told_and_tried_again(error):
    house = House()
    house.shelf.away = error
    async with house.at_work():
        await house.until(lambda: MODEL in house.aliases.standing)
        assert house.aliases.standing[MODEL] == f"not in step, is tried again: {error}"
        labels = {"notifier": "mlflow", "result": error.reason}
        await house.until(lambda: house.telemetry.registry.get_sample_value("haldane_notifications_total", labels) >= 2)
        house.shelf.away = None
        await house.until(lambda: house.shelf.kept == {"champion": "11"})
        changes = house.shelf.changes
        await asyncio.sleep(0.2)  # it looks again some times, and finds all as it should be
        assert house.shelf.changes == changes


async def test_a_version_that_the_registry_does_not_know_moves_no_champion_and_is_no_challenger():
    house = House()
    house.shelf.kept = {"champion": "11", "challenger": "12"}
    house.desk.put_stable(MODEL, 3, 3, Clients.LABEL, provable=False)
    async with house.at_work():
        await house.until(lambda: house.shelf.kept == {"champion": "11"})
        await house.until(lambda: "is left as it is" in house.aliases.standing.get(MODEL, ""))
    assert house.aliases.standing[MODEL].startswith("champion should be 3, which comes from no run that is registered")
