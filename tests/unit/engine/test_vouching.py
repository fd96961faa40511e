"""A rollout's files are compared once per stage, on record before any label waits no more."""

import asyncio
import threading
from dataclasses import replace

from haldane.domain.release import Profile, UnderLoad
from haldane.domain.rollout import Mode, Phase
from haldane.domain.vouched import Standing, Vouched
from haldane.engine.desk import Desk
from haldane.engine.vouching import Vouching
from haldane.ports import Unavailable
from haldane.testing.builders import MODEL, a_config, a_rollout


class Records:
    """A store that fails so many times first."""

    def __init__(self, failures=0):
        self.failures, self.told, self.data = failures, [], []

    def record(self, kind, data, *, rollout="", model=""):
        if self.failures:
            self.failures -= 1
            raise Unavailable("store", "away")
        self.told.append((kind, data["result"], rollout, model))
        self.data.append(data)


async def test_each_stage_is_compared_once_and_recorded():
    desk = Desk(mode=Mode.ENFORCE, servers={}, base=a_config(), watched={}, vouches=True)
    store, asked = Records(), []

    def compare(model, version):
        asked.append((model, version))
        return Vouched(Standing.VERIFIED, "published by ada", "5f0c")

    task = asyncio.create_task(Vouching(desk, store, compare).run())
    rollout = a_rollout(Phase.LOADING)
    for phase, promoted in (
        (Phase.PENDING, ()),
        (Phase.LOADING, ()),
        (Phase.SHADOWING, ()),
        (Phase.PROMOTING, ("r0",)),
    ):
        moved = replace(rollout, phase=phase, promoted=promoted)
        desk.put_rollout(moved, 1)
        await desk.wait_until(lambda moved=moved: not desk.awaits_vouching(moved))
    task.cancel()
    assert asked == [(MODEL, 2), (MODEL, 2)]
    assert store.told == [("release_checked", "verified", rollout.id, MODEL)] * 2


async def test_what_the_served_version_took_is_on_record_beside_the_new_ones():
    desk = Desk(mode=Mode.ENFORCE, servers={}, base=a_config(), watched={}, vouches=True)
    store, rollout = Records(), a_rollout(Phase.LOADING)
    desk.put_rollout(rollout, 1)
    new = Profile(1.0, 2, 0.003, UnderLoad(2, 300, 1.5, 0.001, 0.0031))
    served = Profile(1.0, 2, 0.003, UnderLoad(2, 300, 1.5, 0.001, 0.002))
    measured = {(MODEL, rollout.old): served}
    vouching = Vouching(
        desk, store, lambda *_: Vouched(Standing.VERIFIED, "", profile=new), lambda *of: measured.get(of)
    )
    task = asyncio.create_task(vouching.run())
    await desk.wait_until(lambda: not desk.awaits_vouching(rollout))
    task.cancel()
    (said,) = store.data
    assert said["profile"]["under_load"]["p99_seconds"] == 0.0031
    assert (said["served"]["version"], said["served"]["profile"]["under_load"]["p99_seconds"]) == (rollout.old, 0.002)


async def test_while_the_store_is_away_the_label_waits(monkeypatch):
    monkeypatch.setattr("haldane.engine.vouching.STORE_RETRY_SECONDS", 0.0)
    desk = Desk(mode=Mode.ENFORCE, servers={}, base=a_config(), watched={}, vouches=True)
    store = Records(failures=2)
    rollout = a_rollout(Phase.LOADING)
    desk.put_rollout(rollout, 1)
    vouching = Vouching(desk, store, lambda *_: Vouched(Standing.UNVERIFIED, "no record"))
    task = asyncio.create_task(vouching.run())
    await desk.wait_until(lambda: not desk.awaits_vouching(rollout))
    task.cancel()
    assert len(store.told) == 1


async def test_a_storage_that_hangs_keeps_no_other_models_label_waiting():
    desk = Desk(mode=Mode.ENFORCE, servers={}, base=a_config(), watched={}, vouches=True)
    hangs, fine = a_rollout(Phase.LOADING), a_rollout(Phase.LOADING, id="other-2", model="other")
    desk.put_rollout(hangs, 1)
    desk.put_rollout(fine, 1)
    answered = threading.Event()

    def compare(model, version):
        if model == MODEL:
            answered.wait()
        return Vouched(Standing.VERIFIED, "")

    task = asyncio.create_task(Vouching(desk, Records(), compare).run())
    await desk.wait_until(lambda: not desk.awaits_vouching(fine))
    assert desk.awaits_vouching(hangs)
    answered.set()
    await desk.wait_until(lambda: not desk.awaits_vouching(hangs))
    task.cancel()
