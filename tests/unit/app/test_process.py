"""In which order an agent may act, and what ends it."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from haldane.adapters.sql import open_store
from haldane.app import process
from haldane.app.assembly import Assembly
from haldane.app.parts import SystemClock
from haldane.config.models import ModelSection
from haldane.domain.fleet import Clients
from haldane.domain.rollout import Mode, Phase
from haldane.engine.desk import Desk
from haldane.engine.holds import Holds
from haldane.engine.latewatch import LateWatch
from haldane.engine.lease import Lease
from haldane.engine.supervisor import Supervisor
from haldane.ports import StaleWrite
from haldane.telemetry import Telemetry
from haldane.testing.builders import MODEL, a_config, a_rollout


class Standby:
    """An agent that starts while another holds the lease."""

    def __init__(self, url):
        self.store, self.first = open_store(url), open_store(url)
        self.other, self.lease = Lease(self.first), Lease(self.store)
        self.desk = Desk(mode=Mode.ENFORCE, servers={}, base=a_config(), watched={})
        self.desk.put_stable(MODEL, 1, 1, Clients.LABEL, provable=True)
        self.supervisor = Supervisor(self.desk, self.store, None, None, lambda *_: None, lambda _: None, None)
        self.late = LateWatch(self.store, None, None, None, None)
        self.telemetry = Telemetry.on(CollectorRegistry())
        self.held = Holds(self.store, SystemClock())
        self.agent = SimpleNamespace(supervisor=self.supervisor, waiting={}, holds=self.held.standing)
        self.declared_at = {MODEL: time.time()}
        section = ModelSection(stable=1, clients=Clients.LABEL)
        self.config = SimpleNamespace(models={MODEL: section})

    def run(self):
        return asyncio.create_task(process._act_when_allowed(self, self.agent, [("late labels", self.late.run)]))


@pytest.fixture
def standby(tmp_path):
    made = Standby(f"sqlite:///{tmp_path / 'haldane.db'}")
    yield made
    made.store.close()
    made.first.close()


def may_act(standby):
    return standby.telemetry.registry.get_sample_value("haldane_may_act") == 1


async def eventually(holds):
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)


async def test_what_another_agent_did_meanwhile_is_read_before_anything_may_be_done(standby):
    await standby.other.renew()
    await standby.lease.renew()
    task = standby.run()
    await asyncio.sleep(0)
    assert "lease" in standby.agent.waiting
    standby.first.commit(a_rollout(Phase.SUCCEEDED), None, [], settled=(MODEL, 2, 1))
    await Holds(standby.first, SystemClock()).put(MODEL, 1, by="ada", why="audit")
    await standby.other.release()
    await standby.lease.renew()
    assert standby.lease.held() and not standby.supervisor.taken_up
    await eventually(lambda: not standby.agent.waiting)
    assert standby.supervisor.taken_up
    assert standby.desk.watched[MODEL].stable == 2
    assert standby.desk.watched[MODEL].provable
    assert [one.version for one in standby.held.known()] == [1]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_standby_that_read_its_config_long_ago_takes_no_server_back_by_it(standby):
    await standby.other.renew()
    task = standby.run()
    await asyncio.sleep(0)
    # The other was started anew with a config that says 2, and has made 3 stable since.
    standby.first.commit(a_rollout(Phase.SUCCEEDED, phase_since=time.time() + 1.0), None, [], settled=(MODEL, 3, 2))
    await standby.other.release()
    await standby.lease.renew()
    await eventually(lambda: not standby.agent.waiting)
    assert standby.desk.watched[MODEL].stable == 3
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_one_that_stands_by_shows_what_is_stable_as_the_other_leaves_it(standby, monkeypatch):
    monkeypatch.setattr(process, "AT_REST_SECONDS", 0.01)
    await standby.other.renew()
    task = standby.run()
    standby.first.commit(a_rollout(Phase.SUCCEEDED), None, [], settled=(MODEL, 2, 1))
    await eventually(lambda: standby.desk.watched[MODEL].stable == 2)
    assert not standby.supervisor.taken_up
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_decides_what_servers_should_hold_once_it_has_read_what_is_live(standby):
    made = Assembly.__new__(Assembly)
    made.parts, made.supervisor = standby, standby.supervisor
    wanted = [made.decided(server) for server in ("r0",)]
    await standby.supervisor.take_up()
    assert wanted == [None]
    assert made.decided("r0").entry(MODEL).labels == {"stable": 1}


async def test_a_lease_that_another_took_ends_the_agent_and_an_outage_of_the_store_does_not(standby):
    await standby.lease.renew()
    task = standby.run()
    await eventually(lambda: standby.supervisor.taken_up)
    standby.lease._until = 0.0  # it ran out while the store was away
    await eventually(lambda: standby.agent.waiting and not may_act(standby))
    assert not task.done()
    await standby.lease.renew()
    await eventually(lambda: not standby.agent.waiting and may_act(standby))
    standby.first.release_lease(standby.lease.name)
    await standby.other.renew()
    await standby.lease.renew()
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(task, 10)
    assert caught.group_contains(StaleWrite, match="another agent")


async def test_what_fails_in_the_comfort_ring_is_begun_anew():
    tries = []

    async def deed() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("a page nobody foresaw")

    await asyncio.wait_for(process._comfort("pages", deed, retry_seconds=0.0), 10)
    assert len(tries) == 3
