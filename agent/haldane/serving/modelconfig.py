"""Serving's model config file and our ServerConfig: read, check, write, merge.

Owns: the text and protobuf forms of a model list, and what makes one safe to
send. Leaves to `rollout.wanted` which versions and labels should be in it.

Source: tensorflow_serving/config/model_server_config.proto;
model_servers/server_core.cc (ValidateModelConfigList, UpdateModelVersionLabelMap).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format

from haldane import wire
from haldane.domain.fleet import ModelEntry, ModelName, Policy, ServerConfig
from haldane.serving import configtext

# Serving takes "an absolute path or URI"; a relative base_path refuses the whole list.
_ABSOLUTE = re.compile(r"/|[a-zA-Z][a-zA-Z0-9+.-]*://.")
_OURS = ("name", "base_path", "model_platform", "model_version_policy", "version_labels")
_WHERE = re.compile(r"^(\d+):(\d+) : (.*)$", re.DOTALL)


class ConfigTextError(ValueError):
    """A model config file that Serving or we could not use; str() is "file:line: what, and what would be right"."""


def problems(config: ServerConfig) -> list[str]:
    """Why this list must not be sent, one sentence each; empty when it is safe.

    Serving stores a refused list as its current one in some cases (a new model
    without platform makes it refuse everything until a restart) and takes an
    empty one as "unload everything", so these are caught here.
    """
    if not config.models:
        return ["the model list is empty, which would unload every model"]
    found = [problem for entry in config.models for problem in entry_problems(entry)]
    names = [entry.name for entry in config.models]
    return found + [
        f"model {name}: listed {names.count(name)} times" for name in sorted(set(names)) if names.count(name) > 1
    ]


def entry_problems(entry: ModelEntry) -> Iterable[str]:
    """Why one model of a list must not be sent, one sentence each."""
    who = f"model {entry.name}" if entry.name else f"the model at {entry.base_path or 'no path'}"
    if not entry.name:
        yield f"{who}: has no name"
    if not _ABSOLUTE.match(entry.base_path):
        yield f"{who}: base_path {entry.base_path!r} must be absolute, like /models/{entry.name or 'm'} or gs://bucket/path"
    if not entry.platform:
        yield f'{who}: has no platform; write model_platform: "tensorflow"'
    if entry.policy is Policy.SPECIFIC:
        yield from _specific_problems(entry, who)
    if "" in entry.labels:
        yield f"{who}: a label has no name"


def _specific_problems(entry: ModelEntry, who: str) -> Iterable[str]:
    if not entry.versions:
        yield f"{who}: the specific policy lists no version, which would unload the model"
        return
    for label, version in sorted(entry.labels.items()):
        if version not in entry.versions:
            yield f"{who}: label {label} names version {version}, which the list {list(entry.versions)} would unload"


# --- protobuf -------------------------------------------------------------------------------------------------------


def to_proto(config: ServerConfig) -> Any:
    """The wire.ModelServerConfig to send; `logging_config` is left out, since stock Serving refuses it after acting."""
    proto = wire.ModelServerConfig()
    proto.model_config_list.SetInParent()
    for entry in config.models:
        proto.model_config_list.config.append(_entry_to_proto(entry))
    return proto


def _entry_to_proto(entry: ModelEntry) -> Any:
    proto = wire.ModelConfig.FromString(entry.other)
    proto.ClearField("logging_config")
    proto.name, proto.base_path, proto.model_platform = entry.name, entry.base_path, entry.platform
    policy = proto.model_version_policy
    if entry.policy is Policy.SPECIFIC:
        policy.specific.versions.extend(entry.versions)
    elif entry.policy is Policy.ALL:
        policy.all.SetInParent()
    else:
        policy.latest.num_versions = entry.num_versions
    for label, version in sorted(entry.labels.items()):
        proto.version_labels[label] = version
    return proto


def from_proto(proto: Any) -> ServerConfig:
    """The list as our values. What we do not name is kept in `ModelEntry.other`; ValueError for a custom config."""
    if proto.WhichOneof("config") == "custom_model_config":
        raise ValueError("custom_model_config cannot be reloaded by RPC; write a model_config_list")
    return ServerConfig(tuple(_entry_from_proto(entry) for entry in proto.model_config_list.config))


def _entry_from_proto(proto: Any) -> ModelEntry:
    rest = wire.ModelConfig()
    rest.CopyFrom(proto)
    for name in _OURS:
        rest.ClearField(name)
    # model_type is the older spelling of the platform; setting both is refused, so only one goes on.
    platform = proto.model_platform or ("tensorflow" if proto.model_type == 1 else "")
    rest.ClearField("model_type")
    policy = Policy(proto.model_version_policy.WhichOneof("policy_choice") or "latest")
    return ModelEntry(
        name=ModelName(proto.name),
        base_path=proto.base_path,
        platform=platform,
        policy=policy,
        num_versions=max(1, proto.model_version_policy.latest.num_versions),  # 0 means 1
        versions=tuple(sorted(set(proto.model_version_policy.specific.versions))),
        labels=dict(sorted(proto.version_labels.items())),
        other=rest.SerializeToString(),
    )


# --- text -----------------------------------------------------------------------------------------------------------


def parse(text: str, *, source: str = "model config") -> ServerConfig:
    """The config a `--model_config_file` holds; ConfigTextError with file, line and what would be right."""
    config = parse_leniently(text, source=source)
    if found := problems(config):
        lines = [block.line for block in configtext.entries(text)]
        raise ConfigTextError("\n".join(f"{source}:{_line_of(p, config, lines)}: {p}" for p in found))
    return config


def parse_leniently(text: str, *, source: str = "model config") -> ServerConfig:
    """As `parse`, but a list that must not be sent is returned too; only unreadable text raises ConfigTextError."""
    proto = wire.ModelServerConfig()
    try:
        text_format.Parse(text, proto, descriptor_pool=wire.POOL)
        return from_proto(proto)
    except text_format.ParseError as error:
        raise ConfigTextError(_located(str(error), source)) from error
    except ValueError as error:
        line = text[: max(0, text.find("custom_model_config"))].count("\n") + 1
        raise ConfigTextError(f"{source}:{line}: {error}") from error


def _located(words: str, source: str) -> str:
    """text_format's "4:7 : Message type ... has no field named ..." as "file:4: ..."."""
    if not (match := _WHERE.match(words)):
        return f"{source}:1: {words}"
    line, column, what = match.groups()
    return f"{source}:{line}: column {column}: {what.strip()}"


