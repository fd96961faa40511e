"""Writes docs/reference/{config,cli,api,metrics}.md from the code; `--check` only says what differs.

The manual stands where the default is: field docstrings of `haldane.config`,
help texts of `haldane.cli`, the route table of `haldane.web.api`, the help of
each series in `haldane.telemetry.series`.
"""

import math
import sys
import types
from collections.abc import Iterator, Sequence
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from haldane.cli import main
from haldane.config import Config
from haldane.config.base import Section
from haldane.config.quantities import Size
from haldane.domain.evidence import State, Verdict
from haldane.domain.people import Right
from haldane.domain.rollout import Phase
from haldane.domain.traffic import Status
from haldane.judge.conditions import Name as ConditionName
from haldane.serving.intake import Fate, Received, Use
from haldane.telemetry import TapTelemetry, Telemetry
from haldane.web import api

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
NOTE = "<!-- Made by tools/make_reference.py from the code; change it there. -->\n"


# --- config ------------------------------------------------------------------


def config_page() -> str:
    """Every key, block by block."""
    parts = [
        "# Config file\n",
        NOTE,
        "One YAML file. Unknown keys, and keys given twice, are mistakes; `haldane check config FILE` tells all of them"
        " at once, each with its line. Relative paths are taken from the file's folder. Durations are written `30s`,"
        " `5m`, `1h` or `PT5M`. Secrets are never in the file: give the `_file` or `_env` key.\n",
        "The smallest useful one:\n",
        f"```yaml\n{EXAMPLE}```\n",
    ]
    for path, section in _sections("", Config):
        parts += [f"## `{path}`\n" if path else "## Top level\n", *_section_lines(section)]
    return "\n".join(parts)


EXAMPLE = """\
mode: enforce            # default: observe, which touches nothing
servers:
  - {name: r0, address: 10.0.0.4:8500, metrics_url: http://10.0.0.4:8501/monitoring/prometheus/metrics}
  - {name: r1, address: 10.0.0.5:8500, metrics_url: http://10.0.0.5:8501/monitoring/prometheus/metrics}
model_config_file: models.config
models:
  credit_risk:
    clients: label
    traffic: {labelled: rows.parquet, label: bad}
    outputs: {kind: binary_probability}
"""


def _sections(path: str, section: type[Section]) -> Iterator[tuple[str, Any]]:
    """Each block once, at the highest place it can stand."""
    waiting, done = [(path, section)], {section}
    while waiting:
        path, section = waiting.pop(0)
        yield path, section
        for name, field in section.model_fields.items():
            inner = _inner(field.annotation)
            if inner is not None and inner not in done:
                done.add(inner)
                waiting.append((f"{path}.{name}".lstrip(".") + _many(field.annotation), inner))


def _inner(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _inner(part))), None)


def _many(annotation: Any) -> str:
    origins = {get_origin(part) for part in [annotation, *get_args(annotation)]}
    return "[]" if tuple in origins else ".NAME" if dict in origins else ""


def _section_lines(section: type[Section]) -> Iterator[str]:
    yield " ".join((section.__doc__ or "").split()) + "\n"
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    for name, field in section.model_fields.items():
        words = " ".join((field.description or "").split()).replace("|", "\\|")
        yield f"| `{name}` | {_kind(field)} | {_default(field)} | {words} |"
    yield ""


def _is_size(field: FieldInfo) -> bool:
    return any(item in field.metadata for item in get_args(Size)[1:])


def _kind(field: FieldInfo) -> str:
    if _is_size(field):
        return 'size, such as `"64MiB"`'
    words = _type_words(field.annotation)
    limits = [text for item in field.metadata for text in _limits(item)]
    return f"{words}, {', '.join(limits)}" if limits else words


def _limits(item: Any) -> Iterator[str]:
    for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"), ("min_length", "at least")):
        if (value := getattr(item, name, None)) is not None:
            value = f"{value.total_seconds():g} s" if isinstance(value, timedelta) else value
            yield f"{sign} {value}"


_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", timedelta: "duration"}


def _type_words(annotation: Any) -> str:
    origin, inner = get_origin(annotation), [part for part in get_args(annotation) if part is not type(None)]
    if origin is Annotated:
        return _type_words(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_type_words(part) for part in inner)
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in inner)
    if origin is tuple:
        return f"list of {_type_words(inner[0])}"
    if origin is dict:
        return f"mapping of name to {_type_words(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "block"
    return _NAMES.get(annotation, "text" if annotation is SecretStr else str(annotation))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if field.is_required() or value is PydanticUndefined:
        return "**required**"
    if value is None or value == "" or value in ((), {}):
        return "–"
    if isinstance(value, Section):
        return "see below"
    if isinstance(value, timedelta):
        return f"`{_span(value)}`"
    if _is_size(field):
        return next(f"`{value >> shift}{unit}`" for shift, unit in ((30, "GiB"), (20, "MiB")) if value >= 1 << shift)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _span(value: timedelta) -> str:
    seconds = value.total_seconds()
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


# --- commands ----------------------------------------------------------------


HELP = main.context_settings["help_option_names"]


