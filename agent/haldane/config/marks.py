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


def read_yaml(text: str, file: str) -> Marked:
    """The file's values with their lines. Syntax errors, and keys given twice, are in `problems`."""
    marked = Marked()
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _walk(node, (), marked, file, set())
            marked.value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        marked.problems.append(Problem(file, line, "", f"not YAML: {error.problem or error}"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        marked.problems.append(Problem(file, 0, "", f"not YAML: {error}"))
    return marked


def _walk(node: yaml.Node, loc: Loc, marked: Marked, file: str, above: set[int]) -> None:
    """Note the lines below this node. `above` holds the nodes it stands in: an alias may point at one of them."""
    if id(node) in above:
        return
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