def _line_of(problem: str, config: ServerConfig, lines: Sequence[int]) -> int:
    named = [i for i, entry in enumerate(config.models) if any(problem == p for p in entry_problems(entry))]
    if not named:  # a duplicate: point at its last listing
        named = [i for i, entry in enumerate(config.models) if problem.startswith(f"model {entry.name}: listed")][-1:]
    return lines[named[0]] if named else 1


def render(config: ServerConfig) -> str:
    """The text of a `--model_config_file` that `parse` reads back to the same config."""
    return str(text_format.MessageToString(to_proto(config), descriptor_pool=wire.POOL))


# --- merging, for `haldane adopt` -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """A model config drafted from several files: its text, and what a person should look at."""

    config: ServerConfig
    text: str
    notes: tuple[str, ...]


def merge(files: Mapping[str, str]) -> Draft:
    """One draft from several config files (name -> text), the first listing of a model winning.

    Nothing is dropped in silence: each conflict, each stripped or risky
    setting is a note. ConfigTextError when a file cannot be read at all.
    """
    chosen: dict[ModelName, tuple[str, ModelEntry]] = {}
    written: dict[ModelName, str] = {}
    notes: list[str] = []
    listed = 0
    for source, text in files.items():
        models = parse_leniently(text, source=source).models
        listed += len(models)
        for entry, block in zip(models, configtext.entries(text), strict=True):
            first, kept = chosen.setdefault(entry.name, (source, entry))
            written.setdefault(entry.name, _as_written(text, block))
            if kept != entry:
                notes.append(f"{source}: model {entry.name} differs from its listing in {first}; kept that of {first}")
            else:
                notes.extend(f"{source}: {note}" for note in _adoption_notes(entry) if first == source)
    config = ServerConfig(tuple(entry for _, entry in sorted(chosen.values(), key=lambda pair: pair[1].name)))
    blocks = "\n".join(written[entry.name] for entry in config.models)
    whole = f"model_config_list {{\n{blocks}\n}}\n"
    if len(files) == 1 and listed == len(config.models):  # one file, no model twice: it stays as it is
        whole = _without_logging(next(iter(files.values())))
    return Draft(config, whole, (*notes, *(f"not safe to send: {p}" for p in problems(config))))


def _without_logging(text: str) -> str:
    """A whole file as it is, but for what cannot be sent."""
    return _cut(text, [field for block in configtext.entries(text) for field in block.all("logging_config")])


def _cut(text: str, fields: Sequence[configtext.Field]) -> str:
    for field in sorted(fields, key=lambda one: -one.start):
        text = text[: field.start].rstrip(" ") + text[field.end :]
    return text


def _as_written(text: str, block: configtext.Field) -> str:
    """One model as its owners wrote it, with the comments right above it; without what cannot be sent."""
    inside = _cut(text[: block.end], [*block.all("logging_config")])[block.start :]
    above: list[str] = []
    for line in reversed(text[: block.start].splitlines()[: text.count("\n", 0, block.start)]):
        if not line.strip().startswith("#"):
            break
        above.insert(0, f"  {line.strip()}\n")
    return f"{''.join(above)}  {inside if inside.startswith('config') else f'config {inside}'}"


def _adoption_notes(entry: ModelEntry) -> Iterable[str]:
    if wire.ModelConfig.FromString(entry.other).HasField("logging_config"):
        yield f"model {entry.name}: logging_config is left out; stock Serving refuses a reload that has it"
    if entry.labels and entry.policy is not Policy.SPECIFIC:
        yield (
            f"model {entry.name}: has labels under the {entry.policy} policy; a newer directory unloads the labelled"
            " version and the label then answers NOT_FOUND: list the versions with specific"
        )
