"""The audit log's chain: any change to what was written shows."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haldane.domain.record import GENESIS, Record, chain, first_break, flaw, from_line, to_line


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


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ([1, 2, 4], "record 3 is missing, or out of order: record 4 stands there"),
        ([3, 4], "records 1 to 2 are missing, or out of order: record 3 stands there"),
        ([1, 2, 2], "record 2 stands where record 3 should be: the order was changed, or it is there twice"),
    ],
)
def test_a_flaw_says_what_is_not_where_it_was(kept, said):
    log = a_log()
    told = [
        flaw(log[now - 1], log[before - 1] if before else None) for before, now in zip([0, *kept], kept, strict=False)
    ]
    assert [why for why in told if why] == [said]


def test_a_flaw_tells_a_changed_record_from_one_in_anothers_place():
    log = a_log()
    assert "was changed" in flaw(replace(log[1], at=1.0), log[0])
    other = chain(log[0], at=5.0, kind="k", data={})
    assert "does not follow" in flaw(log[2], other)


def test_a_line_gives_the_record_back_with_every_number_as_it_was_hashed():
    data = {"p": 0.1 + 0.2, "text": "line\nbreak \u2028 和", "none": None, "far": float("inf")}
    record = chain(None, at=1_760_000_000.123456, kind="k", rollout="r", model="m", data=data)
    line = to_line(record)
    assert len(line.splitlines()) == 1
    assert from_line(line) == record
    assert first_break([from_line(line)]) is None


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "{}", '{"seq": 1}', to_line(a_log(1)[0]).replace('"seq":1', '"seq":"1"')]
)
def test_anything_else_is_no_record(line):
    with pytest.raises(ValueError):
        from_line(line)
