import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from haldane.domain.fleet import Clients, ReplicaView, Server, ServerName, VersionStatus
from haldane.domain.rollout import Mode, Phase
from haldane.engine.converge import Converge, Pace
from haldane.engine.desk import Desk
from haldane.ports import Refused, Unavailable
from haldane.telemetry import Telemetry
from haldane.testing.builders import MODEL, a_config, a_rollout, a_view, an_entry

R0 = ServerName("r0")


class World:
    """One server as the test says it is, and everything that was asked of it."""

    def __init__(self, mode=Mode.ENFORCE, view=None):
        self.view, self.sent, self.notes, self.guards, self.views = view or a_view(1), [], [], 0, []
        self.lease, self.reload_error, self.note_error = True, None, None
        self.guarding, self.refusal = asyncio.Event(), ""
        self.guarding.set()
        self.desk = Desk(mode=mode, servers={R0: Server(R0, "")}, base=a_config(), watched={})
        self.desk.put_stable(MODEL, 1, 1, Clients.LABEL, provable=True)
        self.telemetry = Telemetry.on(CollectorRegistry())
        self.converge = Converge(
            server=self.desk.servers[R0],
            client=self,
            desk=self.desk,
            telemetry=self.telemetry,
            may_act=lambda: self.lease,
            guard=self.guard,
            note=self.note,
            on_view=lambda server, view: self.views.append(view),
            pace=Pace(live=0.01, rest=0.01, after_change=0.01, resend=0.05),
        )

    async def look(self, models, golden):
        await asyncio.sleep(0)
        if self.view is None:
            raise Unavailable("r0", "no answer")
        return self.view

    async def reload(self, config):
        self.sent.append(config)
        if self.reload_error:
            raise self.reload_error
        labels = config.entry(MODEL).labels
        self.view = a_view(*config.entry(MODEL).versions, labels=dict(labels))

    async def guard(self, server, client):
        self.guards += 1
        await self.guarding.wait()
        return self.refusal

    async def note(self, kind, data):
        if self.note_error:
            raise self.note_error
        self.notes.append((kind, data))

    @asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.converge.run())
        try:
            yield task
            assert not task.done(), "the task ended"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, holds):
        async with asyncio.timeout(5):
            while not holds():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.002)

    async def looks(self, n=5):
        """So many further looks have come in."""
        before = len(self.views)
        await self.until(lambda: len(self.views) >= before + n)


async def test_it_sends_what_is_missing_records_it_and_is_then_at_rest():
    world = World()
    async with world.running():
        await world.until(lambda: world.notes)
        await world.looks()
    assert [config.entry(MODEL).labels for config in world.sent] == [{"stable": 1}]
    assert [(kind, data["result"]) for kind, data in world.notes] == [("config_sent", "accepted")]


@pytest.mark.parametrize("hindrance", ["observe mode", "no lease"])
async def test_nothing_is_sent_in_observe_mode_or_without_the_lease(hindrance):
    world = World(Mode.OBSERVE if hindrance == "observe mode" else Mode.ENFORCE)
    world.lease = hindrance != "no lease"
    async with world.running():
        await world.looks()
    assert not world.sent and not world.guards


async def test_a_change_of_one_model_waits_for_no_look_at_the_others():
    world = World()
    world.desk.base = a_config(an_entry(), an_entry("fraud"))
    world.converge.pace = Pace(live=60, rest=60, after_change=0.01)
    asked, look = [], world.look

    async def noted(models, golden):
        asked.append(set(models))
        view = await look(models, golden)
        return replace(view, models=dict.fromkeys(models, view.models[MODEL]))

    world.look = noted
    async with world.running():
        await world.looks(4)  # cleared, sent, seen, and seen again: now it rests
        asked.clear()
        world.desk.put_rollout(a_rollout(Phase.LOADING), 1)
        await world.until(lambda: len(world.sent) == 2 and len(asked) >= 2)
    assert asked[:2] == [{MODEL}, {MODEL}], "one look before the reload, one right after it"
    assert set(world.views[-1].models) == {MODEL, "fraud"}


