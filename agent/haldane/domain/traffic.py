"""Shadow traffic: Requests in, Outcomes back, Pairs flowing as columns (Batch)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GOLDEN_ROW = 1 << 40  # rows of a golden set are numbered from here on, so that the log tells them from traffic


class Api(StrEnum):
    """Which PredictionService method a Request is for."""

    PREDICT = "Predict"
    CLASSIFY = "Classify"
    REGRESS = "Regress"


@dataclass(frozen=True, slots=True)
class Request:
    """The body of a prediction call, without the choice of version.

    `body` is the serialized request message whose model_spec holds at most a
    signature name: name and version are spliced in when it is sent. `row`
    numbers the rows of a finite set; `truth` is the known label of a labelled
    set (class index, class name or number), else None. `fields` are what it may
    be sliced by, as text.
    """

    id: str
    api: Api
    body: bytes
    row: int = -1
    truth: float | str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    recorded: bytes | None = None  # the serialized answer that the version gave when it was validated

    @property
    def golden(self) -> bool:
        """A row of the golden set: sent once, and always to both versions."""
        return self.row >= GOLDEN_ROW

    @property
    def key(self) -> int:
        return key_of(self.id)


def key_of(request: str) -> int:
    """A request's id as 64 bits, the same in every process: how a label that comes later finds its pair.

    Of any text: JSON may hold half a character.
    """
    text = request.encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class Elsewhere(NamedTuple):
    """How a request chooses a version that is served under another name than its model's."""

    name: str
    version: int


Choice = int | str | Elsewhere  # by number, by label, or by number under another name


class Status(IntEnum):
    """How one side of a pair ended; small and closed, so that it fits a column."""

    OK = 0
    TIMEOUT = 1
    UNAVAILABLE = 2
    INVALID = 3  # the server refused the request itself
    NOT_FOUND = 4  # version or label resolves to nothing
    EXHAUSTED = 5  # Server Threadpool Exhausted, or a full queue
    INTERNAL = 6
    MALFORMED = 7  # an answer that cannot be read


class Outcome(NamedTuple):  # made for every call, and a tuple costs a third of a frozen dataclass
    """One side of a pair. `answer` is the serialized response, when there was one."""

    status: Status
    seconds: float
    version: int | None = None
    answer: bytes | None = None
    detail: str = ""


# One row per counted pair. Order is always stable, then canary. NaN means "not
# known" (no label, no answer), never zero. An append-only log of these rows is
# what evidence is folded from, so a change here needs a new schema in `domain.entries`.
PAIR_DTYPE = np.dtype(
    [
        ("seq", "<i8"),  # order of sending, unique in a rollout
        ("at", "<f8"),  # seconds since the rollout started, when the later answer came
        ("server", "<i2"),  # index into the rollout's server list
        ("aa", "?"),  # both sides were stable
        ("canary_first", "?"),
        ("row", "<i8"),  # row of a finite set, -1 for a stream
        ("fresh", "?"),  # feeds output metrics; False when this row was judged before
        ("masked", "?"),  # a model was loading on that server: not for latency
        ("stable_status", "u1"),
        ("canary_status", "u1"),
        ("stable_seconds", "<f8"),  # deadline when it timed out
        ("canary_seconds", "<f8"),
        ("disagrees", "<f4"),  # 0, 1, NaN: outputs differ beyond tolerance, or class flips
        ("distance", "<f4"),  # largest output difference, unit of the output
        ("stable_wrong", "<f4"),  # 0, 1, NaN when the truth is not known
        ("canary_wrong", "<f4"),
        ("stable_loss", "<f4"),  # per-example loss, NaN when not known
        ("canary_loss", "<f4"),
        ("request", "<u8"),  # Request.key; 0 when not known
        ("slices", "<u4"),  # bit i: belongs to slice i of the rules
        # The judged output as one number (probability, class index, value). NaN: not known; inf: answered, no number.
        ("stable_output", "<f4"),
        ("canary_output", "<f4"),
    ]
)

Batch = NDArray[np.void]  # shape (n,), dtype PAIR_DTYPE, ascending in "seq"


def empty_batch() -> Batch:
    return np.empty(0, PAIR_DTYPE)


def some_answer(batch: Batch) -> NDArray[np.bool_]:
    """Pairs that one side answered at least: any other says nothing of a row, which stays to be judged."""
    answered: NDArray[np.bool_] = (batch["stable_status"] == Status.OK) | (batch["canary_status"] == Status.OK)
    return answered
