"""Checks of where requests and right answers come from, beyond what one key shows."""

import csv
import glob
from pathlib import Path

from haldane.config.models import ModelSection
from haldane.config.problems import Found, Loc
from haldane.config.sections import Config
from haldane.config.traffic import (
    FILE_SOURCES,
    SIGNED_SOURCES,
    SOURCES,
    BrokersSection,
    GoldenSection,
    TrafficSection,
    golden_files,
    golden_kind,
)
from haldane.files import TABLES, FileSet, kind_of
from haldane.judge.outputs import OutputKind

SAY_KIND = (
    "right answers are given, so say what the output is: models.{name}.outputs: {{kind: binary_probability}},"
    " or class_scores, or regression"
)


def of_traffic(config: Config, name: str, model: ModelSection, loc: Loc) -> Found:
    if (traffic := model.traffic) is None:
        return
    loc = (*loc, "traffic")
    if len(traffic.given) != 1:
        yield loc, f"give exactly one of {', '.join(SOURCES)}; given: {', '.join(traffic.given) or 'none'}"
        return
    if traffic.kind in FILE_SOURCES and not _there(traffic.files):
        yield (*loc, traffic.kind), f"no such file: {traffic.files}"
    if traffic.kafka is not None:
        yield from of_topic(traffic.kafka, (*loc, "kafka"))
    if traffic.kind in SIGNED_SOURCES and traffic.signature in traffic.exclude:
        yield (*loc, "exclude"), f"all requests of {traffic.kind} call {traffic.signature}; give another signature"
    if traffic.kind == "warmup" and not config.base_path(name):
        says = "the requests lie below the model's base_path; give model_config_file with this model in it"
        yield (*loc, "warmup"), says
    yield from _label(config, name, traffic, loc)


def of_topic(topic: BrokersSection, loc: Loc) -> Found:
    path = topic.settings_file
    if path is not None and not path.is_file():
        yield (*loc, "settings_file"), f"no such file: {path}"


def _there(files: Path | str) -> bool:
    """Whether there is such a file, or one that the glob matches; what a URL names is seen when it is opened."""
    if isinstance(files, str):
        return True
    return files.is_file() or (glob.has_magic(str(files)) and bool(FileSet(files).found()))


def _label(config: Config, name: str, traffic: TrafficSection, loc: Loc) -> Found:
    if traffic.kind == "labelled" and traffic.label is None:
        yield loc, "labelled rows need label: the column that holds the right answer"
    if traffic.label is not None and traffic.kind not in ("labelled", "examples"):
        yield (*loc, "label"), f"{traffic.kind} has no columns; a label belongs to labelled or examples"
    if traffic.kind == "labelled" and kind_of(Path(FileSet(traffic.files).name)) not in TABLES:
        yield (*loc, "labelled"), f"must be one of {', '.join(TABLES)}, got {FileSet(traffic.files).name}"
    if traffic.label is not None and config.outputs_of(name).kind is OutputKind.ANY:
        yield (*loc, "label"), SAY_KIND.format(name=name)


def of_golden(config: Config, name: str, model: ModelSection, golden: GoldenSection, loc: Loc) -> Found:
    if model.traffic is None:
        yield loc, f"is sent before traffic, and takes what it does not say from it; give models.{name}.traffic too"
        return
    if config.outputs_of(name).kind is OutputKind.ANY:
        yield loc, SAY_KIND.format(name=name)
    if not golden.path.exists():
        yield loc, f"no such file or folder: {golden.path}"
        return
    files = golden_files(golden.path)
    if not files:
        yield loc, f"no .csv, .parquet, .tfrecord or .jsonl file in {golden.path}"
    for file in files:
        yield from _golden_file(file, golden.source(file, model.traffic).label, loc)


def _golden_file(file: Path, label: str | None, loc: Loc) -> Found:
    """What can be told without a server: whether there is a right answer to read."""
    if golden_kind(file) is None:
        yield loc, f"must be a .csv, .parquet, .tfrecord or .jsonl file, or a folder of them; got {file.name}"
    elif golden_kind(file) != "rest_jsonl" and label is None:
        yield loc, f"{file.name} needs label: the column that holds the right answer"
    elif file.suffix.lower() == ".csv" and label is not None:
        try:
            with file.open(encoding="utf-8-sig", newline="") as text:
                columns = next(csv.reader(text), [])
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            yield loc, f"{file}, line 1: cannot be read: {error}"
            return
        if label not in columns:
            yield loc, f"{file}, line 1: no column {label!r}, which is the label; it has {', '.join(columns) or 'none'}"
