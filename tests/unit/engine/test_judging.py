import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from haldane.adapters.sql import open_store
from haldane.domain.evidence import Verdict
from haldane.domain.fleet import Clients
from haldane.domain.rollout import Mode, Phase
from haldane.engine.desk import Desk
from haldane.engine.judging import Judging, folded
from haldane.ports import Malformed, Unavailable
from haldane.testing.builders import MODEL, a_config, a_rollout
from haldane.testing.pairs import pairs, rules


class Outage:
    """A real store that fails so often first."""

    def __init__(self, store):
        self.store, self.failures, self.error = store, 0, Unavailable("store", "away")

    def __getattr__(self, name):
        def deed(*args):
            if self.failures:
                self.failures -= 1
                raise self.error
            found = getattr(self.store, name)(*args)
            return list(found) if name == "pairs" else found

        return deed


class Hearing:
    """Judging of one rollout; the test hands in batches and sees what is told."""

    def __init__(self, store, phase=Phase.SHADOWING):
        self.store, self.told, self.shown, self.shadows, self.closed = Outage(store), [], [], [], 0
        self.batches = asyncio.Queue()
        self.desk = Desk(mode=Mode.ENFORCE, servers={}, base=a_config(), watched={})
        self.desk.put_stable(MODEL, 1, 1, Clients.LABEL, provable=True)
        rollout = a_rollout(phase, analysis=rules().to_json())
        self.revision = store.commit(rollout, None, [])
        self.desk.put_rollout(rollout, self.revision)
        self.judging = Judging(
            id=rollout.id,
            desk=self.desk,
            store=self.store,
            clock=self,
            shadow=self.shadow,
            on_ruling=lambda rollout, ruling: self.shown.append(ruling),
            tell=self.tell,
        )

    def now(self):
        return 7.0

    async def tell(self, judged):
        self.told.append(judged)

    async def shadow(self, rollout, progress):
        self.shadows.append((rollout, progress.next_seq))
        try:
            while (batch := await self.batches.get()) is not None:
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        finally:
            self.closed += 1

    def move(self, phase, **more):
        rollout = self.desk.rollout(self.judging.id)
        self.desk.put_rollout(replace(rollout, phase=phase, **more), self.revision)

    def logged(self):
        return sum(len(batch) for batch in self.store.store.evidence(self.judging.id))

    @asynccontextmanager
    async def sitting(self):
        task = asyncio.create_task(self.judging.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, holds):
        async with asyncio.timeout(20):
            while not holds():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.005)


@pytest.fixture
def store(tmp_path):
    made = open_store(f"sqlite:///{tmp_path / 'haldane.db'}")
    yield made
    made.close()


@pytest.fixture
def hearing(store):
    return Hearing(store)


async def test_a_batch_is_on_record_before_it_is_ruled_on(hearing):
    async with hearing.sitting():
        hearing.batches.put_nowait(pairs(30))
        await hearing.until(lambda: hearing.told)
        assert hearing.logged() == 30
        assert hearing.desk.rulings[hearing.judging.id].pairs == hearing.shown[-1].pairs == 30
    assert (hearing.told[-1].verdict, hearing.told[-1].at) == (Verdict.CONTINUE, 7.0)


async def test_harm_in_the_pairs_is_told_as_a_fail(hearing):
    async with hearing.sitting():
        for n in range(10):
            hearing.batches.put_nowait(pairs(100, first=100 * n, canary_status=6))
        await hearing.until(lambda: hearing.told and hearing.told[-1].verdict is Verdict.FAIL)


async def test_nothing_is_sent_while_no_judging_is_asked_for_and_the_shadow_is_closed_when_it_ends(hearing):
    hearing.move(Phase.HELD)
    async with hearing.sitting() as task:
        await asyncio.sleep(0.02)
        assert not hearing.shadows
        hearing.move(Phase.SHADOWING)
        await hearing.until(lambda: hearing.shadows)
        hearing.move(Phase.HELD)
        await hearing.until(lambda: hearing.closed == 1)
        hearing.move(Phase.ROLLED_BACK)
        await asyncio.wait_for(task, 10)


async def test_taken_up_again_it_goes_on_behind_what_is_on_record(hearing):
    hearing.store.store.append_evidence(hearing.judging.id, pairs(30))
    async with hearing.sitting():
        hearing.batches.put_nowait(pairs(10, first=30))
        await hearing.until(lambda: hearing.shown and hearing.shown[-1].pairs == 40)
    assert hearing.shadows[0][1] == 30


async def test_a_shadow_that_promotes_goes_on_without_a_break(hearing):
    async with hearing.sitting():
        hearing.batches.put_nowait(pairs(10))
        await hearing.until(lambda: hearing.told)
        hearing.move(Phase.PROMOTING)
        hearing.batches.put_nowait(pairs(10, first=10))
        await hearing.until(lambda: hearing.shown[-1].pairs == 20)
    assert len(hearing.shadows) == 1


async def test_a_store_that_is_away_is_waited_for_and_no_pair_is_lost_or_judged_off_record(hearing):
    hearing.store.failures = 1  # reading the log
    async with hearing.sitting():
        await hearing.until(lambda: hearing.shadows)
        hearing.store.failures = 1  # storing a batch
        hearing.batches.put_nowait(pairs(30))
        await asyncio.sleep(0.02)
        assert not hearing.shown or hearing.shown[-1].pairs == 0
        await hearing.until(lambda: hearing.shown and hearing.shown[-1].pairs == 30)
        assert hearing.logged() == 30


async def test_a_batch_that_is_being_stored_when_judging_stops_is_known_when_it_goes_on(hearing):
    writing, go_on = threading.Event(), threading.Event()
    append = hearing.store.store.append_evidence

    def slowly(rollout, batch):
        writing.set()
        go_on.wait(20)
        append(rollout, batch)

    hearing.store.append_evidence = slowly
    async with hearing.sitting():
        hearing.batches.put_nowait(pairs(30))
        await hearing.until(writing.is_set)
        hearing.move(Phase.HELD)
        await asyncio.sleep(0.02)
        hearing.move(Phase.SHADOWING)
        await asyncio.sleep(0.02)
        go_on.set()
        await hearing.until(lambda: len(hearing.shadows) == 2)
    assert hearing.shadows[1][1] == 30


async def test_a_source_that_cannot_be_read_ends_nothing_and_the_budget_runs_on(hearing):
    async with hearing.sitting() as task:
        hearing.batches.put_nowait(Malformed("rows", "cut off"))
        await hearing.until(lambda: hearing.closed == 1)
        await hearing.until(lambda: hearing.told)
        assert not task.done()
    assert hearing.told[-1].verdict is Verdict.CONTINUE


async def test_a_log_that_this_release_cannot_read_ends_the_agent_with_the_reason(hearing):
    hearing.store.failures, hearing.store.error = 1, Malformed("store", "pair log of schema 2")
    async with hearing.sitting() as task:
        with pytest.raises(Malformed, match="schema 2"):
            await asyncio.wait_for(task, 10)


def test_shadowing_is_taken_up_where_the_log_ends_with_only_rows_judged_that_the_canary_answered():
    log = [pairs(3, row=[0, 1, 2], aa=[False, True, False]), pairs(2, first=7, row=[-1, 4])]
    store = SimpleNamespace(evidence=lambda rollout: log)
    analysis, progress = folded(store, a_rollout(analysis=rules().to_json()))
    assert progress.next_seq == 9
    assert progress.judged_rows == {0, 2, 4}
    assert progress.before_seconds == np.float64(0.08)
    assert analysis.tally.pairs == 4
