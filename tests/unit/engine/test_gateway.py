"""A gateway is kept at the share that is wanted: looked at, ordered, read back; never without the lease or a record."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import ServerName
from haldane.domain.rollout import Mode, Phase, Plan, Rollout
from haldane.engine.desk import Desk
from haldane.engine.gateway import Gateway, GatewayPace
from haldane.ports import PortError, Refused, Unavailable
from haldane.rollout.invariants import InvariantBroken
from haldane.rollout.ramp import GatewayView
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_config, a_rollout

RAMP = a_rollout(Phase.RAMPING, dedicated=(ServerName("r1"),), plan=Plan(traffic_steps=(0.1, 1.0)), step=1)
RAMP = replace(RAMP, verdict=Verdict.PASS)


class World:
    """One gateway as the test says it is, and everything that was asked of it."""

    def __init__(self, mode: Mode = Mode.ENFORCE, rollout: Rollout | None = RAMP) -> None:
        self.now, self.orders, self.looks, self.lease = 0.0, list[float](), 0, True
        self.deaf: PortError | None = None  # what an order is answered with
        self.blind: PortError | None = None  # and a look
        self.note_error: PortError | None = None
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.desk = Desk(mode=mode, servers={}, base=a_config(), watched={})
        self.desk.gateways["g"] = GatewayView(None, "not looked at yet")
        self.registry = CollectorRegistry()
        if rollout is not None:
            self.desk.put_rollout(rollout, 1)
        self.gateway = Gateway(
            name="g",
            router=self,
            desk=self.desk,
            telemetry=Telemetry.on(self.registry),
            may_act=lambda: self.lease,
            note=self.note,
            pace=GatewayPace(live=0.01, rest=0.01, resend=0.03),
        )

    async def share(self) -> float:
        self.looks += 1
        await asyncio.sleep(0)
        if self.blind:
            raise self.blind
        return self.now

    async def set_share(self, share: float) -> None:
        self.orders.append(share)
        if self.deaf:
            raise self.deaf
        self.now = share

    async def check(self, shares: object) -> None: ...

    async def note(self, kind: str, data: dict[str, Any]) -> None:
        if self.note_error:
            raise self.note_error
        self.notes.append((kind, data))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.gateway.run())
        try:
            yield task
            assert not task.done(), "the task ended"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not holds():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.002)

    async def some_looks(self) -> None:
        before = self.looks
        await self.until(lambda: self.looks >= before + 5)


async def test_the_wanted_share_is_recorded_ordered_once_and_read_back() -> None:
    world = World()
    async with world.running():
        await world.until(lambda: world.desk.gateways["g"].share == 0.1)
        await world.some_looks()
    assert world.orders == [0.1]
    assert world.notes == [("share_set", {"gateway": "g", "share": 0.1, "seen": 0.0})]
    assert world.registry.get_sample_value("haldane_gateway_share_seen_ratio", {"gateway": "g"}) == 0.1
    assert world.registry.get_sample_value("haldane_gateway_share_wanted_ratio", {"gateway": "g"}) == 0.1


async def test_a_rollback_brings_users_back_without_waiting_for_the_next_look() -> None:
    world = World()
    world.gateway.pace = GatewayPace(live=60, rest=60, resend=60)
    async with world.running():
        await world.until(lambda: world.now == 0.1)
        world.desk.put_rollout(replace(RAMP, phase=Phase.ROLLING_BACK, step=0, verdict=Verdict.FAIL), 2)
        await world.until(lambda: world.desk.gateways["g"].share == 0.0)
    assert world.orders == [0.1, 0.0]


async def test_a_rollback_that_comes_while_an_order_is_under_way_follows_at_once() -> None:
    world = World()
    world.gateway.pace = GatewayPace(live=60, rest=60, resend=60)
    gate, given = asyncio.Event(), world.set_share

    async def slowly(share: float) -> None:
        await gate.wait()
        await given(share)

    world.set_share = slowly  # type: ignore[method-assign]
    async with world.running():
        await world.until(lambda: bool(world.notes))
        world.desk.put_rollout(replace(RAMP, phase=Phase.ROLLING_BACK, step=0, verdict=Verdict.FAIL), 2)
        gate.set()
        await world.until(lambda: world.desk.gateways["g"].share == 0.0 and world.orders == [0.1, 0.0])


@pytest.mark.parametrize("hindrance", ["observe mode", "no lease", "no rollout", "no steps", "no record"])
async def test_nothing_is_ordered_without_the_right_to(hindrance: str) -> None:
    rollout = None if hindrance == "no rollout" else a_rollout() if hindrance == "no steps" else RAMP
    world = World(Mode.OBSERVE if hindrance == "observe mode" else Mode.ENFORCE, rollout)
    world.lease = hindrance != "no lease"
    world.note_error = Unavailable("store", "away") if hindrance == "no record" else None
    world.now = 0.3
    async with world.running():
        await world.some_looks()
    assert world.orders == []


async def test_an_order_that_is_not_taken_is_given_again_and_its_reason_shown() -> None:
    world = World()
    world.deaf = Refused("g", "Permission denied")
    async with world.running():
        await world.until(lambda: len(world.orders) >= 3)
        assert world.desk.gateways["g"] == GatewayView(0.0, "Permission denied")
        world.deaf = None
        await world.until(lambda: world.desk.gateways["g"] == GatewayView(0.1, ""))
    assert len(world.notes) == 1


async def test_one_that_cannot_be_read_is_unseen_and_still_ordered_back() -> None:
    world = World(rollout=replace(RAMP, phase=Phase.ROLLING_BACK, step=0, verdict=Verdict.FAIL))
    world.blind, world.now = Unavailable("g", "no answer within 2 s"), 0.5
    async with world.running():
        await world.until(lambda: world.now == 0.0)
        assert world.desk.gateways["g"] == GatewayView(None, "no answer within 2 s")


async def test_a_share_set_by_another_hand_is_set_right() -> None:
    world = World()
    async with world.running():
        await world.until(lambda: world.now == 0.1)
        world.now = 0.7
        await world.until(lambda: world.now == 0.1)


async def test_a_share_that_no_rollout_ordered_ends_the_agent() -> None:
    world = World(rollout=replace(RAMP, verdict=Verdict.FAIL))
    with pytest.raises(InvariantBroken):
        async with asyncio.timeout(5):
            await world.gateway.run()
    assert world.orders == []
