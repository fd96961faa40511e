"""How soon something is told, as the runbooks say it, is how soon it is told."""

import re
from pathlib import Path

import pytest

from haldane.config import Config
from haldane.engine.observe import Pace
from haldane.judge.memory import Bounds

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "runbooks" / "README.md").read_text()
BOUNDS = Bounds()


def row(what: str) -> str:
    """The row of the table that begins so."""
    [found] = re.findall(rf"^\| {re.escape(what)}.*$", PAGE, re.MULTILINE)
    return str(found)


@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        ("an upload that is not complete stands still", BOUNDS.upload),
        ("a newer version lies complete in storage", BOUNDS.unserved),
        ("the same where the agent cannot read the base path", BOUNDS.slow),
        ("a load does not end", BOUNDS.load),
        ("a label resolves to nothing", BOUNDS.dangling),
        ("a label names another version than it should", BOUNDS.drift),
        ("a version that should be loaded is not", BOUNDS.drift),
        ("a version is loaded that nobody asked for", BOUNDS.linger),
        ("a version stays loaded though it is not wanted", BOUNDS.unapproved),
        ("a server does not answer", BOUNDS.unseen),
        ("a rollback takes long", BOUNDS.rollback),
        ("stable fails more requests", BOUNDS.failing),
    ],
)
def test_each_bound_that_is_stated_is_the_one_that_is_kept(what: str, seconds: float) -> None:
    told_after = row(what).split("|")[-2]
    assert f"{seconds:g} s" in re.sub(r"(\d+) to (\d+) s", r"\1 s to \2 s", told_after), told_after


def test_the_paces_that_are_stated_are_those_that_are_kept() -> None:
    assert f"reads its metrics page every {Pace().scrape:g} s" in PAGE
    every = Config.model_fields["list_every"].default.total_seconds()
    assert f"listed every {every:g} s (`list_every`)" in PAGE
