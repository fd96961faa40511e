import asyncio
from contextlib import asynccontextmanager

import pytest

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import Clients, Server, ServerName
from haldane.domain.rollout import Command, CommandKind, Judged, Mode, Phase, Plan, RolloutId
from haldane.engine import deliberate as deliberating
from haldane.engine.deliberate import Deliberate
from haldane.engine.desk import Desk
from haldane.engine.supervisor import Supervisor
from haldane.ports import Refused, StaleWrite, Unavailable
from haldane.testing.builders import MODEL, a_config, a_rollout, a_view

ABORT = Command(5.0, CommandKind.ABORT, by="ada", why="enough")


class Outage:
    """A real store whose commits fail so often first, or whose answers get lost."""

    def __init__(self, store):
        self.store, self.failures, self.asked, self.lost = store, 0, 0, 0

    def __getattr__(self, name):
        return getattr(self.store, name)

    def commit(self, *args, **more):
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise Unavailable("store", "away")
        done = self.store.commit(*args, **more)
        if self.lost:
            self.lost -= 1
            raise Unavailable("store", "the connection broke after COMMIT")
        return done


class Court:
    def __init__(self, store, rollout):
        self.store, self.moves, self.time = Outage(store), [], 100.0
        servers = {name: Server(name, "") for name in rollout.servers}
        self.desk = Desk(mode=Mode.ENFORCE, servers=servers, base=a_config(), watched={})
        self.desk.put_stable(MODEL, 1, 1, Clients.LABEL, provable=True)
        self.desk.put_rollout(rollout, store.commit(rollout, None, []))
        self.one = Deliberate(rollout.id, self.desk, self.store, self, self.moves.append)

    def now(self):
        return self.time

    @asynccontextmanager
    async def sitting(self):
        task = asyncio.create_task(self.one.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def stored(self):
        return self.store.rollout(self.one.id)[0]


@pytest.fixture
def court(store):
    return Court(store, a_rollout(Phase.SHADOWING, started_at=1.0, phase_since=90.0))


async def test_a_command_is_stored_and_on_record_when_it_is_answered(court):
    async with court.sitting():
        transition = await court.one.command(ABORT)
        assert transition.after.phase is court.stored().phase is Phase.ROLLING_BACK
    (record,) = court.store.records()
    assert record.kind == "phase_changed"
    assert record.data["by"] == "ada"
    assert record.data["to"] == "ROLLING_BACK"


async def test_servers_follow_and_others_are_told_only_what_is_stored(court):
    async def commit_seen():
        while court.desk.rollout(court.one.id).phase is Phase.SHADOWING:
            await court.desk.wait_changed(1.0)
        return court.stored().phase, [move.after.phase for move in court.moves]

    court.store.failures = 1
    watching = asyncio.create_task(commit_seen())
    async with court.sitting():
        await court.one.command(ABORT)
        assert await watching == (Phase.ROLLING_BACK, [Phase.ROLLING_BACK])
    assert court.store.asked == 2


async def test_a_verdict_that_changes_is_stored_without_a_record(court):
    async with court.sitting():
        await court.one.judged(Judged(1.0, Verdict.CONTINUE, ""))
        await court.one.judged(Judged(2.0, Verdict.PASS, "shown"))
        await court.one.command(Command(3.0, CommandKind.PAUSE, by="ada", why="wait"))
    assert court.stored().verdict is Verdict.PASS
    assert [record.data["to"] for record in court.store.records()] == ["PROMOTING", "HELD"]


async def test_what_is_seen_of_the_servers_moves_it_without_any_other_event(store):
    court = Court(store, a_rollout(Phase.ROLLING_BACK, phase_since=99.0))
    async with court.sitting() as task:
        for name in ("r0", "r1"):
            court.desk.put_view(ServerName(name), a_view(1, labels={"stable": 1}, server=name))
        await asyncio.wait_for(task, 5)
    assert court.stored().phase is Phase.ROLLED_BACK
    assert list(court.desk.live()) == []


async def test_success_stores_the_stable_version_and_what_the_config_declared(store):
    plan = Plan(change_seconds=0.0)
    court = Court(store, a_rollout(Phase.BAKING, promoted=("r0", "r1"), phase_since=-1e6, plan=plan))
    async with court.sitting() as task:
        for name in ("r0", "r1"):
            seen = a_view(1, 2, labels={"stable": 2, "canary": 2}, server=name)
            court.desk.put_view(ServerName(name), seen)
        await asyncio.wait_for(task, 5)
    assert store.settled() == {MODEL: (2, 1)}


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.PROMOTING, Phase.BAKING, Phase.ROLLING_BACK])
async def test_what_was_due_while_no_agent_ran_is_not_decided_before_the_servers_were_seen(store, phase):
    court = Court(store, a_rollout(phase, promoted=("r0", "r1"), phase_since=-1e6))
    seen = [1, 2] if phase is Phase.BAKING else []
    async with court.sitting() as task:
        for name in ("r0", "r1") if seen else ():
            view = a_view(*seen, labels={"stable": 2, "canary": 2}, server=name)
            court.desk.put_view(ServerName(name), view)
        for _ in range(20):
            court.desk.changed()
            await asyncio.sleep(0)
        assert not task.done()
        await court.one.command(Command(101.0, CommandKind.APPROVE, by="ada", why="all before it was taken"))
        assert court.stored().phase is phase


