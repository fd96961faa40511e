"""The configs that servers boot with: their tasks, put together from the config."""

from collections.abc import Iterator
from functools import partial

from haldane.adapters.textfile import TextFile
from haldane.app.parts import Parts
from haldane.config.boot import BootSection
from haldane.engine.bootconfig import WRITTEN, BootConfig
from haldane.engine.supervisor import Supervisor
from haldane.ports import ConfigSink
from haldane.serving.configedit import edited
from haldane.serving.modelconfig import parse_leniently


def open_sink(section: BootSection) -> ConfigSink:
    """Where that text is. Refused where there is no cluster to ask."""
    if section.config_map is None:
        assert section.file is not None
        return TextFile(section.title, section.file)
    from haldane.adapters.kubernetes import ConfigMapText

    namespace, _, name = section.config_map.partition("/")
    return ConfigMapText(section.title, namespace, name, section.key)


def boot_configs(parts: Parts, supervisor: Supervisor) -> Iterator[BootConfig]:
    """A task for each of the config."""
    for section in parts.config.boot_configs:
        yield BootConfig(
            name=section.title,
            sink=open_sink(section),
            desk=parts.desk,
            telemetry=parts.telemetry,
            may_act=lambda: parts.lease.held() and supervisor.taken_up,
            note=parts.note,
            records=lambda after: parts.store.records(kinds=(WRITTEN,), after=after),
            parse=partial(parse_leniently, source=section.title),
            edit=partial(edited, source=section.title),
        )
