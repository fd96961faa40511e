"""What the tap has counted, asked of it now and then, so that `haldane status` shows it."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from haldane.domain.fleet import ModelName
from haldane.ports import PortError
from haldane.serving.tapfeed import counts
from haldane.telemetry import Telemetry

_EVERY_SECONDS = 5.0


@dataclass
class TapWatch:
    """The newest counts; `away` says why the tap could not be asked, "" when it could."""

    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    away: str = ""

    async def run(self, socket: Path, models: Collection[ModelName], telemetry: Telemetry) -> None:
        """Never ends. `models` are those whose requests come from there."""
        while True:
            try:
                self.counts, self.away = await counts(socket), ""
            except PortError as error:
                self.counts, self.away = {}, error.detail
            for model in models:
                telemetry.shadow.tap_up.labels(model).set(not self.away)
            await asyncio.sleep(_EVERY_SECONDS)
