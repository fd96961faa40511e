import pytest

from haldane.adapters.replay import Counted, Replay
from haldane.domain.traffic import Api, Request
from haldane.ports import Malformed, Unavailable

GOOD = [Request(f"a{row}", Api.PREDICT, b"", row, 1.0 if row else None) for row in range(3)]
BAD = [Malformed("set#1", "torn"), Malformed("set#9", "torn too")]


async def take(source, count):
    taken = []
    async for request in source.requests():
        taken.append(request.id)
        if len(taken) == count:
            break
    return taken


async def test_it_starts_again_when_it_ends_and_leaves_bad_records_out():
    source = Replay("set", lambda: [GOOD[0], BAD[0], *GOOD[1:]])
    assert await take(source, 7) == ["a0", "a1", "a2", "a0", "a1", "a2", "a0"]
    assert (source.length, source.bad) == (3, 1)
    assert [str(error) for error in source.errors] == ["set#1: torn"]


async def test_it_ends_after_one_pass_when_it_shall_not_cycle():
    assert await take(Replay("set", lambda: GOOD, cycle=False), 9) == ["a0", "a1", "a2"]


@pytest.mark.parametrize(("records", "says"), [([], "it is empty"), (BAD, "first error: set#1: torn")])
async def test_a_set_without_one_usable_request_is_malformed(records, says):
    with pytest.raises(Malformed, match=f"no usable request in it; {says}"):
        await take(Replay("set", lambda: records), 1)


async def test_a_file_that_vanished_between_passes_is_unavailable():
    passes = iter([GOOD])

    def read():
        for records in passes:
            return records
        raise Unavailable("set", "cannot be read")

    with pytest.raises(Unavailable):
        await take(Replay("set", read), 4)


def test_a_set_can_be_counted_before_anything_starts():
    found = Counted([*GOOD, *BAD])
    assert (found.requests, found.labelled, found.bad) == (3, 2, 2)
    assert [str(error) for error in found.errors] == ["set#1: torn", "set#9: torn too"]