def cli_page() -> str:
    """The help of every command."""
    with click.Context(main, info_name="haldane", terminal_width=90, help_option_names=HELP) as top:
        parts = ["# Commands\n", NOTE, f"```text\n{main.get_help(top).rstrip()}\n```\n"]
        for command, context in _commands(main, top):
            parts.append(f"## {context.command_path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


def _commands(group: click.Group, parent: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    for name in sorted(group.commands):
        command = group.commands[name]
        with click.Context(command, info_name=name, parent=parent, terminal_width=90) as context:
            yield command, context
            if isinstance(command, click.Group):
                yield from _commands(command, context)


# --- API ---------------------------------------------------------------------


def api_page() -> str:
    """The route table of the API's own docstring, and what refusals mean."""
    table = [line for line in (api.__doc__ or "").splitlines() if line.startswith("|")]
    return "\n".join([
        "# HTTP API\n", NOTE,
        "On `listen` of the [config](config.md), loopback unless told otherwise. Reading is open; the two POSTs need"
        " `Authorization: Bearer TOKEN` with the token of `token_file`, `token_env`, or `state_dir/token`.\n",
        *table, "",
        'A refusal is `{"error": "sentence"}`:\n',
        "| status | meaning |\n|---|---|",
        "| 401, 403 | no token, or not this agent's |",
        "| 404 | no such rollout or model |",
        "| 409 | refused: the sentence says why, and asking again is idle |",
        "| 400, 413, 422 | the body or a query value cannot be used; all mistakes are told at once |",
        "| 503 | the store or a server did not answer; try again |",
        "",
    ])  # fmt: skip


# --- metrics -----------------------------------------------------------------


# How many values each label takes, at most; letters are explained on the page.
VALUES = {
    "condition": len(ConditionName),
    "gateway": "G",
    "kind": 2,
    "label": "L",
    "list": "D",
    "metric": "C",
    "mode": 1,
    "model": "M",
    "notifier": 2,
    "phase": len(Phase),
    "reason": 8,
    "right": len(Right),
    "result": 9,
    "role": 1,
    "server": "S",
    "side": 2,
    "sink": "B",
    "state": len(State),
    "status": len(Status),
    "unit": 1,
    "verdict": len(Verdict),
    "version": "V",
}


def _how_many(name: str, labels: Sequence[str]) -> str:
    """The most series of this name, such as "10 M" for ten per model."""
    if name == "haldane_tap_received_total":  # only what is ok has a model
        return f"M + {len(Received) - 1}"
    if name == "haldane_tap_copies_total":
        return f"{len(Use) * len(Fate)} M"
    values = [1 if name.endswith("build_info") else VALUES[label] for label in labels]
    letters = " ".join(value for value in values if isinstance(value, str))
    figure = math.prod(value for value in values if isinstance(value, int))
    return f"{figure} {letters}" if letters and figure > 1 else letters or str(figure)


def _families(shown: object) -> Iterator[Counter | Gauge]:
    """Every series of an exporter, those of its parts included."""
    for one in vars(shown).values():
        if isinstance(one, Counter | Gauge):
            yield one
        elif not isinstance(one, CollectorRegistry):
            yield from _families(one)


def _series(shown: Telemetry | TapTelemetry) -> list[str]:
    """The rows of a table, one for each series."""
    rows = []
    for counted in _families(shown):
        (family,) = counted.describe()
        name = family.name + ("_total" if family.type == "counter" else "")
        given = counted._labelnames
        labels = ", ".join(f"`{label}`" for label in given) or "none"
        rows.append(f"| `{name}` | {family.type} | {labels} | {_how_many(name, given)} | {family.documentation} |")
    return sorted(rows)


SERIES_TABLE = "| series | type | labels | how many | meaning |\n|---|---|---|---|---|"


def metrics_page() -> str:
    """Every series the agent and the tap export."""
    return "\n".join([
        "# Metrics\n", NOTE,
        "On `/metrics` of the agent's `listen` address, in Prometheus' text format; `/-/healthy` and `/-/ready` beside"
        " it. Times are Unix seconds. Beside these stand the usual `process_cpu_seconds_total`,"
        " `process_resident_memory_bytes`, `process_start_time_seconds`, `process_virtual_memory_bytes`,"
        " `process_open_fds` and `process_max_fds` of the agent.\n",
        "Labels come from closed sets: no series carries a rollout's id, or anything out of a request. *How many*"
        " is the most series there can be: M models in the config, S servers, D lists of `discover`, B texts of"
        " `boot_configs`, G gateways, L"
        " labels looked for (`stable` and `canary`), C checks of a model's rules with their slices, V versions of a"
        " model: those loading, loaded or failed now, or with something wrong, and of the two counters of loads all"
        " that were loaded since the agent started. A series is there once it has something to say, and a check's"
        " last ruling stays until the model's next rollout. With one model, two servers and two checks 90 of them"
        " were counted after a promotion, those of the process included.\n",
        SERIES_TABLE, *_series(Telemetry.on(CollectorRegistry())), "",
        "Alerts on them: [rules/haldane.yml](../../rules/haldane.yml), each with a [runbook](../runbooks/README.md);"
        " [boards](../howto/dashboards.md) that show them.\n",
        "## The tap\n",
        "`haldane tap` has a page of its own, `/metrics` on `tap.rest`. The empty model stands for calls of none of"
        " ours.\n",
        SERIES_TABLE, *_series(TapTelemetry.on(CollectorRegistry())), "",
    ])  # fmt: skip


PAGES = {"metrics.md": metrics_page, "config.md": config_page, "cli.md": cli_page, "api.md": api_page}


def run(arguments: list[str]) -> int:
    """Write the pages, or with --check name those that differ."""
    stale = [name for name, page in PAGES.items() if not _same(FOLDER / name, page())]
    if "--check" in arguments:
        print("\n".join(f"docs/reference/{name} is stale: run tools/make_reference.py" for name in stale))
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
    return 0


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
