"""What was found out about a message is said only of those that are laid out like it."""

import pytest

from haldane.serving.alike import Alike


def known(data: bytes, parts, finding="found", **bounds) -> Alike:
    alike = Alike(**bounds)
    alike.keep(data, parts, finding)
    return alike


def test_a_message_with_the_same_parts_has_the_same_finding_whatever_stands_between_them():
    alike = known(b"ab12yz", [(0, b"ab"), (4, b"yz")])
    assert alike[b"ab34yz"] == "found"


@pytest.mark.parametrize("other", [b"xb12yz", b"ab12yx", b"ab123yz", b"ab1yz", b""])
def test_one_with_another_part_or_length_has_none(other):
    with pytest.raises(KeyError):
        known(b"ab12yz", [(0, b"ab"), (4, b"yz")])[other]


def test_nothing_is_kept_of_a_message_that_lacks_the_parts():
    with pytest.raises(KeyError):
        known(b"ab12yz", [(0, b"xx")])[b"xx12yz"]


def test_several_kinds_of_one_length_are_told_apart_and_the_oldest_is_forgotten():
    alike = Alike(kinds=2)
    for name in (b"a", b"b", b"c"):
        alike.keep(name + b"1", [(0, name)], name)
    assert (alike[b"b2"], alike[b"c2"]) == (b"b", b"c")
    with pytest.raises(KeyError):
        alike[b"a2"]


def test_many_lengths_do_not_fill_memory():
    alike = Alike(lengths=3)
    for length in range(10):
        alike.keep(b"x" * length, [(0, b"x" * length)], length)
    assert len(alike._known) <= 3
    assert alike[b"x" * 9] == 9