async def test_a_server_that_serves_others_models_is_refused_until_it_does_not():
    world = World()
    world.refusal = "it serves fraud"
    async with world.running():
        await world.until(lambda: world.desk.refusals == {R0: "it serves fraud"})
        await world.looks()
        assert not world.sent
        world.refusal = ""
        await world.until(lambda: world.sent)
    assert world.desk.refusals == {}


async def test_a_lease_that_ran_out_while_the_server_was_checked_is_not_acted_on():
    world = World()
    world.guarding.clear()
    async with world.running():
        await world.until(lambda: world.guards)
        world.lease = False
        world.guarding.set()
        await world.looks()
    assert not world.sent


async def test_a_rollback_decided_while_the_server_was_checked_is_what_is_sent():
    world = World(view=a_view(1, 2, labels={"stable": 1, "canary": 2}))
    world.desk.put_rollout(a_rollout(Phase.PROMOTING, promoted=(R0,)), 1)
    world.guarding.clear()
    async with world.running():
        await world.until(lambda: world.guards)
        world.desk.put_rollout(a_rollout(Phase.ROLLING_BACK), 2)
        world.guarding.set()
        await world.until(lambda: world.sent)
    assert all(config.entry(MODEL).labels == {"stable": 1} for config in world.sent)


async def test_a_store_that_is_gone_ends_nothing_and_no_more_is_sent_until_the_record_is_kept():
    world = World()
    world.note_error = Unavailable("store", "disk full")
    async with world.running():
        await world.until(lambda: world.sent)
        world.desk.put_rollout(a_rollout(Phase.LOADING, servers=(R0,)), 1)
        await world.looks()
        assert len(world.sent) == 1
        world.note_error = None
        await world.until(lambda: len(world.sent) > 1)
    assert [data["result"] for _, data in world.notes][:1] == ["accepted"]


async def test_a_refused_reload_is_tried_again_at_the_slow_pace_and_recorded_once():
    world = World()
    world.reload_error = Refused("r0", "no")
    async with world.running():
        await world.until(lambda: len(world.sent) >= 3)
    assert [data["result"] for _, data in world.notes] == ["refused"]
    assert world.desk.trouble[R0] == "the last reload: no"
    assert world.telemetry.fleet.reloads.labels(R0, "refused")._value.get() >= 3


async def test_a_server_that_cannot_be_seen_is_shown_so_and_is_checked_again_when_it_is_back():
    world = World()
    async with world.running():
        await world.until(lambda: world.sent)
        guards = world.guards
        world.view = None
        await world.until(lambda: world.desk.views[R0] is None and world.views[-1] is None)
        assert world.desk.trouble[R0] == "no answer"
        assert R0 not in world.desk.accepted
        world.view = a_view(1)
        await world.until(lambda: len(world.sent) > 1)
    assert world.guards == guards + 1


async def test_a_server_whose_history_became_shorter_is_another_process_and_is_checked_again():
    world = World()
    async with world.running():
        await world.until(lambda: world.sent)
        ended = VersionStatus(3, a_view(1).models[MODEL].versions[0].availability.END)
        seen = world.view.models[MODEL]
        longer = type(seen)(versions=(*seen.versions, ended), labels=seen.labels, proven=seen.proven)
        world.view = ReplicaView(R0, 0.0, {MODEL: longer})
        await world.looks(2)
        guards = world.guards
        world.view = a_view(1)
        await world.until(lambda: len(world.sent) > 1)
    assert world.guards == guards + 1


async def test_a_new_rollout_cuts_the_wait_for_the_next_look_short():
    world = World()
    world.converge.pace = Pace(live=60, rest=60, after_change=0.01)
    async with world.running():
        await world.until(lambda: len(world.views) >= 2)
        world.desk.put_rollout(a_rollout(Phase.LOADING, servers=(R0,)), 1)
        await world.until(lambda: any(2 in config.entry(MODEL).versions for config in world.sent))
