"""What is in an evidence log can be read by this release and by later ones."""

import numpy as np
import pytest

from haldane.domain.entries import LABEL_DTYPE, READING_DTYPE, judged_until, read_entry, schema_of
from haldane.domain.traffic import PAIR_DTYPE, Request
from haldane.testing.pairs import pairs


@pytest.mark.parametrize("dtype", [PAIR_DTYPE, READING_DTYPE, LABEL_DTYPE])
def test_every_kind_of_entry_comes_back_as_it_was(dtype: np.dtype) -> None:
    entry = np.frombuffer(np.random.default_rng(1).bytes(3 * dtype.itemsize), dtype)
    again = read_entry(schema_of(entry), entry.tobytes())
    assert again.dtype == dtype
    assert again.tobytes() == entry.tobytes()


def test_pairs_of_the_first_schema_are_read_with_nothing_known_of_later_columns() -> None:
    some = pairs(3, stable_wrong=1.0)
    first = np.dtype([(name, PAIR_DTYPE[name]) for name in (PAIR_DTYPE.names or ())[:18]])
    stored = np.zeros(3, first)
    for name in first.names or ():
        stored[name] = some[name]
    again = read_entry(1, stored.tobytes())
    assert again.dtype == PAIR_DTYPE
    assert again["stable_wrong"].tolist() == [1.0, 1.0, 1.0]
    assert again["request"].tolist() == again["slices"].tolist() == [0, 0, 0]
    assert np.isnan(again["stable_output"]).all()


def test_readings_of_the_first_schema_were_none_of_them_taken_while_held() -> None:
    stored = np.zeros(2, np.dtype([(name, READING_DTYPE[name]) for name in (READING_DTYPE.names or ())[:5]]))
    stored["at"], stored["canary"] = (5.0, 10.0), 3.0
    again = read_entry(101, stored.tobytes())
    assert again.dtype == READING_DTYPE
    assert (again["held"].tolist(), again["canary"].tolist(), judged_until(again)) == ([0.0, 0.0], [3.0, 3.0], 10.0)


def test_what_was_held_is_no_time_of_judging() -> None:
    entry = np.zeros(3, READING_DTYPE)
    entry["at"], entry["held"] = (50.0, 90.0, np.nan), (0.0, 60.0, 60.0)
    assert judged_until(entry) == 50.0
    assert judged_until(entry[:0]) == judged_until(pairs(0)) == 0.0


def test_an_unknown_schema_or_kind_is_named() -> None:
    with pytest.raises(ValueError, match="schema 7"):
        read_entry(7, b"")
    with pytest.raises(ValueError, match="columns"):
        schema_of(np.zeros(1, [("x", "<f4")]))


def test_a_torn_row_is_no_entry() -> None:
    with pytest.raises(ValueError, match="multiple"):
        read_entry(101, b"123")


def test_the_key_of_a_request_is_the_same_everywhere() -> None:
    from haldane.domain.traffic import Api

    assert Request(id="a-1", api=Api.PREDICT, body=b"").key == Request(id="a-1", api=Api.CLASSIFY, body=b"x").key
    assert Request(id="a-1", api=Api.PREDICT, body=b"").key == 7680245424303175113
