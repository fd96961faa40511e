"""Where a partition is to be gone on with, when messages are finished out of order."""

from hypothesis import given
from hypothesis import strategies as st

from haldane.adapters.kafka import Offsets


def test_nothing_is_committed_before_the_first_message_is_finished():
    offsets = Offsets()
    offsets.given(0, 10)
    offsets.given(0, 11)
    assert offsets.take() == {}
    offsets.finished(0, 11)
    assert offsets.take() == {0: 10}
    offsets.finished(0, 10)
    assert (offsets.take(), offsets.take()) == ({0: 12}, {})


@given(st.permutations(range(8)), st.integers(0, 8))
def test_a_place_never_passes_a_message_that_is_out(order, finished):
    offsets = Offsets()
    for offset in range(8):
        offsets.given(offset % 2, offset)  # offsets of a partition need not be dense
    for offset in order[:finished]:
        offsets.finished(offset % 2, offset)
    out = set(order[finished:])
    for partition, place in offsets.take().items():
        assert not any(offset < place for offset in out if offset % 2 == partition)
        assert all(offset not in out for offset in range(partition, place, 2))
