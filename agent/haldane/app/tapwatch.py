"""What the tap has counted, asked of it now and then, so that `haldane status` shows it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from haldane.ports import PortError
from haldane.serving.tapfeed import counts

_EVERY_SECONDS = 5.0


@dataclass
class TapWatch:
    """The newest counts; `away` says why the tap could not be asked, "" when it could."""

    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    away: str = ""

    async def run(self, socket: Path) -> None:
        """Never ends."""
        while True:
            try:
                self.counts, self.away = await counts(socket), ""
            except PortError as error:
                self.counts, self.away = {}, error.detail
            await asyncio.sleep(_EVERY_SECONDS)
