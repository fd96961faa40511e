"""Base paths on a disk: versions as Serving counts them, files where asked, and what cannot be read."""

from pathlib import Path

import pytest

from haldane.adapters.storage import listing
from haldane.ports import Refused, Unavailable


def everything(versions):
    return versions


def a_file(path: Path, size: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_versions_are_numbers_and_files_are_listed_only_where_asked(tmp_path: Path) -> None:
    a_file(tmp_path / "1" / "saved_model.pb", 3)
    a_file(tmp_path / "0002" / "variables" / "variables.index", 5)
    a_file(tmp_path / ".incoming-3" / "saved_model.pb")
    a_file(tmp_path / "4")  # a file is no version
    (tmp_path / "5").mkdir()
    newest_two = listing(str(tmp_path), lambda versions: {2, 5})
    assert newest_two == {1: None, 2: {"variables/variables.index": 5}, 5: {}}


def test_of_two_spellings_the_plain_one_counts(tmp_path: Path) -> None:
    a_file(tmp_path / "007" / "old")
    a_file(tmp_path / "7" / "saved_model.pb")
    assert listing(f"file://{tmp_path}", everything) == {7: {"saved_model.pb": 1}}


def test_a_path_that_is_not_there_says_nothing_and_one_that_cannot_be_read_is_unavailable(tmp_path: Path) -> None:
    assert listing(str(tmp_path / "elsewhere"), everything) is None
    assert listing(str(tmp_path), everything) == {}
    with pytest.raises(Unavailable, match="cannot be listed: File name too long"):
        listing("/" + "x" * 300, everything)


def test_a_protocol_nobody_knows_is_refused() -> None:
    with pytest.raises(Refused, match="nosuch://bucket/m: cannot be listed"):
        listing("nosuch://bucket/m", everything)
