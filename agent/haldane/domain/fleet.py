"""What Serving processes hold and should hold: servers, versions, labels, configs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NewType

ServerName = NewType("ServerName", str)  # from our config, never an address
ModelName = NewType("ModelName", str)


class Availability(StrEnum):
    """Serving's own state of a version on a server. Source: get_model_status.proto."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version's line in a GetModelStatus answer."""

    version: int
    availability: Availability
    error_code: str = "OK"
    error_message: str = ""

    @property
    def failed(self) -> bool:
        """Its load ended for good with an error; CANCELLED is an order to stop, not a failure."""
        return self.availability is Availability.END and self.error_code not in ("OK", "CANCELLED")


class Clients(StrEnum):
    """How clients name the model; Serving cannot tell, so it is declared."""

    LABEL = "label"
    UNVERSIONED = "unversioned"


class Placement(StrEnum):
    """Where the canary runs."""

    SAME_ENTRY = "same_entry"  # beside stable on every server
    OWN_REPLICAS = "own_replicas"  # on dedicated canary servers only
    SECOND_NAME = "second_name"  # beside stable on every server, under a name of its own


@dataclass(frozen=True, slots=True)
class Server:
    """One TF Serving process that we look after."""

    name: ServerName
    address: str  # host:port of its gRPC listener
    metrics_url: str | None = None
    dedicated_canary: bool = False  # takes no user traffic (Placement.OWN_REPLICAS)
    config_file: str | None = None  # the model config file it polls, through which it is changed; None: by reload
    process: str = ""  # which one of that name it is, where a list tells (a pod's uid): another one remembers nothing
    process_url: str | None = None  # page where the CPU and memory of its process are measured
    process_group: str = ""  # its `groupname` there, when that page is a process exporter's
    memory: int | None = None  # bytes that its process may use in all; None: nobody said
    grpc_threads: int | None = None  # --grpc_max_threads there, where it is not that of all (shadow.grpc_threads)


class Policy(StrEnum):
    """Serving's version policies. Source: file_system_storage_path_source.proto."""

    LATEST = "latest"
    ALL = "all"
    SPECIFIC = "specific"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model of a ModelServerConfig.

    `versions` counts for SPECIFIC, `num_versions` for LATEST. `other` is the
    serialized ModelConfig of every field not named here, so that nothing of a
    config written by hand is lost.
    """

    name: ModelName
    base_path: str
    platform: str = "tensorflow"
    policy: Policy = Policy.LATEST
    num_versions: int = 1
    versions: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    other: bytes = b""

    def serving(self, versions: tuple[int, ...], labels: Mapping[str, int]) -> "ModelEntry":
        """The same model with exactly these versions loaded and these labels set."""
        return replace(
            self, policy=Policy.SPECIFIC, versions=tuple(sorted(set(versions))), labels=dict(sorted(labels.items()))
        )


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The whole model list of one server. A reload replaces all of it."""

    models: tuple[ModelEntry, ...] = ()

    def entry(self, model: ModelName) -> ModelEntry | None:
        return next((entry for entry in self.models if entry.name == model), None)

    def without(self, model: ModelName) -> "ServerConfig":
        """This config without the entry of that name, if it has one."""
        return ServerConfig(tuple(entry for entry in self.models if entry.name != model))

    def with_entry(self, entry: ModelEntry) -> "ServerConfig":
        """This config with the entry of that name replaced; KeyError when there is none."""
        if self.entry(entry.name) is None:
            raise KeyError(entry.name)
        return ServerConfig(tuple(entry if old.name == entry.name else old for old in self.models))


@dataclass(frozen=True, slots=True)
class ModelView:
    """What one server was seen to hold of one model.

    `labels` maps each probed label to the version it resolved to, or None when
    it resolves to nothing. `unversioned` is the version that answers requests
    naming neither. `proven` are the versions that answered a golden request
    on this server since it (re)started.
    """

    versions: tuple[VersionStatus, ...] = ()
    labels: Mapping[str, int | None] = field(default_factory=dict)
    unversioned: int | None = None
    proven: frozenset[int] = frozenset()
    unproven_because: Mapping[int, str] = field(default_factory=dict)  # golden request failed: why

    def status(self, version: int) -> VersionStatus | None:
        return next((status for status in self.versions if status.version == version), None)

    def available(self, version: int) -> bool:
        status = self.status(version)
        return status is not None and status.availability is Availability.AVAILABLE

    @property
    def loaded(self) -> tuple[int, ...]:
        """Versions that are AVAILABLE, ascending."""
        return tuple(sorted(s.version for s in self.versions if s.availability is Availability.AVAILABLE))


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """What one server was seen to serve, at one instant (seconds, wall clock)."""

    server: ServerName
    at: float
    models: Mapping[ModelName, ModelView] = field(default_factory=dict)


Seen = Mapping[ServerName, ReplicaView | None]  # None: could not be seen


@dataclass(frozen=True, slots=True)
class Condition:
    """Something wrong that a person should know: one per model version, not per server.

    `name` is from a closed set (it becomes an alert name and a metric label).
    """

    name: str
    model: str
    version: int | None
    servers: tuple[str, ...]
    detail: str
    since: float