async def test_a_clock_that_is_set_ahead_passes_no_deadline(store):
    court = Court(store, a_rollout(Phase.LOADING, phase_since=99.0, plan=Plan(change_seconds=0.0)))
    async with court.sitting():
        await court.one.command(Command(100.0, CommandKind.APPROVE, by="ada", why="it has begun"))
        court.time += 3600.0
        for _ in range(20):
            court.desk.changed()
            await asyncio.sleep(0)
        await court.one.command(Command(3700.0, CommandKind.APPROVE, by="ada", why="all before it was taken"))
        assert court.stored().phase is Phase.LOADING


async def test_another_writer_ends_it_and_nothing_is_overwritten(court, store):
    rollout, revision = store.rollout(court.one.id)
    store.commit(a_rollout(Phase.HELD, id=rollout.id), revision, [])
    async with court.sitting() as task:
        asked = asyncio.create_task(court.one.command(ABORT))
        with pytest.raises(StaleWrite):
            await asyncio.wait_for(task, 5)
        asked.cancel()
    assert court.stored().phase is Phase.HELD


async def test_a_command_after_the_end_is_refused_and_does_not_wait_for_ever(store):
    court = Court(store, a_rollout(Phase.ROLLING_BACK, phase_since=99.0))
    for name in ("r0", "r1"):
        court.desk.put_view(ServerName(name), a_view(1, labels={"stable": 1}, server=name))
    await asyncio.wait_for(court.one.run(), 10)
    with pytest.raises(Refused, match="over"):
        await asyncio.wait_for(court.one.command(ABORT), 5)


async def test_more_commands_than_wait_are_refused_and_each_of_the_others_is_answered(court):
    waiting = [asyncio.create_task(court.one.command(ABORT)) for _ in range(70)]
    await asyncio.sleep(0)
    async with court.sitting():
        answers = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert sum(isinstance(answer, Refused) for answer in answers) == 6
    assert [answer.refused for answer in answers[:64]] == [False] + [True] * 63


async def test_no_event_is_lost_when_it_arrives_while_the_desk_changes(court):
    async def stir():
        while True:
            court.desk.changed()
            await asyncio.sleep(0)

    stirring = asyncio.create_task(stir())
    async with court.sitting():
        for turn in range(50):
            kind = CommandKind.RESUME if turn % 2 else CommandKind.PAUSE
            answer = await asyncio.wait_for(court.one.command(Command(1.0, kind, by="ada", why="again")), 10)
            assert not answer.refused
    stirring.cancel()


async def test_a_move_whose_confirmation_was_lost_is_stored_once_and_ends_nothing(court):
    court.store.lost = 1
    async with court.sitting() as task:
        transition = await asyncio.wait_for(court.one.command(ABORT), 10)
        assert transition.after.phase is court.stored().phase is Phase.ROLLING_BACK
        assert not task.done()
    assert len(court.store.records()) == 1


async def test_a_start_whose_confirmation_was_lost_is_taken_up_and_one_that_was_not_stored_is_not(store):
    court = Court(store, a_rollout(Phase.HELD, id=RolloutId("x")))
    supervisor = Supervisor(court.desk, court.store, None, None, lambda *_: None, lambda _: None, None)
    stored, not_stored = a_rollout(id=RolloutId("stored")), a_rollout(id=RolloutId("not stored"))
    court.store.lost = 1
    with pytest.raises(Unavailable):
        await supervisor.start(stored, {})
    court.store.failures = 1
    with pytest.raises(Unavailable):
        await supervisor.start(not_stored, {})
    await asyncio.gather(supervisor.confirm(), supervisor.confirm())
    assert court.desk.rollout(stored.id) == stored
    assert court.desk.rollout(not_stored.id) is None
    assert list(supervisor._running) == [stored.id]
    assert supervisor._arrivals.qsize() == 1


async def test_what_the_store_has_live_is_taken_up_and_only_then_may_anyone_act(store):
    rollout = a_rollout(Phase.HELD)
    revision = store.commit(rollout, None, [])
    store.commit(a_rollout(Phase.ROLLED_BACK, id=RolloutId("over")), None, [])
    desk = Court(store, a_rollout(Phase.HELD, id=RolloutId("x"))).desk
    desk.rollouts.clear()
    supervisor = Supervisor(desk, store, None, None, lambda *_: None, lambda _: None, None)
    assert not supervisor.taken_up
    await supervisor.take_up()
    assert supervisor.taken_up
    assert desk.rollouts[rollout.id] == (rollout, revision)
    assert RolloutId("over") not in desk.rollouts
    with pytest.raises(Refused, match="over"):
        await supervisor.command(RolloutId("over"), ABORT)


async def test_a_revert_makes_the_old_version_stable_again_on_the_desk_and_in_the_store(store):
    court = Court(store, a_rollout(Phase.ROLLING_BACK, reverts=RolloutId("first"), servers=(ServerName("r0"),)))
    court.desk.put_stable(MODEL, 2, 1, Clients.LABEL, provable=False)
    court.desk.put_view(ServerName("r0"), a_view(1, labels={"stable": 1}))
    async with court.sitting() as task:
        await asyncio.wait_for(task, 10)
    assert court.stored().phase is Phase.ROLLED_BACK
    assert store.settled() == {MODEL: (1, 1)}
    assert court.desk.watched[MODEL].stable == 1


assert deliberating.STORE_RETRY_SECONDS <= 1.0  # the tests above wait for one
