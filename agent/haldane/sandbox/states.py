"""States of versions: who publishes them, who remembers them, who waits for them.

Belongs here: the event bus and the monitor behind GetModelStatus. An entry is
never forgotten while the process lives; END stays for good.

Source: core/servable_state.h, core/servable_state_monitor.cc, util/event_bus.h.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from haldane.sandbox.servable import StatusError


class State(IntEnum):
    """ModelVersionStatus.State, by its numbers on the wire."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, slots=True, order=True)
class ServableId:
    """One version of one model; its text is Serving's own."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.model} version: {self.version}}}"


@dataclass(frozen=True, slots=True)
class Event:
    """A version reached a state; `error` is set when it ended badly."""

    id: ServableId
    state: State
    error: StatusError | None = None


class EventBus:
    """Hands every event to all subscribers, one event at a time, in the publisher's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: list[Callable[[Event], None]] = []

    def subscribe(self, subscriber: Callable[[Event], None]) -> None:
        with self._lock:
            self._subscribers.append(subscriber)

    def unsubscribe(self, subscriber: Callable[[Event], None]) -> None:
        with self._lock:
            self._subscribers.remove(subscriber)

    def publish(self, event: Event) -> None:
        with self._lock:
            for subscriber in self._subscribers:
                subscriber(event)


class StateMonitor:
    """The last event of every version since this monitor was made."""

    def __init__(self, bus: EventBus) -> None:
        self._changed = threading.Condition()
        self._states: dict[str, dict[int, Event]] = {}
        self._bus = bus
        bus.subscribe(self._handle)

    def close(self) -> None:
        self._bus.unsubscribe(self._handle)

    def _handle(self, event: Event) -> None:
        with self._changed:
            self._states.setdefault(event.id.model, {})[event.id.version] = event
            self._changed.notify_all()

    def versions(self, model: str) -> dict[int, Event]:
        """All versions of a model ever seen, highest first."""
        with self._changed:
            return dict(sorted(self._states.get(model, {}).items(), reverse=True))

    def wait_settled(self, models: Iterable[str]) -> dict[str, Event]:
        """Wait until every model has a version that is AVAILABLE or END; which one, per model.

        Of several settled versions the highest counts. No time limit, as in the
        real server: a model that never shows up blocks for ever.
        """
        names = sorted(set(models))
        with self._changed:
            while True:
                settled = {name: event for name in names if (event := _first_settled(self._states.get(name, {})))}
                if len(settled) == len(names):
                    return settled
                self._changed.wait()


def _first_settled(versions: Mapping[int, Event]) -> Event | None:
    for version in sorted(versions, reverse=True):
        if versions[version].state in (State.AVAILABLE, State.END):
            return versions[version]
    return None


def not_available(settled: Mapping[str, Event], noun: str) -> str | None:
    """Serving's sentence about the models that settled without becoming available; None when all did.

    `noun` is "servable" at start and "model" in a reload.
    """
    failed = [event for _, event in sorted(settled.items()) if event.state is not State.AVAILABLE]
    if not failed:
        return None
    parts = ""
    for event in failed:
        cause = f" due to error: {event.error}" if event.error else ""
        parts += f"{{{event.id}{cause}}}, "
    return f"{len(failed)} {noun}(s) did not become available: {{{parts}}}"
