"""Announced releases are stored before they are taken, started once, and known to the process that comes after."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from haldane.adapters.sql import SqlStore
from haldane.domain.evidence import Verdict
from haldane.domain.fleet import Clients, ModelName
from haldane.domain.release import Announcement, Newer
from haldane.domain.rollout import Mode, Phase, Rollout, RolloutId
from haldane.engine.desk import Desk
from haldane.engine.intake import Intake, Terms
from haldane.engine.withdrawals import Withdrawals
from haldane.ports import Refused
from haldane.rollout.revert import revert
from haldane.telemetry import Telemetry
from haldane.testing.builders import MODEL, a_config, a_rollout

TWO = Announcement(key="ci 1", model=MODEL, version=2, by="ci", why="trained on October")
PATIENCE = 60.0


class House:
    """An agent's store and desk, and an intake that starts rollouts there."""

    def __init__(self, store: SqlStore, newer: Newer = Newer.QUEUE) -> None:
        self.store, self.time, self.aborted = store, 1000.0, list[str]()
        self.refusal, self.contents = "", dict[int, str]()
        self.desk = Desk(Mode.ENFORCE, {}, a_config(), {})
        self.desk.put_stable(MODEL, 1, 1, Clients.LABEL, provable=False)
        for rollout, revision in store.live():
            self.desk.put_rollout(rollout, revision)
        self.telemetry = Telemetry.on(CollectorRegistry())
        self.intake = Intake(
            store,
            self.desk,
            self,
            self.telemetry,
            {MODEL: Terms(newer, PATIENCE)},
            self.start,
            self.abort,
            Withdrawals(store, lambda model, version: self.contents.get(version, "")),
        )

    def now(self) -> float:
        return self.time

    async def start(self, one: Announcement) -> Rollout:
        if self.refusal:
            raise Refused(MODEL, self.refusal)
        made = a_rollout(id=RolloutId(f"credit-{one.version}"), new=one.version)
        revision = self.store.commit(made, None, [("rollout_started", {"announcement": one.key})])
        self.desk.put_rollout(made, revision)
        return made

    async def abort(self, rollout: Rollout, why: str) -> None:
        self.aborted.append(why)
        self.end(rollout, Phase.ROLLED_BACK)

    def end(self, rollout: Rollout, phase: Phase) -> None:
        over = replace(rollout, phase=phase)
        self.desk.put_rollout(over, self.store.commit(over, self.desk.rollouts[rollout.id][1], []))

    async def goes_on(self) -> None:
        """It sees to what waits, once."""
        seen, show = asyncio.Event(), self.intake._show

        def shown() -> None:
            show()
            seen.set()

        self.intake._show = shown  # type: ignore[method-assign]
        running = asyncio.create_task(self.intake.run())
        waiting = asyncio.create_task(seen.wait())
        await asyncio.wait((running, waiting), timeout=60, return_when=asyncio.FIRST_COMPLETED)
        self.intake._show = show  # type: ignore[method-assign]
        for task in (running, waiting):
            task.cancel()
        for ended in await asyncio.gather(running, waiting, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    @property
    def kinds(self) -> list[str]:
        return [one.kind for one in self.store.records()]

    @property
    def live(self) -> list[int]:
        return [one.new for one in self.desk.live()]


@pytest.fixture
def house(store: SqlStore) -> Iterator[House]:
    return House(store)


async def test_a_release_becomes_a_rollout_and_the_same_event_twice_is_known(house: House) -> None:
    assert await house.intake.take(TWO)
    await house.goes_on()
    assert not await house.intake.take(TWO)
    await house.goes_on()
    assert (house.live, house.kinds) == ([2], ["release_announced", "rollout_started"])


async def test_what_was_taken_before_a_crash_is_started_by_the_next_process_once(house: House, store: SqlStore) -> None:
    await house.intake.take(TWO)
    then = House(store)
    await then.goes_on()
    assert then.live == [2]
    later = House(store)
    await later.goes_on()
    assert not await later.intake.take(TWO)
    assert later.kinds.count("rollout_started") == 1


async def test_another_version_waits_for_the_end_of_the_trial(house: House) -> None:
    await house.intake.take(TWO)
    await house.goes_on()
    await house.intake.take(replace(TWO, key="ci 2", version=3))
    await house.goes_on()
    assert (house.live, len(house.intake.waiting())) == ([2], 1)
    house.end(next(iter(house.desk.live())), Phase.SUCCEEDED)
    house.intake._news.set()
    await house.goes_on()
    assert house.live == [3]


async def test_files_that_were_harmful_are_refused_under_a_new_number_too_until_they_change(house: House) -> None:
    house.contents = {2: "bad", 3: "bad", 4: "good"}
    await house.intake.take(TWO)
    await house.goes_on()
    (trial,) = house.desk.live()
    house.store.record("release_checked", {"version": 2, "digest": "bad"}, rollout=trial.id, model=MODEL)
    house.end(replace(trial, verdict=Verdict.FAIL), Phase.ROLLED_BACK)
    assert await house.intake.withdrawals.told(MODEL, 3) == (
        "rollout credit-2 withdrew version 2, which has the same files (content bad)"
    )
    await house.intake.take(replace(TWO, key="ci 2", version=3))
    await house.goes_on()
    (last,) = house.store.records()[-1:]
    assert (last.kind, "withdrew version 2, which has the same files" in last.data["why"]) == ("release_refused", True)
    await house.intake.take(replace(TWO, key="ci 3", version=4))
    await house.goes_on()
    assert house.live == [4]


async def test_after_three_that_went_to_users_and_back_the_next_waits_for_a_person(house: House) -> None:
    house.contents = {n: f"content {n}" for n in range(10)}
    for version in (2, 3, 4):
        await house.intake.take(replace(TWO, key=f"ci {version}", version=version))
        await house.goes_on()
        (trial,) = house.desk.live()
        house.store.record("phase_changed", {"to": "PROMOTING", "promoted": ["r0"]}, rollout=trial.id)
        house.time += 1.0
        house.end(replace(trial, verdict=Verdict.FAIL, phase_since=house.time), Phase.ROLLED_BACK)
    await house.intake.take(replace(TWO, key="ci 5", version=5))
    await house.goes_on()
    ((_, why),) = house.intake.waiting()
    assert (house.live, "(credit-4, credit-3, credit-2); a person must start the next" in why) == ([], True)
    flaps = partial(house.telemetry.registry.get_sample_value, "haldane_releases_flapping", {"model": MODEL})
    assert flaps() == 1.0
    house.time += PATIENCE
    await house.goes_on()
    assert len(house.intake.waiting()) == 1  # it is not refused for it
    by_hand = a_rollout(id=RolloutId("credit-6"), new=6, started_at=house.time)
    house.desk.put_rollout(by_hand, house.store.commit(by_hand, None, [("rollout_started", {"by": "ada"})]))
    house.end(by_hand, Phase.ROLLED_BACK)
    await house.goes_on()
    assert (house.live, flaps()) == ([5], 0.0)


async def test_a_promotion_taken_back_later_is_known_by_the_files_that_were_promoted(store: SqlStore) -> None:
    promoted = a_rollout(Phase.SUCCEEDED)
    store.commit(promoted, None, [("release_checked", {"version": 2, "digest": "bad"})])
    taken_back = replace(revert(promoted, at=1.0, why=""), phase=Phase.ROLLED_BACK)
    store.commit(taken_back, None, [])
    found = Withdrawals(store, lambda model, version: "bad")
    assert (await found.told(MODEL, 7)).endswith("withdrew version 2, which has the same files (content bad)")
    assert await found.told(ModelName("other"), 2) == ""


async def test_a_storage_that_hangs_leaves_the_number(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haldane.engine.withdrawals.CONTENT_SECONDS", 0.05)
    gone = threading.Event()
    store.commit(a_rollout(Phase.ROLLED_BACK, verdict=Verdict.FAIL), None, [])
    hangs = Withdrawals(store, lambda model, version: str(gone.wait(60)))
    try:
        assert await hangs.told(MODEL, 2) == "rollout credit-2-test withdrew version 2"
        assert await hangs.told(MODEL, 3) == ""
    finally:
        gone.set()


async def test_a_newer_one_supersedes_where_that_is_the_policy(store: SqlStore) -> None:
    house = House(store, Newer.SUPERSEDE)
    await house.intake.take(TWO)
    await house.goes_on()
    await house.intake.take(replace(TWO, key="ci 2", version=3))
    await house.goes_on()
    assert house.aborted == ["version 3 was announced, which supersedes it"]
    await house.goes_on()
    assert house.live == [3]


async def test_what_cannot_start_is_tried_again_and_in_the_end_refused_with_its_reason(house: House) -> None:
    house.refusal = "version 2 has no saved_model.pb"
    await house.intake.take(TWO)
    await house.goes_on()
    ((waits, why),) = house.intake.waiting()
    assert (waits, "no saved_model.pb" in why) == (TWO, True)
    house.time += PATIENCE
    await house.goes_on()
    assert house.intake.waiting() == []
    (last,) = house.store.records()[-1:]
    assert (last.kind, last.model) == ("release_refused", MODEL)
    assert "no saved_model.pb" in last.data["why"]
    value = house.telemetry.registry.get_sample_value
    assert value("haldane_releases_total", {"model": "credit", "result": "refused"}) == 1


async def test_what_nothing_came_of_is_known_to_the_next_process_too_until_it_is_announced_again(
    house: House, store: SqlStore
) -> None:
    await house.intake.take(replace(TWO, version=1))
    await house.goes_on()
    assert house.intake.dropped == {(MODEL, 1): "version 1 is stable already"}
    after = House(store)
    await after.goes_on()
    assert after.intake.dropped == house.intake.dropped
    await after.intake.take(replace(TWO, key="ci 2", version=1))
    assert after.intake.dropped == {}


async def test_a_model_that_takes_none_says_which_do(house: House) -> None:
    with pytest.raises(Refused, match=r"models\.fraud\.releases.*these do: credit"):
        await house.intake.take(replace(TWO, model=ModelName("fraud")))
    assert house.kinds == []
