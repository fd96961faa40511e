"""A core that always has one version of one model loaded."""

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc

from haldane.sandbox.servable import Handle, Servable, StatusError


class OneModel:
    """Resolves every ModelSpec of its model to version 2; NOT_FOUND for others."""

    def __init__(self, model: str, servable: Servable) -> None:
        self._model, self._servable = model, servable

    @contextlib.contextmanager
    def acquire(self, model_spec: Any) -> Iterator[Handle]:
        if model_spec.name != self._model:
            message = f"Servable not found for request: Latest({model_spec.name})"
            raise StatusError(grpc.StatusCode.NOT_FOUND, message)
        yield Handle(self._model, 2, self._servable)
