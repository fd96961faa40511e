"""The runbooks say what a person does about each thing that waits for one: every such sentence of the code is there."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from haldane import files
from haldane.app import process
from haldane.config import freeze
from haldane.judge import analysis, hearing
from haldane.rollout import boot, intake, machine, moves, ramp, revert, second
from haldane.serving import configedit, foreign, polledfile

# What says why a server, a gateway, a file, an announcement or a promotion waits for somebody.
SAYING: tuple[Callable[..., Any], ...] = (
    machine._waits,
    second._waits,
    second.refusal,
    foreign.foreign_models,
    foreign._compare,
    ramp.gateway_progress,
    revert.refusal,
    intake._ending,
    configedit.edited,
    files.replace_text,
    boot.booting,
    intake.withdrawn_before,
    intake.flapping,
)
WORDS = 3  # fewer cannot be looked for
ELSEWHERE = {"is stable already"}  # said of an announcement that nothing is missing from


def strings(tree: ast.AST) -> Iterator[str]:
    """The fixed parts of the strings in it, without docstrings."""
    docs = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    for one in ast.walk(tree):
        if isinstance(one, ast.Constant) and isinstance(one.value, str) and id(one) not in docs:
            yield one.value


def of_function(function: Callable[..., Any]) -> Iterator[str]:
    yield from strings(ast.parse(textwrap.dedent(inspect.getsource(function))))


def of_holds() -> Iterator[str]:
    """Why the machine holds a rollout, or calls it stuck."""
    for call in (one for room in (machine, moves) for one in ast.walk(ast.parse(inspect.getsource(room)))):
        named = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
        if named == "hold" or (named and "Phase.STUCK" in ast.unparse(call)):
            yield from strings(call)


def waiting() -> set[str]:
    said = [*of_holds(), process.NOT_HELD.partition(":")[0], polledfile._NOT_TAKEN]
    said += [one for function in SAYING for one in of_function(function)]
    bare = {" ".join(one.split()).strip(" ;:,.()'") for one in said}
    return {one for one in bare if len(one.split()) >= WORDS} - ELSEWHERE


@pytest.mark.parametrize("says", sorted(waiting()))
def test_the_runbooks_say_what_a_person_does_about(says: str, root: Path) -> None:
    page = " ".join((root / "docs" / "runbooks" / "README.md").read_text().split())
    assert says in page


def test_the_sentences_are_looked_for_where_they_are() -> None:
    """So that a function that says nothing any more does not pass for one whose sentences are all there."""
    assert [one.__qualname__ for one in SAYING if not any(len(s.split()) >= WORDS for s in of_function(one))] == []
    assert any("did not follow" in one for one in of_holds())
    assert any("cannot be turned back" in one for one in of_holds())


def test_the_shorter_ones_are_there_too(root: Path) -> None:
    page = (root / "docs" / "runbooks" / "README.md").read_text()
    spent = ((analysis, "the budget of"), (hearing, "the horizon of"), (analysis, "no more pairs will come"))
    for code, says in (*spent, (freeze, "frozen until")):
        assert says in inspect.getsource(code)
        assert says in page
