"""Settings: one YAML file, strict, every mistake reported at once with its line.

Belongs here: the settings and their defaults (the whole file in `sections`), how a person writes
quantities (`quantities`), reading the file (`load`) and the checks that need
more than one key (`checks`). This is the only room that reads the environment.
Does not belong here: opening anything that a setting points to, beyond the
model config file.
"""

from haldane.config.checks import notes
from haldane.config.discover import DiscoverSection
from haldane.config.load import load_config, zero_config
from haldane.config.models import ModelSection
from haldane.config.policy import load_analysis
from haldane.config.problems import ConfigError, Problem
from haldane.config.secrets import record_keys
from haldane.config.sections import Config
from haldane.config.servers import ServerSection, TlsSection
from haldane.config.tap import RecordSection, TapSection
from haldane.config.traffic import GoldenSection, TopicSection, TrafficSection, golden_files, golden_kind

__all__ = [
    "Config",
    "ConfigError",
    "DiscoverSection",
    "GoldenSection",
    "ModelSection",
    "Problem",
    "RecordSection",
    "ServerSection",
    "TapSection",
    "TlsSection",
    "TopicSection",
    "TrafficSection",
    "golden_files",
    "golden_kind",
    "load_analysis",
    "load_config",
    "notes",
    "record_keys",
    "zero_config",
]
