"""Reading the config file: text to settings, every mistake found in one go."""

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from haldane.config.base import Section
from haldane.config.checks import across
from haldane.config.fleetchecks import polled
from haldane.config.marks import Marked, read_yaml
from haldane.config.problems import ConfigError, Loc, Problem, dotted
from haldane.config.secrets import read_secrets
from haldane.config.sections import Config
from haldane.config.servers import ServerSection
from haldane.domain.fleet import ServerConfig
from haldane.domain.rollout import Mode

ParseModels = Callable[[str, str], ServerConfig]  # (text, file name) -> config; ValueError "file:line: what"


def load_config(path: Path | str, *, parse_models: ParseModels | None = None, mode: Mode | None = None) -> Config:
    """The settings of that file, checked as far as possible without a network.

    `parse_models` reads model_config_file (`serving.modelconfig.parse`); this
    room may not know it, and without it that file is not looked into. `mode`
    replaces the file's. Raises ConfigError with every mistake at once.
    """
    path = Path(path)
    marked = read_yaml(read_text(path), str(path))
    if marked.value is None and not marked.problems:
        marked.problems.append(Problem(str(path), 0, "", "the file is empty; give at least servers: [HOST:PORT]"))
    if isinstance(marked.value, dict) and mode is not None:
        marked.value["mode"] = mode.value
    if marked.value is None:
        raise ConfigError(marked.problems)
    return _checked(marked, path, parse_models)


