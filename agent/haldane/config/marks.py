"""YAML with the line of every key, so that a mistake can be pointed at."""

from dataclasses import dataclass, field
from typing import Any

import yaml

from haldane.config.problems import Loc, Problem, dotted


@dataclass(slots=True)
class Marked:
    """The values of a YAML file, the line of each key path, and keys that stand twice."""

    value: Any = None
    lines: dict[Loc, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, loc: Loc) -> int:
        """The line of the key, or of the nearest key above it that stands in the file."""
        while loc and loc not in self.lines:
            loc = loc[:-1]
        return self.lines.get(loc, 1)

    def known(self, loc: Loc) -> Loc:
        """The path without the parts that name a choice of pydantic's rather than a key of the file."""
        kept: Loc = ()
        for part in loc:
            if (*kept, part) in self.lines or part == loc[-1]:
                kept = (*kept, part)
        return kept


MOST_VALUES = 100_000  # a fleet of 10,000 servers with all they can say; aliases of aliases make billions of ten lines
_FULL_WIDTH = {"：": ":", "，": ",", "｛": "{", "｝": "}", "［": "[", "］": "]", "－": "-", "＃": "#", "\u3000": " "}


def read_yaml(text: str, file: str) -> Marked:
    """The file's values with their lines.

    Syntax errors, keys given twice, and aliases that have no end are in
    `problems`; with the first and the last there is no value.
    """
    marked = Marked()
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _walk(node, (), marked, file, set())
            marked.value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        says = f"not YAML: {error.problem or error}{_full_width(text, line)}"
        marked.problems.append(Problem(file, line, "", says))
    except _EndlessError as error:
        marked.problems.append(Problem(file, error.line, dotted(error.loc), error.says))
    except RecursionError:
        marked.problems.append(Problem(file, 0, "", "not YAML that can be read: it is nested too deeply"))
    except (yaml.YAMLError, ValueError) as error:
        marked.problems.append(Problem(file, 0, "", f"not YAML: {error}"))
    return marked


def _full_width(text: str, line: int) -> str:
    """What a Chinese keyboard left where YAML wants its own mark: on that line, or the one before, which it ends."""
    for number, said in list(enumerate(text.splitlines(), 1))[max(0, line - 2) : line]:
        for wide, plain in _FULL_WIDTH.items():
            if wide in said:
                return f"; line {number} has a full-width {wide!r}, write {plain!r}"
    return ""


class _EndlessError(Exception):
    """An alias that unfolds to more than anybody means."""

    def __init__(self, line: int, loc: Loc, says: str) -> None:
        super().__init__(says)
        self.line, self.loc, self.says = line, loc, says


def _walk(node: yaml.Node, loc: Loc, marked: Marked, file: str, above: set[int]) -> None:
    """Note the lines below this node. `above` holds the nodes it stands in: an alias may point at one of them."""
    if id(node) in above:
        says = "this alias (*) stands inside the block that its anchor (&) names, so it has no end; write it out"
        raise _EndlessError(marked.line(loc), loc, says)
    if len(marked.lines) > MOST_VALUES:
        says = f"holds more than {MOST_VALUES:,} values, or its aliases (*) unfold to so many; write out what is meant"
        raise _EndlessError(0, (), says)
    inside = above | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            marked.lines[(*loc, index)] = item.start_mark.line + 1
            _walk(item, (*loc, index), marked, file, inside)
    elif isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            here = (*loc, str(key.value))
            line = key.start_mark.line + 1
            if here in marked.lines:
                says = f"given twice, first on line {marked.lines[here]}; keep one"
                marked.problems.append(Problem(file, line, dotted(here), says))
                continue
            marked.lines[here] = line
            _walk(item, here, marked, file, inside)
