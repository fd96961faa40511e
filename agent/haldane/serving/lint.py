"""What is wrong with a model config file, or will surprise: each finding with its line and what would be right.

Looks at the text alone. Leaves to `modelconfig` what must not be sent at all, and to the caller whatever lies on a
disk. The numbers of traps are those of docs/design/serving-traps.md.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from haldane.domain.fleet import ModelEntry, ModelName, Policy
from haldane.rollout.wanted import CANARY, STABLE, second_name, stable_of
from haldane.serving import configtext, modelconfig
from haldane.serving.configtext import Field
from haldane.serving.refusedtext import refused

# What REST can address; gRPC takes any text. Source: http_rest_api_handler.cc, kPredictionApiRegex.
_LABEL = re.compile(r"[A-Za-z0-9_]+")
_NO_STORE = ("s3", "s3a", "az", "abfs", "abfss", "http", "https", "hdfs", "viewfs", "dbfs", "oss")


class Level(StrEnum):
    ERROR = "error"  # the server does not start, refuses it, or somebody's model goes
    WARNING = "warning"  # it works, and does not do what its writer may think


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake or surprise. `trap` is 0 where no trap of the page is behind it."""

    file: str
    line: int
    level: Level
    says: str
    trap: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.level}: {self.says}{f' [trap {self.trap}]' if self.trap else ''}"


Told = Iterator[tuple[int, Level, str, int]]  # line, level, words, trap


def lint(files: Mapping[str, str], *, enforce: bool = False) -> list[Finding]:
    """Everything to be said of these files (name -> text), which together are the models of one server.

    `enforce`: the file is to be the base config of an agent that changes servers, which asks for more.
    """
    found: list[Finding] = []
    whole: dict[str, list[tuple[Field, ModelEntry]]] = {}
    for file, text in files.items():
        try:
            config = modelconfig.parse_leniently(text, source=file)
            whole[file] = list(zip(configtext.entries(text), config.models, strict=True))
        except ValueError as error:
            line, says = refused(file, text, str(error))
            found.append(Finding(file, line, Level.ERROR, says))
            continue
        if not config.models:
            says = "the model list is empty: a server that is sent it unloads every model"
            found.append(Finding(file, 1, Level.ERROR, says, 8))
        told = [one for field, entry in whole[file] for one in _entry(field, entry, enforce=enforce)]
        found += [Finding(file, *one) for one in told]
    found += _together(whole, enforce=enforce)
    return sorted(found, key=lambda one: (list(files).index(one.file), one.line, one.says))


# --- one model ----------------------------------------------------------------------------------------------------


def _entry(field: Field, entry: ModelEntry, *, enforce: bool) -> Told:
    for says in modelconfig.entry_problems(entry):
        yield _line(field, says), Level.ERROR, says, _trap(says)
    yield from _name(field, entry)
    yield from _path(field, entry)
    yield from _platform(field, entry)
    yield from _policy(field, entry, enforce=enforce)
    yield from _labels(field, entry, enforce=enforce)


def _line(field: Field, says: str) -> int:
    """Where in the block the thing stands that is spoken of."""
    if label := re.search(r"label (\S+) names", says):
        return next((one.line for one in field.all("version_labels") if _key(one) == label[1]), field.line)
    for word, path in (("base_path", ("base_path",)), ("specific policy", ("model_version_policy", "specific"))):
        if word in says:
            return field.line_of(*path)
    return field.line


def _trap(says: str) -> int:
    traps = {"has no platform": 7, "lists no version": 5, "names version": 13}
    return next((trap for words, trap in traps.items() if words in says), 0)


def _key(label: Field) -> str:
    key = label.first("key")
    return key.value if key else ""


def _name(field: Field, entry: ModelEntry) -> Told:
    line = field.line_of("name")
    if re.search(r"[\n\r]", entry.name):
        says = f"the name {entry.name!r} has a line break, which breaks every line of the metrics page it stands in"
        yield line, Level.ERROR, says, 20
    elif re.search(r"[/:\s]", entry.name):
        yield line, Level.WARNING, f"model {entry.name}: REST cannot address a name with / or : or a blank in it", 0


def _path(field: Field, entry: ModelEntry) -> Told:
    who, path, line = f"model {entry.name}", entry.base_path, field.line_of("base_path")
    scheme = path.partition("://")[0].lower() if "://" in path else ""
    if scheme in _NO_STORE:
        says = (
            f"{who}: Serving reads disks and gs://; {scheme}:// is not built in (s3:// went with 2.7), so it finds no"
            " version there and waits. Copy versions to a disk (haldane release sync), or mount the bucket"
        )
        yield line, Level.ERROR, says, 6
    if re.search(r"/(versions|labels)(/|$)", path):
        says = (
            f"{who}: {path} is a directory's name and no address: Serving serves the numbers in it. Which version"
            " answers is said by a request, or by a label"
        )
        yield line, Level.WARNING, says, 0
    elif re.fullmatch(r"\d+", path.rstrip("/").rpartition("/")[2]):
        says = f"{who}: {path} looks like a version's directory; base_path is the one above it"
        yield line, Level.WARNING, says, 0


