"""What must hold in every config before it is sent, whatever went before.

Checked again at the door, in code that shares nothing with the planner: a bug
there then stops the agent instead of unloading somebody's model.
"""

from collections.abc import Iterable, Mapping

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import ModelName, ModelView, Policy, ReplicaView, ServerConfig
from haldane.domain.rollout import Mode, Phase, Rollout
from haldane.rollout.wanted import Watched


class InvariantBroken(Exception):
    """Our own contract is broken: stop acting and page someone."""


def check(
    config: ServerConfig,
    view: ReplicaView,
    watched: Mapping[ModelName, Watched],
    seconds: Mapping[ModelName, ModelName] | None = None,
) -> None:
    """Raise InvariantBroken when sending this config could hurt the server as it is seen.

    `seconds`: models by the second names of their canaries.
    """
    if not config.models:
        raise InvariantBroken("an empty list would unload every model")
    for entry in config.models:
        if not (entry.name and entry.base_path and entry.platform):
            raise InvariantBroken(
                f"model {entry.name!r} lacks a name, base path or platform: it would poison the server"
            )
        if entry.policy is Policy.SPECIFIC and not set(entry.labels.values()) <= set(entry.versions):
            raise InvariantBroken(f"model {entry.name}: a label would dangle: {dict(entry.labels)}, {entry.versions}")
    for model in watched:
        _check_watched(config, model, view.models.get(model, ModelView()))
    for name, model in (seconds or {}).items():
        _check_second(config, name, model, view)


def _check_second(config: ServerConfig, name: ModelName, model: ModelName, view: ReplicaView) -> None:
    """A name that is new to the server holds its reload lock until what it names has settled."""
    entry, own = config.entry(name), config.entry(model)
    if entry is None:
        return
    if own is None or entry.base_path != own.base_path:
        raise InvariantBroken(f"model {name} is the canary of {model}, and would be read from {entry.base_path}")
    known, sure = view.models.get(name, ModelView()), view.models.get(model, ModelView())
    if not known.loaded and not all(sure.available(version) for version in entry.versions):
        raise InvariantBroken(f"model {name} would be introduced with {entry.versions}, not all of which load there")


def _check_watched(config: ServerConfig, model: ModelName, seen: ModelView) -> None:
    entry = config.entry(model)
    if entry is None:
        raise InvariantBroken(f"model {model} would be unloaded")
    if seen.loaded and not set(seen.loaded) & set(entry.versions):
        raise InvariantBroken(f"model {model}: none of {entry.versions} is loaded; all that serves would be unloaded")
    for label, target in entry.labels.items():
        if not seen.available(target):
            raise InvariantBroken(f"model {model}: label {label} would point at {target}, which is not available")


def check_share(share: float, rollouts: Iterable[Rollout]) -> None:
    """Raise InvariantBroken when sending users to the canary's servers rests on no rollout that has gone that far."""
    if share == 0.0:
        return
    for rollout in rollouts:
        phase = rollout.held_from if rollout.phase is Phase.HELD else rollout.phase
        forward = phase in (Phase.RAMPING, Phase.PROMOTING) and rollout.verdict is not Verdict.FAIL
        if forward and rollout.mode is Mode.ENFORCE and share in rollout.plan.traffic_steps[: rollout.step]:
            return
    raise InvariantBroken(f"{share:.2%} of users' calls would go to the canary's servers, which no rollout has ordered")
