"""The page of traps names tests that exist, and every trap test is on it."""

import re
from pathlib import Path

TEST = re.compile(r"\btest_\w+[a-z0-9]\b")


def test_the_page_of_traps_and_the_tests_agree(root: Path) -> None:
    named = set(TEST.findall((root / "docs" / "design" / "serving-traps.md").read_text()))
    written = {name for file in (root / "tests").rglob("test_*.py") for name in TEST.findall(file.read_text())}
    assert named - written == set()
    traps = {name for name in written if name.startswith("test_trap_")}
    also = {"test_trap_06_after_the_pause_a_reload_is_tried_again"}
    assert traps - named - also == set()
