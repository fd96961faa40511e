"""A mistake in a config file: where it stands, what it is, what would be right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Loc = tuple[str | int, ...]
Found = Iterator[tuple[Loc, str]]  # what a check finds: where, and what would be right


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `line` counts from 1; 0 when the file as a whole is meant."""

    file: str
    line: int
    key: str  # dotted path, "servers[1].address"; "" for the file as a whole
    says: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.says}" if self.key else f"{place}: {self.says}"


class ConfigError(Exception):
    """All mistakes of a config file at once, in the order of their lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.key)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def dotted(loc: Loc) -> str:
    """The path of a key as a person writes it: models.credit_risk.traffic, servers[0].address."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
