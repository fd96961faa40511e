"""Who may do what: people (and programs) that the agent knows by a token of their own."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from haldane.domain.rollout import CommandKind


class Right(StrEnum):
    """What somebody may be allowed to do. Reading is open to all."""

    START = "start"  # a rollout, at once
    ANNOUNCE = "announce"  # a release, which starts one when it can
    OPERATE = "operate"  # pause, resume, abort
    APPROVE = "approve"  # what has passed and waits for approval
    PROMOTE = "promote"  # on a person's word instead of the evidence's
    LABEL = "label"  # hand in right answers
    HOLD = "hold"  # keep a version from being deleted, and end that


def right_for(kind: CommandKind) -> Right:
    """What a command takes."""
    return {CommandKind.PROMOTE: Right.PROMOTE, CommandKind.APPROVE: Right.APPROVE}.get(kind, Right.OPERATE)


@dataclass(frozen=True, slots=True)
class Person:
    """`models` are names or patterns (finance/*). `known`: by a token of their own, not by one that is shared."""

    name: str
    rights: Collection[Right]
    models: tuple[str, ...] = ("*",)
    known: bool = True

    def may(self, right: Right, model: str) -> bool:
        return right in self.rights and any(fnmatchcase(model, pattern) for pattern in self.models)


def anybody(name: str) -> Person:
    """Whoever holds the agent's own token: everything is allowed, and the name is what they say."""
    return Person(name, frozenset(Right), known=False)