def read_text(path: Path) -> str:
    """The text of a config file; ConfigError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError([Problem(str(path), 0, "", f"cannot read it: {reason}")]) from error


def _checked(marked: Marked, path: Path, parse_models: ParseModels | None) -> Config:
    problems = list(marked.problems)
    config = _validated(marked, str(path), problems)
    if config is not None:
        wrong = {problem.key for problem in problems}
        config = _absolute_paths(config, path.absolute().parent)
        more = [*_resolve(config, parse_models), *across(config)]
        more += polled(config, parse_models) if parse_models else []
        found = (Problem(str(path), marked.line(loc), dotted(loc), says) for loc, says in more)
        problems += [problem for problem in found if problem.key not in wrong and not _follows(problem, wrong)]
    if problems or config is None:
        raise ConfigError(problems)
    return config


def _follows(problem: Problem, wrong: set[str]) -> bool:
    """Whether it only tells that a key is missing which was left out because it was wrong."""
    return problem.key.startswith("servers[") and f"{problem.key}.metrics_url" in wrong


def _validated(marked: Marked, file: str, problems: list[Problem]) -> Config | None:
    """The settings; with mistakes, those that are left without the wrong ones, so that the rest can be checked too."""
    for attempt in range(5):  # a block that lost its wrong keys may lack one it needs, and goes as a whole then
        try:
            return Config.model_validate(marked.value)
        except ValidationError as error:
            cut = True
            for details in error.errors():
                loc = marked.known(details["loc"])
                problem = Problem(file, marked.line(loc), dotted(loc), in_our_words(details, loc))
                if attempt == 0 or not any(known.key.startswith(problem.key) for known in problems):
                    problems.append(problem)
                cut = _cut(marked.value, loc[:-1] if details["type"] == "missing" else loc) and cut
            if not cut:
                break
    return None


def _cut(value: Any, loc: Loc) -> bool:
    """Take that key out of the values; False when it cannot be done without moving others."""
    for part in loc[:-1]:
        if isinstance(value, dict) and part not in value:
            return True  # went with a block above it
        value = value[part]
    if isinstance(value, list) and loc[:1] == ("servers",) and isinstance(place := loc[-1], int):
        # The others of the list keep their places, so a stand-in takes this one's.
        kept = value[place] if isinstance(value[place], dict) else {}
        value[place] = {**kept, "address": f"mistaken-{place}.invalid:1"}
        return True
    if not loc or not isinstance(value, dict):
        return False
    value.pop(loc[-1], None)
    return True


def zero_config(address: str, metrics_url: str | None = None) -> Config:
    """Settings to watch one address without a file: observe mode, no models, state in the user's own directory.

    Which models a server has is only to be seen on its metrics page. Unless
    said otherwise that is looked for on the next port, by Serving's own custom
    (8500 and 8501).
    """
    try:
        host, port = ServerSection(address=address).address.rsplit(":", 1)
        page = metrics_url or f"http://{host}:{int(port) + 1}/monitoring/prometheus/metrics"
        server = ServerSection(address=address, metrics_url=page)
    except ValidationError as error:
        says = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError([Problem("--server", 0, "", says)]) from None
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    place = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in address)
    return Config(servers=(server,), state_dir=home / "haldane" / place)


# --- pydantic's words in ours ---------------------------------------------------------------------------------------


def in_our_words(details: ErrorDetails, loc: Loc) -> str:
    """One mistake that pydantic found at that path of the config, with what would be right."""
    section = _section(loc[:-1])
    match details["type"]:
        case "missing":
            return f"missing: {_first_sentence(section, str(loc[-1]))}" if section else "missing"
        case "extra_forbidden":
            return _unknown(str(loc[-1]), section)
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a block of `key: value` lines"
        case "tuple_type" | "list_type":
            return f"must be a list, [A, B] or lines that begin with `- `; got {details['input']!r:.80}"
        case "string_type" | "path_type":
            return f"must be text in quotes, a size with its unit; got {details['input']!r:.80}"
        case "literal_error":
            return f"must be {details['ctx']['expected']}, got {details['input']!r:.80}"
        case "enum":
            return f"must be one of {details['ctx']['expected']}, got {details['input']!r:.80}"
        case "value_error":
            return details["msg"].removeprefix("Value error, ")
    return f"{details['msg'][:1].lower()}{details['msg'][1:]}, got {details['input']!r:.80}"


def _unknown(key: str, section: type[Section] | None) -> str:
    known = list(section.model_fields) if section else []
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean `{close[0]}`? " if close else ""
    return f"unknown key; {hint}Known here: {', '.join(known)}" if known else "unknown key"


def _first_sentence(section: type[Section], key: str) -> str:
    field = section.model_fields.get(key)
    return " ".join((field.description if field and field.description else "").split())


def _section(loc: Loc) -> type[Section] | None:
    """The settings block that stands at that path."""
    found: type[Section] | None = Config
    for part in loc:
        if found is not None and isinstance(part, str) and part in found.model_fields:
            found = next(_sections(found.model_fields[part].annotation), None)
        # A number, or a free name such as a model's, stays in the block its list or mapping holds.
    return found


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)


# --- paths, the base config --------------------------------------------------------------------------------


def _absolute_paths(config: Config, folder: Path) -> Config:
    resolved: Config = _absolute(config, folder)
    return resolved


def _absolute(section: Any, folder: Path) -> Any:
    """The same settings with every relative path taken from the config file's folder."""
    if isinstance(section, Path):
        return folder / section.expanduser()
    if isinstance(section, tuple):
        return tuple(_absolute(item, folder) for item in section)
    if isinstance(section, Mapping):
        return {key: _absolute(item, folder) for key, item in section.items()}
    if isinstance(section, Section):
        given = {key: _absolute(getattr(section, key), folder) for key in type(section).model_fields}
        return type(section).model_construct(_fields_set=section.model_fields_set, **given)
    return section


def _resolve(config: Config, parse_models: ParseModels | None) -> Iterator[tuple[Loc, str]]:
    """Read what the settings refer to, secrets and the base config, and say what cannot be read."""
    yield from read_secrets(config)
    loc, path = ("model_config_file",), config.model_config_file
    if path is None:
        return
    try:
        text = path.read_text(encoding="utf-8")
        config._base = parse_models(text, str(path)) if parse_models else None
    except UnicodeDecodeError:
        yield loc, f"{path} is not UTF-8 text"
    except OSError as error:
        yield loc, f"cannot read {path}: {error.strerror}"
    except ValueError as error:
        for line in str(error).splitlines():
            yield loc, line
