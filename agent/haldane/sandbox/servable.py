"""What the lifecycle asks of an executor, and how the two say no.

`manager` and `core` know versions, states and labels; an executor knows how to
load one version directory and run its signatures. Two executors exist: real
TensorFlow (`executor`) and a toy without it (`toy`).
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import grpc


class StatusError(Exception):
    """A canonical status as TF Serving would return it; `message` is the exact text."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


class Servable(Protocol):
    """One loaded version."""

    signatures: Mapping[str, Any]  # name -> tensorflow.SignatureDef (wire class)

    def run(self, feeds: Mapping[str, Any], fetches: Sequence[str], *, timeout_seconds: float | None) -> dict[str, Any]:
        """Run the graph once.

        `feeds` maps tensor names to values as the executor's `decode` makes
        them; `fetches` are tensor names. Returns tensor name -> numpy array.
        Raises StatusError with the runtime's own code and text.
        """

    def unload(self) -> None: ...


class Executor(Protocol):
    """Loads version directories."""

    def load(self, model: str, path: str) -> Servable:
        """Load one version directory, warm-up included; StatusError when it cannot be loaded.

        One call is one attempt (the manager retries). The executor itself counts
        the attempt in `metrics`: only it knows whether the runtime was reached.
        """


@dataclass(frozen=True, slots=True)
class Handle:
    """A version found for a request; holding it keeps the version loaded."""

    model: str  # as requested
    version: int
    servable: Servable


class Core(Protocol):
    """What the inference APIs ask of the lifecycle."""

    def acquire(self, model_spec: Any) -> AbstractContextManager[Handle]:
        """The handle a ModelSpec resolves to; StatusError with TF Serving's own code and text."""
