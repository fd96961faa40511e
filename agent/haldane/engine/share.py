"""Which requests of a source one sender takes, and how it numbers its pairs.

Several senders read the same source, each from its start: the n-th takes every
request whose place leaves n, so no two send the same one and none is left out.
"""

from collections.abc import Callable


class Share:
    """Of `of` senders the one with this `index`; `clock` gives the least number that its next pair may have.

    Numbers ascend in order of sending. With a clock that all senders read alike, they say which
    of two senders' pairs was sent first.
    """

    def __init__(self, index: int, of: int, clock: Callable[[], int]) -> None:
        self.index, self.of = index, of
        self.ended = False  # nothing more is to be sent; what is out is waited for
        self.sent = 0  # pairs
        self.done = 0  # every pair below this number was handed on, or never will be
        self._clock, self._next = clock, 0

    def takes(self, place: int) -> bool:
        """Whether the request at this place, counted from 0, is one of ours."""
        return place % self.of == self.index

    def number(self) -> int:
        """For the pair that is sent now."""
        number = max(self._next, self._clock())
        self._next = number + 1
        self.sent += 1
        return number

    @property
    def border(self) -> int:
        """No pair will have a number below it from now on."""
        self._next = max(self._next, self._clock())
        return self._next


def whole(next_seq: int) -> Share:
    """The only sender: all requests, and the rollout's own numbers from there on."""
    return Share(0, 1, lambda: next_seq)
