"""What one sees without a config: models found on the servers' own metrics pages.

For observe mode only. The list found here is never sent to a server.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import structlog

from haldane.domain.fleet import ModelEntry, ModelName, ServerName
from haldane.engine.desk import Desk
from haldane.ports import PortError
from haldane.serving.client import ServingClient
from haldane.serving.exposition import base_paths_seen, models_seen, parse

log = structlog.get_logger()

EVERY_SECONDS = 5.0
_FIX = (
    "only its metrics page tells which models a server has: start it with --rest_api_port and --monitoring_config_file"
)


async def keep_discovering(desk: Desk, clients: Mapping[ServerName, ServingClient]) -> None:
    """Add every model that a server is seen to have to the models looked at."""
    told: set[ServerName] = set()
    while True:
        for server, client in tuple(clients.items()):
            try:
                page = await client.scrape()
            except PortError:
                page = None  # the observer says why
            if page is not None:
                _add(desk, server, parse_names(page))
            elif server not in told and server in desk.servers:
                told.add(server)
                log.warning("models_unknown", server=server, url=desk.servers[server].metrics_url, fix=_FIX)
        await asyncio.sleep(EVERY_SECONDS)


def parse_names(page: str) -> dict[str, str]:
    """Model name -> base path ("" when not known); by custom a model is called like its directory."""
    seen = parse(page)
    return {**dict.fromkeys(models_seen(seen), ""), **{path.rpartition("/")[2]: path for path in base_paths_seen(seen)}}


def _add(desk: Desk, server: ServerName, found: Mapping[str, str]) -> None:
    known = {entry.name for entry in desk.base.models}
    fresh = [ModelEntry(name=ModelName(name), base_path=path) for name, path in found.items() if name not in known]
    if fresh:
        log.info("models_discovered", server=server, models=[entry.name for entry in fresh])
        desk.base = replace(desk.base, models=(*desk.base.models, *fresh))
        desk.changed()
