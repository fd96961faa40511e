"""Memories of servers → Conditions: what a person should know.

Pure: Conditions are read from the memories of all servers together, so that a
version that fails on sixty servers is one Condition. Owns: which things are
wrong, and how they are told. Leaves to `judge.memory` since when they hold, to
`engine.observe` and the alert sinks the telling.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum

from haldane.domain.fleet import Condition, ModelName, ServerName
from haldane.domain.rollout import Phase, Rollout, RolloutId
from haldane.judge.memory import Bounds, Memory
from haldane.judge.unwanted import Key, Spell

_SLOWER = 5.0  # times as long as other versions took: no longer a matter of a busy disk


class Name(StrEnum):
    """The closed set of condition names; each is an alert and has a runbook."""

    FAILED_LOAD = "failed_load"
    LOAD_STUCK = "load_stuck"
    UPLOAD_INCOMPLETE = "upload_incomplete"
    VERSION_NOT_LOADED = "version_not_loaded"
    LABEL_DANGLING = "label_dangling"
    LABEL_DRIFT = "label_drift"
    CONFIG_DRIFT = "config_drift"
    SERVER_UNSEEN = "server_unseen"
    SERVER_RESTARTED = "server_restarted"
    UNAPPROVED_VERSION = "unapproved_version"
    ROLLOUT_STUCK = "rollout_stuck"
    ROLLBACK_SLOW = "rollback_slow"
    STABLE_FAILING = "stable_failing"


def conditions(
    memories: Mapping[ServerName, Memory],
    *,
    at: float,
    bounds: Bounds,
) -> tuple[Condition, ...]:
    """Everything wrong now, one Condition per model version, oldest first."""
    found: dict[tuple[str, str, int | None], Condition] = {}
    for server, memory in sorted(memories.items()):
        for one in _of_server(server, memory, at, bounds):
            key = (one.name, one.model, one.version)
            found[key] = _joined(found[key], one) if key in found else one
    return tuple(sorted(found.values(), key=lambda one: (one.since, one.name, one.model)))


def of_rollouts(
    live: Iterable[Rollout], failing: Mapping[RolloutId, float], *, at: float, bounds: Bounds
) -> Iterator[Condition]:
    """What someone should get up for in rollouts under way; `failing`: since when stable fails more than it may."""
    for one in live:

        def say(name: Name, detail: str, since: float, one: Rollout = one) -> Condition:
            return Condition(name, one.model, None, (), f"version {one.new} on trial: {detail}", since)

        if one.phase is Phase.STUCK:
            yield say(Name.ROLLOUT_STUCK, one.why, one.phase_since)
        if one.phase is Phase.ROLLING_BACK and at - one.phase_since >= bounds.rollback:
            yield say(Name.ROLLBACK_SLOW, one.why, one.phase_since)
        since = failing.get(one.id)
        if since is not None and one.phase.judging and at - since >= bounds.failing:
            yield say(Name.STABLE_FAILING, "stable fails more requests than a baseline may", since)


def _joined(first: Condition, other: Condition) -> Condition:
    servers = tuple(sorted({*first.servers, *other.servers}))
    more = "" if other.detail in first.detail or len(first.detail) > 500 else f"; {other.servers[0]}: {other.detail}"
    return replace(first, servers=servers, since=min(first.since, other.since), detail=first.detail + more)


def _of_server(server: ServerName, memory: Memory, at: float, bounds: Bounds) -> Iterable[Condition]:
    def say(name: Name, model: str, version: int | None, detail: str, since: float) -> Condition:
        return Condition(name, model, version, (server,), detail, since)

    if memory.unseen and at - memory.unseen.at >= bounds.unseen:
        yield say(Name.SERVER_UNSEEN, "", None, "does not answer status calls", memory.unseen.at)
    if memory.restarted and at - memory.restarted.at < bounds.linger:
        detail = "its process began anew; labels and versions that a reload had set were gone"
        yield say(Name.SERVER_RESTARTED, "", None, detail, memory.restarted.at)
    for (model, version), since in memory.failed.items():
        yield say(Name.FAILED_LOAD, _first_name(memory, model, memory.failed, version), version, since.detail, since.at)
    for (model, version), since in memory.loading.items():
        detail = _stuck(memory, (model, version), at - since.at, bounds)
        if detail and (model, version) not in memory.failed:
            yield say(Name.LOAD_STUCK, _first_name(memory, model, memory.loading, version), version, detail, since.at)
    for told in _of_storage(memory, at, bounds):
        yield say(*told)
    for (model, label), since in memory.dangling.items():
        if at - since.at >= bounds.dangling:
            detail = f"label {label} names a version that is not loaded; requests with it get NOT_FOUND"
            yield say(Name.LABEL_DANGLING, model, None, detail, since.at)
    for (model, version), since in memory.unapproved.items():
        if at - since.at >= bounds.unapproved and (model, version) not in memory.intruding:
            yield say(Name.UNAPPROVED_VERSION, model, version, "is loaded, but nothing here asked for it", since.at)
    for (model, version), spell in memory.intruding.items():
        if spell.detail:
            yield say(Name.UNAPPROVED_VERSION, model, version, spell.detail, spell.first)
    for (model, _, _), spell in memory.labels_off.items():
        if _lasted(spell, at, bounds):
            yield say(Name.LABEL_DRIFT, model, None, spell.detail, spell.first)
    for (model, version), spell in memory.missing.items():
        if _lasted(spell, at, bounds):
            yield say(Name.CONFIG_DRIFT, model, version, spell.detail, spell.first)


_Told = tuple[Name, ModelName, int, str, float]


def _of_storage(memory: Memory, at: float, bounds: Bounds) -> Iterator[_Told]:
    """What only a listing of the base path shows."""
    for (model, version), since in memory.incomplete.items():
        if at - since.at >= bounds.upload and (model, version) not in memory.failed:
            first = _first_name(memory, model, memory.incomplete, version)
            yield Name.UPLOAD_INCOMPLETE, first, version, since.detail, since.at
    for (model, version), since in memory.unserved.items():
        if at - since.at >= bounds.unserved:
            first = _first_name(memory, model, memory.unserved, version)
            yield Name.VERSION_NOT_LOADED, first, version, since.detail, since.at


def _stuck(memory: Memory, key: Key, seconds: float, bounds: Bounds) -> str:
    """Why a version that has been LOADING for so long is stuck, or ""."""
    if seconds >= bounds.load:
        return "LOADING without an end; retries show no error"
    usual = memory.usual_seconds(key)
    if key in memory.incomplete:
        return ""  # storage says more than the time it takes
    if usual is not None and seconds >= max(bounds.slow, _SLOWER * usual):
        return (
            f"LOADING, and no attempt has ended, where other versions took {usual:.1f} s at most; "
            "mostly its directory has no saved_model.pb, as when an upload is not complete"
        )
    return ""


def _lasted(spell: Spell, at: float, bounds: Bounds) -> bool:
    return spell.last - spell.first >= bounds.drift and at - spell.last < bounds.linger


def _first_name(memory: Memory, model: ModelName, among: Iterable[Key], version: int) -> ModelName:
    """One name for a directory that several models share, so that its failure is told once."""
    path = memory.paths.get(model, "").rstrip("/")
    if not path:
        return model
    return min(
        (name for name, other in among if other == version and memory.paths.get(name, "").rstrip("/") == path),
        default=model,
    )


# --- what holds on one server -----------------------------------------------------------------------------------------
