"""Which version of each model is stable when an agent begins: the config's word, or that of the rollouts since."""

import math
import time
from collections.abc import Mapping

import structlog

from haldane.config import Config
from haldane.domain.fleet import ModelName
from haldane.engine.desk import Desk
from haldane.ports import Store
from haldane.rollout.wanted import at_rest

log = structlog.get_logger()

MOST_ROLLOUTS = 1000  # looked back on


def declared_at_of(config: Config) -> dict[ModelName, float]:
    """When it was written, at the latest, which version of each model is stable; seconds, wall clock."""
    now = time.time()
    try:
        written = min(now, config.model_config_file.stat().st_mtime) if config.model_config_file else now
    except OSError:
        written = now
    return {ModelName(name): written if one.stable is None else now for name, one in config.models.items()}


def moved(store: Store) -> dict[ModelName, float]:
    """When a rollout last changed each model's stable version; seconds, wall clock."""
    found: dict[ModelName, float] = {}
    for rollout in store.rollouts(MOST_ROLLOUTS):  # newest first
        if rollout.settles is not None:
            found.setdefault(rollout.model, rollout.phase_since)
    return found


def put_at_rest(
    config: Config,
    desk: Desk,
    settled: Mapping[ModelName, tuple[int, int]],
    moved_at: Mapping[ModelName, float],
    declared_at: Mapping[ModelName, float],
) -> None:
    """Tell the desk each model's stable version."""
    for name, section in config.models.items():
        model = ModelName(name)
        entry = desk.base.entry(model)
        declared = section.at_rest(entry)
        if declared is None and section.stable == "none" and model in settled:
            declared = settled[model][0]  # the first version has passed since
        if declared is None:
            continue
        before, was_declared = settled.get(model, (declared, declared))
        stable = at_rest(
            declared,
            settled.get(model),
            declared_at=declared_at.get(model, -math.inf),
            moved_at=moved_at.get(model, -math.inf),
        )
        if model not in desk.watched and declared not in (before, was_declared):
            says = "stable_taken_from_config" if stable == declared else "stable_kept_config_is_older"
            log.warning(says, model=name, config=declared, rollout=before)
        known = desk.watched.get(model)
        desk.put_stable(model, stable, declared, section.clients, provable=known is not None and known.provable)
