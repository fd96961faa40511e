"""Settings of the configs that servers boot with."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from haldane.config.base import Section
from haldane.config.discover import NAMESPACED


class BootSection(Section):
    """A text that servers start with: `file` or `config_map`. Only versions of models that are looked after change."""

    file: Path | None = None
    """A file, writable from here; replaced by rename. May be model_config_file itself."""

    config_map: Annotated[str, Field(pattern=NAMESPACED)] | None = None
    """NAMESPACE/NAME of a Kubernetes ConfigMap. Needs the extra `kubernetes` and the right to get and patch it."""

    key: str = "models.config"
    """Key of the ConfigMap whose text it is; it must be there."""

    @property
    def title(self) -> str:
        """How it is called in status, metrics and records."""
        return f"file {self.file}" if self.file is not None else f"ConfigMap {self.config_map} {self.key}"
