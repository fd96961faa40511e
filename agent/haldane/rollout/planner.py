"""The next safe step of one server toward Wanted, from what is seen now.

Remembers nothing: after a crash, a lost reply, or a restarted server, the same
call gives exactly what is left to do. The rules it keeps (fact sheet section 12):
load, wait, prove, then label, never in one request; keep what serves until what
is wanted serves; never drop a version that a label points to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from haldane.domain.fleet import Availability, Clients, ModelEntry, ModelName, ModelView, ReplicaView, ServerConfig
from haldane.domain.rollout import Phase, Progress, Rollout
from haldane.rollout import second
from haldane.rollout.second import Second
from haldane.rollout.wanted import CANARY, STABLE, Watched, has_second_name, named_apart, second_name

# START can be stale for ever (a version given up before its load began), so it says nothing either way.
_THERE = (Availability.LOADING, Availability.AVAILABLE)


@dataclass(frozen=True, slots=True)
class Step:
    """What to do about one server now.

    `config` is the config it should be sent for this step; `due` says that it
    is seen not to hold it yet. `settled`: it holds all of Wanted.
    """

    config: ServerConfig
    due: bool
    settled: bool
    why: str


def next_step(
    wanted: ServerConfig,
    view: ReplicaView,
    watched: Mapping[ModelName, Watched],
    accepted: ServerConfig | None = None,
    seconds: Mapping[ModelName, Second] | None = None,
) -> Step:
    """The next step of one server; pure, so the same view gives the same step.

    `accepted` is the config this process took last, if we know: a version that
    is still LOADING though that config left it out will end by itself (Serving
    gives up only after the current attempt, minutes later), so nobody waits for it.
    `seconds`: the second names that may be on that server.
    """
    config = wanted
    reasons: list[str] = []
    for model in watched:
        entry, seen = wanted.entry(model), view.models.get(model, ModelView())
        if entry is None:
            raise KeyError(model)
        reachable = _reachable(entry, seen, watched[model])
        config = config.with_entry(reachable)
        taken = accepted.entry(model) if accepted else None
        found = _differences(reachable, seen, given_up=taken == reachable)
        reasons += [f"{model}: {reason}" for reason in found]
    for name, one in (seconds or {}).items():
        config, found = _second(config, name, one, view, accepted)
        reasons += [f"{name}: {reason}" for reason in found]
    settled = not reasons and config == wanted
    if not reasons and not settled:
        held = {name: one.waits for name, one in (seconds or {}).items() if one.waits and config.entry(name) is None}
        reasons = [f"{name} waits: {waits}" for name, waits in held.items() if wanted.entry(name)]
        reasons += [f"waiting for versions to be available and proven: {_pending(wanted, config)}"]
        return Step(config, due=False, settled=False, why="; ".join(reasons))
    return Step(config, due=bool(reasons), settled=settled, why="; ".join(reasons) or "as wanted")


def _second(
    config: ServerConfig, name: ModelName, one: Second, view: ReplicaView, accepted: ServerConfig | None
) -> tuple[ServerConfig, list[str]]:
    """The config with what can be asked for now of a second name, and what the server is seen not to hold of it."""
    entry, seen = config.entry(name), view.models.get(name, ModelView())
    taken = accepted.entry(name) if accepted else None
    if entry is not None:
        entry = second.introduced(entry, seen, view.models.get(one.model, ModelView()), one)
    if entry is None:
        return config.without(name), second.left(seen, one, given_up=accepted is not None and taken is None)
    found = _differences(entry, seen, given_up=taken == entry)
    if not found and taken != entry and not any(status.availability in _THERE for status in seen.versions):
        found = ["it should be there"]  # that a version failed there once says nothing of now
    return config.with_entry(entry), found


def _reachable(entry: ModelEntry, seen: ModelView, at_rest: Watched) -> ModelEntry:
    """The part of one wanted entry that can be asked for now without hurting anyone."""
    labels = {}
    for label, target in entry.labels.items():
        now = seen.labels.get(label)
        at_ease = at_rest.released and not at_rest.provable
        unproved_will_do = now == target or (target == at_rest.stable and at_ease)
        if seen.available(target) and (target in seen.proven or unproved_will_do):
            labels[label] = target
        elif now is not None and seen.available(now):
            labels[label] = now
        elif label == STABLE and seen.available(at_rest.stable):
            labels[label] = at_rest.stable  # restarted half-way: the version it booted with serves meanwhile
    complete = labels == dict(entry.labels) and any(seen.available(version) for version in entry.versions)
    keep = () if complete else seen.loaded
    return entry.serving((*entry.versions, *labels.values(), *keep), labels)


def _differences(entry: ModelEntry, seen: ModelView, *, given_up: bool) -> list[str]:
    """What a server is seen not to hold of an entry, in words."""
    found = []
    for label in sorted({*entry.labels, *seen.labels}):
        want, now = entry.labels.get(label), seen.labels.get(label)
        if label in seen.labels and want is None:
            found.append(f"label {label} should not be set")
        elif want != now:
            found.append(f"label {label} should be {want}, is {'unset' if now is None else now}")
    present = {s.version for s in seen.versions if s.availability in _THERE}
    asked = present | {s.version for s in seen.versions if s.failed}
    found += [f"version {version} should be loaded" for version in entry.versions if version not in asked]
    extra = (set(seen.loaded) if given_up else present) - set(entry.versions)
    found += [f"version {version} should be unloaded" for version in sorted(extra)]
    return found


def _pending(wanted: ServerConfig, config: ServerConfig) -> str:
    return ", ".join(entry.name for entry in wanted.models if config.entry(entry.name) != entry)


def progress(rollout: Rollout, server: str, view: ReplicaView | None, step: Step | None) -> tuple[Progress, str]:
    """How far one server of a rollout is, and why.

    `step` is None when servers are not ours to change (observe mode).
    """
    if view is None:
        return Progress.UNSEEN, "could not be seen"
    seen = view.models.get(rollout.model, ModelView())
    if rollout.phase not in (Phase.PENDING, Phase.ROLLING_BACK, Phase.STUCK) and _has_canary(rollout, server):
        trouble = _trouble(rollout, seen)
        if trouble:
            return Progress.FAILED, trouble
    apart = view.models.get(second_name(rollout.model), ModelView())
    if named_apart(rollout) and (trouble := _trouble(rollout, apart)):
        return Progress.FAILED, f"as {second_name(rollout.model)}: {trouble}"
    if step is None:
        both = seen.available(rollout.old) and seen.available(rollout.new)
        return (Progress.SETTLED, "both versions are loaded") if both else (Progress.BEHIND, "not both versions loaded")
    entry = step.config.entry(rollout.model)
    lagging = entry is None or _lagging(rollout, entry, seen)
    if lagging:
        return Progress.BEHIND, lagging if isinstance(lagging, str) else step.why
    if not step.settled:
        return Progress.BEHIND, step.why
    missing = second.missing(rollout, apart) if named_apart(rollout) else ""
    return (Progress.BEHIND, missing) if missing else (Progress.SETTLED, "as wanted")


def unproven(view: ReplicaView, model: ModelName, version: int) -> ReplicaView:
    """The same view without the proof of that version: it is not known yet to be what was published."""
    names = {model, second_name(model)}.intersection(view.models)
    seen = {name: view.models[name] for name in names}
    without = {name: replace(one, proven=one.proven - {version}) for name, one in seen.items()}
    return replace(view, models={**view.models, **without})


def _has_canary(rollout: Rollout, server: str) -> bool:
    beside = rollout.clients is Clients.LABEL and not has_second_name(rollout)
    return beside or server in rollout.dedicated or server in rollout.promoted


def _trouble(rollout: Rollout, seen: ModelView) -> str:
    """Why the new version cannot be served here, or ""."""
    status = seen.status(rollout.new)
    if status and status.failed:
        return f"version {rollout.new} failed to load: {status.error_code}: {status.error_message}"
    if rollout.new in seen.unproven_because:
        return f"version {rollout.new} loaded but cannot answer: {seen.unproven_because[rollout.new]}"
    return ""


def _lagging(rollout: Rollout, entry: ModelEntry, seen: ModelView) -> str:
    """What is still missing that is not a config difference: the versions must answer, not merely be asked for."""
    withdrawn = rollout.first and rollout.phase in (Phase.ROLLING_BACK, Phase.STUCK)  # it may never load, and need not
    wanted = [version for version in entry.versions if not (withdrawn and version == rollout.new)]
    missing = [version for version in wanted if not seen.available(version)]
    if missing:
        return f"version {missing[0]} is not available yet"
    highest = max(entry.versions)
    if rollout.clients is Clients.UNVERSIONED and seen.unversioned != highest:
        return f"unversioned requests are answered by {seen.unversioned}, not {highest}"
    unproven = [version for version in wanted if version == rollout.new and version not in seen.proven]
    return f"version {unproven[0]} is not proven yet" if unproven else ""


__all__ = ["CANARY", "STABLE", "Step", "next_step", "progress", "unproven"]
