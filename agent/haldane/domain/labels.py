"""Labels: the right answers, which may come long after the answers they judge, or before."""

from collections.abc import Sequence
from dataclasses import dataclass

from haldane.domain.traffic import Api


@dataclass(frozen=True, slots=True)
class Label:
    """The right answer to one request: class index, class name or number. `request` is `Request.key`."""

    request: int
    truth: float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaiting:
    """An answered pair that waits for its label: what is needed to judge it, and nothing else.

    `stable` and `canary` are the answers in Serving's own form, cut down to the judged output; None is a
    side that failed.
    """

    request: int
    at: float  # wall-clock seconds, when it was answered
    answered_at: float  # seconds of judging since the rollout started, as in its pair
    server: int
    slices: int
    api: Api
    stable: bytes | None
    canary: bytes | None


@dataclass(frozen=True, slots=True)
class Arrived:
    """A pair whose label has come; `at` is when, in wall-clock seconds."""

    pair: Awaiting
    truth: float | str
    at: float


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Pairs whose label has come since a place in the order of labels, and the place to go on from."""

    found: Sequence[Arrived]
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of labels handed in, and of older ones that made room for them."""

    accepted: int = 0
    duplicate: int = 0  # the request has a label already: the first one stands
    unknown: int = 0  # of those accepted, no answered pair waits for them so far
    expired: int = 0  # older labels that were kept their time and never found a pair
    dropped: int = 0  # the same, but given up early: there are too many