def _platform(field: Field, entry: ModelEntry) -> Told:
    who, kind = f"model {entry.name}", field.first("model_type")
    if kind is not None and field.first("model_platform") is not None:
        says = f"{who}: model_type and model_platform at once are refused; keep model_platform"
        yield kind.line, Level.ERROR, says, 7
    elif kind is not None:
        says = f'{who}: model_type is the older spelling; write model_platform: "tensorflow"'
        yield kind.line, Level.WARNING, says, 0
    if entry.platform not in ("", "tensorflow"):
        says = f'{who}: the stock server knows the platform "tensorflow" alone, and refuses {entry.platform!r}'
        yield field.line_of("model_platform"), Level.ERROR, says, 0
    if (logging := field.first("logging_config")) is not None:
        says = (
            f"{who}: the stock server has nothing to log requests with, and refuses a reload that has logging_config"
            " after it has acted on it. Haldane leaves it out of what it sends"
        )
        yield logging.line, Level.WARNING, says, 0


def _policy(field: Field, entry: ModelEntry, *, enforce: bool) -> Told:
    who, line = f"model {entry.name}", field.line_of("model_version_policy")
    if entry.policy is not Policy.SPECIFIC:
        policy = entry.policy if field.first("model_version_policy") else "latest, which holds where none is given,"
        says = (
            f"{who}: by the policy {policy} a new directory is loaded on its own, and requests that name no version get"
            " it at once"
        )
        stable = stable_of(entry)
        write = f"model_version_policy {{ specific {{ versions: {'N' if stable is None else stable} }} }}"
        yield line, Level.ERROR if enforce else Level.WARNING, f"{says}. To decide it yourself: {write}", 1
        return
    given = [one.value for block in field.all("model_version_policy") for one in _versions(block)]
    for version, count in sorted(Counter(given).items()):
        if count > 1:
            yield line, Level.WARNING, f"{who}: version {version} is listed {count} times", 0
    if any(version < 0 for version in entry.versions):
        yield line, Level.WARNING, f"{who}: REST cannot address a version below 0", 0
    stable, highest = entry.labels.get(STABLE), max(entry.versions, default=None)
    if stable is not None and highest is not None and highest > stable:
        says = f"requests that name no version get {highest}, the highest, though stable is {stable}"
        yield line, Level.WARNING, f"{who}: {says}", 1


def _versions(policy: Field) -> Iterator[Field]:
    for specific in policy.all("specific"):
        yield from specific.all("versions")


def _labels(field: Field, entry: ModelEntry, *, enforce: bool) -> Told:
    who, seen = f"model {entry.name}", dict[str, int]()
    for label in field.all("version_labels"):
        key = _key(label)
        if key in seen:
            says = f"{who}: label {key} is given on line {seen[key]} too, and the last one counts; keep one"
            yield label.line, Level.ERROR, says, 0
        seen.setdefault(key, label.line)
        if key and not _LABEL.fullmatch(key):
            says = f"{who}: REST cannot address the label {key!r}; use letters, digits and _"
            yield label.line, Level.WARNING, says, 0
        if key == CANARY:
            says = (
                f"{who}: a server that restarts on this file serves the canary before anybody has judged it; leave the"
                " label, and its version, to the rollout"
            )
            yield label.line, Level.ERROR if enforce else Level.WARNING, says, 11
    if not seen:
        return
    line = min(seen.values())
    if entry.policy is not Policy.SPECIFIC:
        says = (
            f"{who}: labels under the policy {entry.policy}: a newer directory unloads the version that a label names,"
            " which then answers NOT_FOUND and blocks every reload. List the versions with specific"
        )
        yield line, Level.ERROR if enforce else Level.WARNING, says, 13
    says = (
        f"{who}: a server does not start on a file with labels, unless it is given"
        " --allow_version_labels_for_unavailable_models: labels are checked before anything is loaded"
    )
    yield line, Level.WARNING, says, 2


# --- all models together ------------------------------------------------------------------------------------------


def _together(whole: Mapping[str, list[tuple[Field, ModelEntry]]], *, enforce: bool) -> Iterator[Finding]:
    names: dict[str, tuple[str, int, ModelEntry]] = {}
    paths: dict[str, tuple[str, str]] = {}
    for file, listed in whole.items():
        for field, entry in listed:
            if entry.name in names:
                yield Finding(file, field.line_of("name"), Level.ERROR, _twice(entry, *names[entry.name]), 8)
                continue
            names[entry.name] = file, field.line_of("name"), entry
            path = entry.base_path.rstrip("/")
            line = field.line_of("base_path")
            if path and path in paths:
                other, where = paths[path]
                if entry.name == second_name(ModelName(other)):
                    level, says = Level.ERROR if enforce else Level.WARNING, _LEFT_TO_ROLLOUT.format(entry.name, other)
                    yield Finding(file, field.line_of("name"), level, says, 11)
                    continue
                says = (
                    f"model {entry.name}: has the base path of {other} ({where}): its versions are in memory twice, and"
                    " counters of loads cannot tell the two apart"
                )
                yield Finding(file, line, Level.WARNING, says, 22)
            paths.setdefault(path, (entry.name, f"{file}:{line}"))


# A canary's own name, written down at rest.
_LEFT_TO_ROLLOUT = (
    "model {0}: is what the canary of {1} is called with placement: second_name; a server that restarts on this file"
    " has it with no rollout, and no rollout of {1} can begin there. Leave it to the rollout, or rename it"
)


def _twice(entry: ModelEntry, file: str, line: int, first: ModelEntry) -> str:
    says = f"model {entry.name}: listed on {file}:{line} too; Serving refuses the whole list"
    claimed = [
        f"label {label} is {first.labels[label]} there and {version} here"
        for label, version in sorted(entry.labels.items())
        if first.labels.get(label, version) != version
    ]
    return "; ".join((says, *claimed))
