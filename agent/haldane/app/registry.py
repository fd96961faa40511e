"""Aliases in MLflow's registry: which models have them, and which run a version came out of."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from haldane.adapters.registry import open_registry
from haldane.app.parts import Parts
from haldane.config import Config
from haldane.domain.fleet import ModelName
from haldane.domain.rollout import Mode
from haldane.engine.aliases import Aliases
from haldane.ports import Refused
from haldane.release.vouch import release_of


async def open_aliases(config: Config, stack: AsyncExitStack, parts: Parts) -> Aliases | None:
    """None when no model is registered, or nothing is to be changed."""
    names = {ModelName(name): one.registered for name, one in config.models.items() if one.registered}
    if config.mode is Mode.OBSERVE or config.mlflow is None or not names:
        return None
    token = config.mlflow_token.get_secret_value() if config.mlflow_token else None
    seconds = config.mlflow.timeout.total_seconds()
    registry = await stack.enter_async_context(open_registry(config.mlflow.url, token=token, timeout_seconds=seconds))

    def run_of(model: ModelName, version: int) -> str:
        published = config.models[model].published or ""
        try:
            said = release_of(
                config.base_path(model), version, published=published, model=config.full_name(model)
            ).metadata
        except Refused:  # nobody published it
            return ""
        kept = said.get("mlflow")
        return str(kept.get("run", "")) if isinstance(kept, dict) else ""

    async def note(kind: str, data: dict[str, Any], model: ModelName) -> None:
        await asyncio.to_thread(lambda: parts.store.record(kind, data, model=model))

    return Aliases(parts.desk, registry, names, run_of, note, parts.telemetry)
