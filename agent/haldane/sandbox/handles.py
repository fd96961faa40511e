"""Which versions answer requests, and when the last request has let go.

Publishing a new map takes effect at once for new requests, then blocks until
every handle given out from the old map is released: this is how unloading (and
the report of AVAILABLE) waits for requests in flight, of all models.

Source: core/basic_manager.cc (ServingMap), util/fast_read_dynamic_ptr.h.
"""

import threading
from collections.abc import Iterable
from types import TracebackType

import grpc

from haldane.sandbox.servable import Handle, Servable, StatusError
from haldane.sandbox.states import ServableId


class _Map:
    def __init__(self, ready: Iterable[tuple[ServableId, Servable]]) -> None:
        self.held = 0
        self.exact: dict[tuple[str, int | None], tuple[int, Servable]] = {}
        for servable_id, servable in sorted(ready, key=lambda item: item[0]):
            self.exact[servable_id.model, servable_id.version] = servable_id.version, servable
            self.exact[servable_id.model, None] = servable_id.version, servable  # the highest comes last


class HeldHandle:
    """A handle for the length of a `with` block."""

    __slots__ = ("_handle", "_map", "_owner")

    def __init__(self, owner: "ServingMap", held: _Map, handle: Handle) -> None:
        self._owner, self._map, self._handle = owner, held, handle

    def __enter__(self) -> Handle:
        return self._handle

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner.release(self._map)


class ServingMap:
    """(model, version or None for the latest) -> the servable that answers."""

    def __init__(self) -> None:
        self._released = threading.Condition()
        self._current = _Map(())

    def acquire(self, model: str, version: int | None) -> HeldHandle:
        """A handle that keeps the version loaded until released; StatusError NOT_FOUND when nothing answers."""
        with self._released:
            current = self._current
            found = current.exact.get((model, version))
            if found is not None:
                current.held += 1
        if found is None:
            request = f"Latest({model})" if version is None else f"Specific({model}, {version})"
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {request}")
        return HeldHandle(self, current, Handle(model, found[0], found[1]))

    def release(self, held: _Map) -> None:
        with self._released:
            held.held -= 1
            if held.held == 0:
                self._released.notify_all()

    def publish(self, ready: Iterable[tuple[ServableId, Servable]]) -> None:
        """Let new requests use these versions, then wait until the old map's handles are all released."""
        fresh = _Map(ready)
        with self._released:
            old, self._current = self._current, fresh
            self._released.wait_for(lambda: old.held == 0)
