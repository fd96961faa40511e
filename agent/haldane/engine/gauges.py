"""Views and Conditions as our own gauges: what was true once and is not now must not stay on a board."""

from collections.abc import Sequence

from haldane.domain.fleet import Availability, Condition, ReplicaView, ServerName
from haldane.telemetry import Telemetry

_GONE = -1  # the value of a label that resolves to nothing
# As in get_model_status.proto. A number, not one series per state: a large fleet has thousands of versions loaded.
_NUMBERS = {
    Availability.START: 10,
    Availability.LOADING: 20,
    Availability.AVAILABLE: 30,
    Availability.UNLOADING: 40,
    Availability.END: 50,
}

Series = tuple[str, ...]


class Gauges:
    """Keeps the gauges of servers, labels, versions and conditions equal to what was last seen."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._labels: dict[ServerName, set[Series]] = {}
        self._versions: dict[ServerName, set[Series]] = {}
        self._conditions: set[Series] = set()

    def show(self, server: ServerName, view: ReplicaView | None) -> None:
        """Of a server that cannot be seen only that remains: what it serves is not known."""
        own = self._telemetry.fleet
        own.server_up.labels(server).set(0 if view is None else 1)
        if view is not None:
            own.last_look.labels(server).set(view.at)
        labels, versions = _label_values(server, view), _version_values(server, view)
        for series, value in labels.items():
            own.label_version.labels(*series).set(value)
        for series, value in versions.items():
            own.version_state.labels(*series).set(value)
        for series in self._labels.get(server, set()) - labels.keys():
            own.label_version.remove(*series)
        for series in self._versions.get(server, set()) - versions.keys():
            own.version_state.remove(*series)
        self._labels[server], self._versions[server] = set(labels), set(versions)

    def forget(self, server: ServerName) -> None:
        """It has left the fleet."""
        self._labels.pop(server, None)
        self._versions.pop(server, None)
        self._telemetry.forget_server(server)

    def show_conditions(self, conditions: Sequence[Condition]) -> None:
        """1 for each that holds; of one that is over nothing stays, since versions come without an end."""
        now: set[Series] = {
            (one.name, one.model, "" if one.version is None else str(one.version)) for one in conditions
        }
        for series in now:
            self._telemetry.fleet.condition.labels(*series).set(1)
        for series in self._conditions - now:
            self._telemetry.fleet.condition.remove(*series)
        self._conditions = now


def _label_values(server: ServerName, view: ReplicaView | None) -> dict[Series, int]:
    return {
        (model, server, label): _GONE if version is None else version
        for model, seen in (view.models.items() if view else ())
        for label, version in seen.labels.items()
    }


def _version_values(server: ServerName, view: ReplicaView | None) -> dict[Series, int]:
    """Versions that ended well are left out: Serving lists them for ever."""
    return {
        (model, str(status.version), server): _NUMBERS[status.availability]
        for model, seen in (view.models.items() if view else ())
        for status in seen.versions
        if status.availability is not Availability.END or status.failed
    }
