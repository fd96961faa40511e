"""What the agent itself notes on its disk from one life to the next, where losing it costs little."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger()


class JsonFile:
    """One JSON object in one file, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[str, Any]:
        """What was saved; empty when there is nothing, or nothing that can be read."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("journal_unreadable", file=self._path.name, detail=str(error), then="begun anew")
            return {}
        return found if isinstance(found, dict) else {}

    def save(self, values: Mapping[str, Any]) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(values), encoding="utf-8")
        fresh.replace(self._path)
