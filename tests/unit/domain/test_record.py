"""The audit log's chain: any change to what was written shows."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haldane.domain.record import GENESIS, Record, chain, first_break


def a_log(length: int = 4) -> list[Record]:
    log: list[Record] = []
    for number in range(length):
        log.append(
            chain(
                log[-1] if log else None,
                at=1000.0 + number,
                kind="phase_changed",
                rollout="r1",
                model="risk",
                data={"to": number},
            )
        )
    return log


def test_the_first_record_stands_on_the_genesis_hash():
    (only,) = a_log(1)
    assert (only.seq, only.previous) == (1, GENESIS)


def test_each_record_names_the_hash_before_it():
    log = a_log()
    assert [record.previous for record in log[1:]] == [record.hash for record in log[:-1]]
    assert [record.seq for record in log] == [1, 2, 3, 4]


def test_an_untouched_log_holds():
    assert first_break(a_log()) is None
    assert first_break([]) is None


@pytest.mark.parametrize(
    "change",
    [
        {"at": 1.0},
        {"kind": "rollout_started"},
        {"rollout": "r2"},
        {"model": "fraud"},
        {"data": {"to": 99}},
    ],
)
def test_a_changed_field_breaks_the_chain_where_it_stands(change):
    log = a_log()
    log[1] = replace(log[1], **change)
    assert first_break(log) == 2


def test_a_record_forged_with_a_right_hash_breaks_the_chain_at_the_next_one():
    log = a_log()
    log[1] = chain(log[0], at=log[1].at, kind="phase_changed", rollout="r1", model="risk", data={"to": 99})
    assert first_break(log) == 3


def test_a_missing_record_breaks_the_chain():
    log = a_log()
    assert first_break([log[0], *log[2:]]) == 2
    assert first_break(log[1:]) == 1


def test_two_records_in_the_wrong_order_break_the_chain():
    first, second, *rest = a_log()
    assert first_break([second, first, *rest]) == 1


def test_the_order_of_keys_in_the_data_does_not_change_the_hash():
    one = chain(None, at=0.0, kind="k", data={"a": 1, "b": [2, None]})
    other = chain(None, at=0.0, kind="k", data={"b": [2, None], "a": 1})
    assert one.hash == other.hash


@given(st.data())
def test_any_single_change_to_any_record_is_found(data):
    log = a_log(data.draw(st.integers(1, 6), label="length"))
    at = data.draw(st.integers(0, len(log) - 1), label="where")
    field = data.draw(st.sampled_from(["seq", "at", "kind", "rollout", "model", "previous", "hash"]), label="field")
    old = getattr(log[at], field)
    log[at] = replace(log[at], **{field: old + 1 if isinstance(old, int | float) else old + "x"})
    assert first_break(log) is not None
