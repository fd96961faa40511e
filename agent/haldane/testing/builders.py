"""Values for tests: state only what matters."""

from typing import Any

from haldane.domain.fleet import (
    Availability,
    Clients,
    ModelEntry,
    ModelName,
    ModelView,
    Placement,
    Policy,
    ReplicaView,
    ServerConfig,
    ServerName,
    VersionStatus,
)
from haldane.domain.rollout import Mode, Phase, Rollout, RolloutId

MODEL = ModelName("credit")


def a_rollout(phase: Phase = Phase.PENDING, **fields: Any) -> Rollout:
    """A rollout of model `credit` from 1 to 2 on r0 and r1, enforced, clients by label."""
    values: dict[str, Any] = {
        "id": RolloutId("credit-2-test"),
        "model": MODEL,
        "old": 1,
        "new": 2,
        "mode": Mode.ENFORCE,
        "clients": Clients.LABEL,
        "placement": Placement.SAME_ENTRY,
        "servers": (ServerName("r0"), ServerName("r1")),
        "phase": phase,
    }
    return Rollout(**{**values, **fields})


def an_entry(name: str = MODEL, **fields: Any) -> ModelEntry:
    """A model that serves version 1, named `stable`."""
    values: dict[str, Any] = {"policy": Policy.SPECIFIC, "versions": (1,), "labels": {"stable": 1}}
    return ModelEntry(name=ModelName(name), base_path=f"/models/{name}", **{**values, **fields})


def a_config(*entries: ModelEntry) -> ServerConfig:
    return ServerConfig(entries or (an_entry(),))


def a_view(
    *available: int,
    labels: dict[str, int | None] | None = None,
    proven: tuple[int, ...] | None = None,
    failed: tuple[int, ...] = (),
    server: str = "r0",
    at: float = 0.0,
) -> ReplicaView:
    """One server seen to serve these versions of `credit`, all proven unless said otherwise."""
    statuses = [VersionStatus(version, Availability.AVAILABLE) for version in available]
    statuses += [VersionStatus(version, Availability.END, "DATA_LOSS", "cannot parse") for version in failed]
    model = ModelView(
        versions=tuple(statuses),
        labels=labels or {},
        unversioned=max(available, default=None),
        proven=frozenset(available if proven is None else proven),
    )
    return ReplicaView(ServerName(server), at, {MODEL: model})
