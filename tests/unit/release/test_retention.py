"""Which versions may go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haldane.release.retention import Choice, choose
from haldane.release.shelf import State

P, U, D, X = State.PUBLISHED, State.UNFINISHED, State.DELETED, State.UNKNOWN


def gone(states, in_use=None, *, keep=3, placed=None, abandoned=()):
    found = choose(states, in_use or {}, keep=keep, placed=states if placed is None else placed, abandoned=abandoned)
    return {one.version for one in found if one.delete}


@pytest.mark.parametrize(
    ("states", "in_use", "expected"),
    [
        ({1: P, 2: P, 3: P}, {}, set()),
        ({1: P, 2: P, 3: P, 4: P, 5: P}, {}, {1, 2}),
        ({1: P, 2: P, 3: P, 4: P, 5: P}, {1: ["labelled stable on r0"]}, {2}),
        # Neither an unfinished one nor one that is gone takes the place of one of the three.
        ({1: P, 2: P, 3: P, 4: U, 5: P, 6: X}, {}, {1}),
        ({1: P, 2: P, 3: U, 4: D, 5: P}, {}, set()),
        ({1: X, 2: P, 3: P, 4: P, 5: P}, {}, {2}),
    ],
)
def test_three_are_kept_and_all_that_is_used(states, in_use, expected):
    assert gone(states, in_use, placed=()) == expected


def test_what_died_or_was_half_deleted_is_cleaned_up():
    states = {1: D, 2: D, 3: U, 4: U, 5: P}
    assert gone(states, placed={2, 5}, abandoned={3}) == {2, 3}


def test_each_choice_says_why():
    states = {1: P, 2: P, 3: X, 4: U, 5: P}
    in_use = {1: ["labelled stable on r0", "AVAILABLE on r1"]}
    assert choose(states, in_use, keep=1, placed=states, abandoned=()) == [
        Choice(1, False, "labelled stable on r0; AVAILABLE on r1"),
        Choice(2, True, "older than the newest, and nobody uses it"),
        Choice(3, False, "nobody published it, so it is not ours to delete"),
        Choice(4, False, "its publisher may still be at work"),
        Choice(5, False, "the newest"),
    ]


@given(
    st.dictionaries(st.integers(0, 20), st.sampled_from(State)),
    st.dictionaries(st.integers(0, 20), st.just(["used"])),
    st.integers(1, 5),
    st.sets(st.integers(0, 20)),
    st.sets(st.integers(0, 20)),
)
def test_never_what_is_used_and_never_one_of_the_newest(states, in_use, keep, placed, abandoned):
    going = gone(states, in_use, keep=keep, placed=placed, abandoned=abandoned)
    published = sorted(version for version, state in states.items() if state is P)
    assert not going & set(in_use)
    assert not going & set(published[-keep:])
    assert not going & {version for version, state in states.items() if state is X}
