"""What the written boards ask Prometheus, for those who ask it too: the tests and `tools.boards.pictures`."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOARDS = sorted((Path(__file__).resolve().parents[2] / "dashboards").glob("*.json"))
VALUES_OF = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")


def load(path: Path) -> dict[str, Any]:
    board: dict[str, Any] = json.loads(path.read_text())
    return board


def queries(board: Any) -> Iterator[tuple[str, bool]]:
    """Every PromQL expression of panels and annotations as it stands, and whether it is asked for now only."""
    if isinstance(board, dict):
        if isinstance(expression := board.get("expr"), str):
            yield expression, bool(board.get("instant"))
        board = list(board.values())
    for part in board if isinstance(board, list) else ():
        yield from queries(part)


@dataclass(frozen=True)
class Variable:
    """What its values are: those of a label in a series. `all` stands for all of them at once, "" where it cannot."""

    series: str
    label: str
    all: str


def variables(board: Mapping[str, Any]) -> dict[str, Variable]:
    """The variables that Prometheus is asked for, in the order they depend on each other."""
    found = {}
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            match = VALUES_OF.fullmatch(variable["query"])
            assert match, variable["query"]
            found[variable["name"]] = Variable(match["series"], match["label"], variable.get("allValue", ""))
    return found


def filled(expression: str, values: Mapping[str, str]) -> str:
    """The expression with these values; KeyError for a variable that has none."""
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], expression)
