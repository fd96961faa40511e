"""A hold stands until it ends, for every agent over the same store."""

import pytest

from haldane.adapters.sql import SqlStore
from haldane.domain.fleet import ModelName
from haldane.domain.record import first_break
from haldane.engine.holds import Holds
from haldane.ports import Refused
from haldane.testing.builders import MODEL


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time


async def test_a_hold_is_on_record_and_known_to_the_next_process(store: SqlStore) -> None:
    made = await Holds(store, Clock()).put(MODEL, 5, by="ada", why="audit")
    later = Holds(store, Clock())
    assert later.known() == ()
    assert await later.standing() == (made,) == later.known()
    (record,) = store.records()
    assert (record.kind, record.model, record.data["by"], record.at) == ("version_held", MODEL, "ada", made.since)
    await later.end(MODEL, 5, by="bob", why="audited")
    assert [one.data["by"] for one in store.records()] == ["ada", "bob"]
    assert first_break(store.records()) is None


async def test_another_agent_over_the_same_store_sees_what_this_one_wrote(store: SqlStore) -> None:
    one, other = Holds(store, Clock()), Holds(store, Clock())
    assert await other.standing() == ()
    await one.put(MODEL, 5, by="ada", why="audit")
    assert [hold.version for hold in await other.standing()] == [5]
    await other.end(MODEL, 5, by="bob", why="audited")
    assert await one.standing() == ()


async def test_a_hold_ends_by_itself_at_its_time(store: SqlStore) -> None:
    clock = Clock()
    holds = Holds(store, clock)
    await holds.put(MODEL, 5, by="ada", why="audit", until=1060.0)
    clock.time = 1059.9
    assert [one.version for one in await holds.standing()] == [5]
    clock.time = 1060.0
    assert await holds.standing() == ()
    with pytest.raises(Refused, match="version 5 is not held; of credit these are: none"):
        await holds.end(MODEL, 5, by="ada", why="over")
    with pytest.raises(Refused, match="is past"):
        await holds.put(MODEL, 5, by="ada", why="again", until=1060.0)


async def test_the_newer_word_for_a_version_stands(store: SqlStore) -> None:
    holds = Holds(store, Clock())
    await holds.put(MODEL, 5, by="ada", why="audit", until=1060.0)
    await holds.put(MODEL, 5, by="bob", why="another audit")
    await holds.put(ModelName("other"), 5, by="bob", why="theirs")
    assert [(one.model, one.by, one.until) for one in await holds.standing()] == [
        (MODEL, "bob", None),
        ("other", "bob", None),
    ]
