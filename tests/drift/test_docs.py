"""What the documents say can be done, can be done: links lead somewhere, commands exist."""

import re
import subprocess
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.M | re.S)
INLINE = re.compile(r"`([^`\n]+)`")
OUTSIDE = ("http://", "https://", "mailto:")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get on a code host."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ +(.+?) *$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path, program: str) -> list[list[str]]:
    """Every call of that program in the page's code, as words, without comments and options."""
    text = page.read_text()
    blocks = [line.strip() for block in FENCE.findall(text) for line in block.splitlines()]
    spans = INLINE.findall(FENCE.sub("", text))
    found = []
    for line in [*blocks, *spans]:
        bare = re.sub(r"^(\$ |CI=true |\.venv/bin/)*", "", line)
        words = bare.split("#")[0].split()
        if words[:1] == [program] and not re.search(r"[{}…:]$|[|]", words[-1]):
            found.append(words[1:])
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if link.startswith(OUTSIDE):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        lost_anchor = anchor and target.suffix == ".md" and target.is_file() and anchor not in anchors(target)
        if not target.exists() or lost_anchor:
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page):
    known = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {word for words in commands(page, "make") for word in words if re.fullmatch(r"[a-z0-9-]+", word)}
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_haldane_commands_and_options_exist(page):
    calls = commands(page, "haldane")
    if not calls:
        return
    from haldane.cli import main

    assert isinstance(main, click.Group)
    for words in calls:
        missing = unknown_word(main, words)
        assert missing is None, f"`haldane {' '.join(words)}`: {missing} is not known"


def unknown_word(command: click.Command, words: list[str]) -> str | None:
    """The first subcommand or option that the command line does not have, or None."""
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        if re.search(r"[|/A-Z]", rest[0]):  # "start|pause", a placeholder
            return None
        known = command.get_command(click.Context(command), rest[0])
        if known is None:
            return rest[0]
        command, rest = known, rest[1:]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    passes_on = bool(command.context_settings.get("ignore_unknown_options"))
    for word in rest:
        flag = word.strip("[]").split("=")[0]
        if flag.startswith("-") and flag not in options | {"--help", "--", "\\"} and not passes_on:
            return flag
    return None


def test_make_help_names_every_target_with_a_promise(root):
    said = subprocess.run(["make", "help"], cwd=root, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "setup", "lint", "clean"):
        assert re.search(rf"^ +make {target} +\S", said, re.M)
