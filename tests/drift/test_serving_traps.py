"""The page of traps names tests that exist, every trap test is on it, and every trap has one."""

import re
from pathlib import Path

TEST = re.compile(r"\btest_\w+[a-z0-9]\b")
ROW = re.compile(r"^\| (\d+) \|.*$", re.M)


def test_the_page_of_traps_and_the_tests_agree(root: Path) -> None:
    named = set(TEST.findall((root / "docs" / "design" / "serving-traps.md").read_text()))
    written = {name for file in (root / "tests").rglob("test_*.py") for name in TEST.findall(file.read_text())}
    assert named - written == set()
    traps = {name for name in written if name.startswith("test_trap_")}
    assert traps - named == set()


def test_every_trap_has_a_test_named_after_it(root: Path) -> None:
    rows = list(ROW.finditer((root / "docs" / "design" / "serving-traps.md").read_text()))
    assert [int(row[1]) for row in rows] == list(range(1, 31))
    unproven = [row[1] for row in rows if f"`test_trap_{int(row[1]):02}_" not in row[0]]
    assert unproven == []
