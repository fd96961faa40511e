import asyncio
import os
import threading

import pytest

from haldane.engine.lease import Lease
from haldane.ports import Unavailable


class Outage:
    """A store that can be switched off."""

    def __init__(self, store):
        self.store, self.away = store, False

    def __getattr__(self, name):
        if self.away:
            raise Unavailable("store", "away")
        return getattr(self.store, name)


async def test_it_is_held_from_the_first_renewal_to_the_release(store):
    lease = Lease(store)
    assert not lease.held()
    await lease.renew()
    assert lease.held()
    await lease.release()
    assert not lease.held()
    assert store.lease_holder() is None


async def test_it_is_renewed_while_every_other_thread_hangs(store):
    lease, gone = Lease(store), threading.Event()
    hanging = [asyncio.create_task(asyncio.to_thread(gone.wait, 60)) for _ in range(100)]
    try:
        async with asyncio.timeout(10):
            await lease.renew()
            assert lease.held()
            await lease.release()
    finally:
        gone.set()
        await asyncio.gather(*hanging)


async def test_a_renewal_under_way_when_it_is_given_back_takes_it_no_second_time(store):
    lease, began, goes_on = Lease(store), threading.Event(), threading.Event()
    await lease.renew()
    take = lease._take

    def slowly():
        began.set()
        goes_on.wait(60)
        return take()

    lease._take = slowly
    renewing = asyncio.create_task(lease.renew())
    await asyncio.to_thread(began.wait, 60)
    renewing.cancel()
    releasing = asyncio.create_task(lease.release())
    await asyncio.sleep(0.05)
    goes_on.set()
    await releasing
    assert store.lease_holder() is None


async def test_two_agents_never_hold_it_together_even_in_one_process(store):
    first, second = Lease(store), Lease(store)
    await first.renew()
    await second.renew()
    assert first.held() and not second.held()
    assert not second.lost
    await first.release()
    await second.renew()
    assert second.held()


async def test_it_stops_being_held_before_it_ends(store):
    lease = Lease(store, seconds=0.05)
    await lease.renew()
    async with asyncio.timeout(5):
        while lease.held():  # noqa: ASYNC110 - it ends by the clock
            await asyncio.sleep(0.001)
    assert store.lease_holder() == lease.name


async def test_it_is_held_again_after_an_outage_in_which_nobody_took_it(store):
    outage = Outage(store)
    lease = Lease(outage, seconds=0.02)
    await lease.renew()
    outage.away = True
    await asyncio.sleep(0.03)
    await lease.renew()
    assert not lease.held() and not lease.lost
    outage.away, lease.seconds = False, 10.0
    await lease.renew()
    assert lease.held()


@pytest.mark.parametrize("given_back", [False, True])
async def test_it_is_lost_for_good_when_another_had_it_in_between(store, given_back):
    lease, other = Lease(store, seconds=0.02), Lease(store)
    await lease.renew()
    await asyncio.sleep(0.03)
    await other.renew()
    assert other.held()
    if given_back:
        await other.release()
    for _ in range(2):
        await lease.renew()
        assert lease.lost and not lease.held()


def holder(*, like: str, **parts: str) -> str:
    host, pid, rest = like.rsplit(":", 2)
    namespace = rest.rpartition("-")[0]
    host, pid, namespace = parts.get("host", host), parts.get("pid", pid), parts.get("namespace", namespace)
    return f"{host}:{pid}:{namespace}-feed"


def dead_pid() -> str:
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(child, 0)
    return str(child)


async def test_the_lease_of_a_process_that_died_here_is_taken_at_once(store):
    lease = Lease(store)
    store.hold_lease(holder(like=lease.name, pid=dead_pid()), seconds=60)
    await lease.renew()
    assert lease.held()


@pytest.mark.parametrize("where", [{"host": "elsewhere"}, {"namespace": "another-container"}])
async def test_a_pid_says_nothing_of_a_process_elsewhere(store, where):
    lease = Lease(store)
    store.hold_lease(holder(like=lease.name, pid=dead_pid(), **where), seconds=60)
    await lease.renew()
    assert not lease.held()


async def test_a_holder_that_lives_or_cannot_be_read_is_waited_for(store):
    lease = Lease(store)
    for name in (holder(like=lease.name), "someone", "host:12", "a:b:c"):
        store.hold_lease(name, seconds=60)
        await lease.renew()
        assert not lease.held()
        store.release_lease(name)
