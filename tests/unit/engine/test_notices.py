"""Each state is told once and closed when over, over restarts too; a receiver that is gone holds up nothing else."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from haldane.app.jsonfile import JsonFile
from haldane.app.notices import of_condition, of_record
from haldane.domain.fleet import Condition
from haldane.domain.record import Record, chain
from haldane.engine.notices import ConditionNotices, Pace, RecordNotices
from haldane.ports import Notice, Refused, Unavailable
from haldane.telemetry import Telemetry


class Receiver:
    """Takes notices, or raises what it is told to, in turn."""

    def __init__(self, *answers: Exception | None) -> None:
        self.told: list[Notice] = []
        self.answers = list(answers)

    async def tell(self, notice: Notice) -> None:
        if self.answers and (error := self.answers.pop(0)) is not None:
            raise error
        self.told.append(notice)

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(one.data["condition"], one.data["state"]) for one in self.told]


class Clock:
    at = 1000.0

    def now(self) -> float:
        return self.at


AWAY, NEVER = Unavailable("webhook", "status 503"), Refused("webhook", "status 400")


def a_condition(name: str = "failed_load", since: float = 900.0) -> Condition:
    return Condition(name, "risk", 3, ("r0",), "why", since)


@pytest.fixture
def journal(tmp_path):
    return JsonFile(tmp_path / "told.json")


def a_sink(receiver: Receiver, journal: JsonFile, clock: Clock, *, may_tell: bool = True) -> ConditionNotices:
    return ConditionNotices(
        receiver, notice=of_condition, journal=journal, now=clock.now, may_tell=lambda: may_tell, settle_seconds=100.0
    )


async def test_a_condition_is_told_once_and_once_more_when_it_is_over(journal):
    receiver = Receiver()
    sink = a_sink(receiver, journal, Clock())
    for firing in ([a_condition()], [a_condition()], [], []):
        await sink.tell(firing)
    assert receiver.states == [("failed_load", "began"), ("failed_load", "ended")]
    assert len({one.id for one in receiver.told}) == 2


async def test_what_was_not_taken_is_told_again_and_nothing_twice(journal):
    receiver = Receiver(None, AWAY)
    sink = a_sink(receiver, journal, Clock())
    both = [a_condition("failed_load"), a_condition("label_drift")]
    with pytest.raises(Unavailable):
        await sink.tell(both)
    await sink.tell(both)
    assert receiver.states == [("failed_load", "began"), ("label_drift", "began")]


async def test_what_is_refused_is_said_and_not_sent_again(journal):
    receiver = Receiver(NEVER)
    sink = a_sink(receiver, journal, Clock())
    both = [a_condition("failed_load"), a_condition("label_drift")]
    with pytest.raises(Refused):
        await sink.tell(both)
    await sink.tell(both)
    assert receiver.states == [("label_drift", "began")]


async def test_a_condition_that_came_and_went_while_the_receiver_was_away_is_never_told(journal):
    receiver = Receiver(AWAY)
    sink = a_sink(receiver, journal, Clock())
    with pytest.raises(Unavailable):
        await sink.tell([a_condition()])
    await sink.tell([])
    assert receiver.told == []


async def test_a_restart_neither_repeats_a_condition_nor_leaves_it_open(journal):
    clock, receiver = Clock(), Receiver()
    await a_sink(receiver, journal, clock).tell([a_condition("failed_load"), a_condition("label_drift")])
    restarted = a_sink(receiver, journal, clock)
    await restarted.tell([])  # nothing has been looked at yet
    await restarted.tell([a_condition("failed_load", since=clock.at)])
    assert receiver.states == [("failed_load", "began"), ("label_drift", "began")]
    clock.at += 100.0
    await restarted.tell([a_condition("failed_load", since=clock.at)])
    assert receiver.states[2:] == [("label_drift", "ended")]
    await restarted.tell([])
    assert receiver.states[3:] == [("failed_load", "ended")]


async def test_an_agent_without_the_lease_tells_nothing(journal):
    receiver = Receiver()
    await a_sink(receiver, journal, Clock(), may_tell=False).tell([a_condition()])
    assert receiver.told == []


async def test_a_damaged_journal_is_begun_anew(journal, tmp_path):
    (tmp_path / "told.json").write_text('{"open": [')
    receiver = Receiver()
    await a_sink(receiver, journal, Clock()).tell([a_condition()])
    assert receiver.states == [("failed_load", "began")]


class Log:
    """An audit log that grows."""

    def __init__(self, *kinds: str) -> None:
        self.records: list[Record] = []
        for kind in kinds:
            self.add(kind)

    def add(self, kind: str, **data: object) -> None:
        data = {"from": "SHADOWING", "to": "PROMOTING", "why": "every server is settled", **data}
        last = self.records[-1] if self.records else None
        self.records.append(chain(last, at=1.0, kind=kind, rollout="risk-3-x", model="risk", data=data))

    def since(self, after: int) -> list[Record]:
        return [one for one in self.records if one.seq > after]


async def all_told(log: Log, receiver: Receiver, journal: JsonFile, tries: int | None = 3) -> Telemetry:
    """Run until the journal says that the whole log has been told."""
    telemetry, done = Telemetry.on(CollectorRegistry()), asyncio.Event()

    def since(after: int) -> list[Record]:
        if after == log.records[-1].seq == journal.load().get("after"):
            done.set()
        return log.since(after)

    notices = RecordNotices(
        since,
        receiver,
        name="webhook",
        notice=of_record,
        journal=journal,
        may_tell=lambda: True,
        telemetry=telemetry,
        pace=Pace(look=0.01, first_retry=0.001, most_retry=0.002, tries=tries),
    )
    task = asyncio.create_task(notices.run())
    async with asyncio.timeout(10):
        await done.wait()
    task.cancel()
    return telemetry


def count(telemetry: Telemetry, result: str) -> float:
    return telemetry.registry.get_sample_value("haldane_notifications_total", {"notifier": "webhook", "result": result})


async def test_history_is_not_told_and_what_comes_is_told_in_order_without_the_rest_of_the_log(journal):
    log, receiver = Log("rollout_started", "phase_changed"), Receiver()
    journal.save({"after": 1})
    log.add("config_sent")
    log.add("phase_changed", why="as wanted")
    await all_told(log, receiver, journal)
    assert [(one.type, one.data["seq"]) for one in receiver.told] == [
        ("haldane.rollout.moved", 2),
        ("haldane.rollout.moved", 4),
    ]
    assert receiver.told[1].data["why_zh"] == "符合要求"
    assert journal.load() == {"after": 4}


async def test_a_notice_is_tried_again_and_given_up_so_that_the_next_ones_come(journal):
    log, receiver = Log("phase_changed", "phase_changed", "phase_changed"), Receiver(AWAY, None, AWAY, AWAY, AWAY)
    journal.save({"after": 0})
    telemetry = await all_told(log, receiver, journal)
    assert [one.data["seq"] for one in receiver.told] == [1, 3]
    assert (count(telemetry, "told"), count(telemetry, "unavailable"), count(telemetry, "given_up")) == (2, 3, 1)


async def test_without_a_limit_of_tries_nothing_is_given_up_and_the_order_stays(journal):
    log, receiver = Log("phase_changed", "phase_changed"), Receiver(*[AWAY] * 20, None, NEVER)
    journal.save({"after": 0})
    log.add("phase_changed")
    telemetry = await all_told(log, receiver, journal, tries=None)
    assert [one.data["seq"] for one in receiver.told] == [1, 3]  # the second is refused, which is final
    assert (count(telemetry, "unavailable"), count(telemetry, "refused")) == (20, 1)


async def test_a_first_start_begins_at_the_end_of_the_log(journal):
    log, receiver = Log("rollout_started", "phase_changed"), Receiver()
    await all_told(log, receiver, journal)
    assert (receiver.told, journal.load()) == ([], {"after": 2})
