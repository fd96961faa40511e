"""Files by path, glob and URL."""

import gzip

import pytest

from haldane.files import FileSet, kind_of, opened
from haldane.ports import Refused, Unavailable


def test_a_glob_is_looked_up_anew_and_gives_its_files_by_name(tmp_path):
    files = FileSet(tmp_path / "**" / "*.log")
    with pytest.raises(Unavailable, match=r"\*\.log: no file matches"):
        files.paths()
    (tmp_path / "a").mkdir()
    for name in ("b.log", "a/c.log", "a/other.txt"):
        (tmp_path / name).touch()
    assert files.paths() == [tmp_path / "a" / "c.log", tmp_path / "b.log"]


def test_a_file_with_the_letters_of_a_glob_in_its_name_is_that_file(tmp_path):
    (tmp_path / "log[1]").touch()
    assert FileSet(tmp_path / "log[1]").paths() == [tmp_path / "log[1]"]


def test_what_a_url_names_is_copied_once(tmp_path):
    for name in ("x.log", "y.log"):
        (tmp_path / name).write_text(name)
    files = FileSet(f"file://{tmp_path}/*.log")
    first = files.paths()
    assert [path.read_text() for path in first] == ["x.log", "y.log"]
    assert [path.name for path in first] == ["x.log", "y.log"]
    (tmp_path / "x.log").write_text("changed")
    (tmp_path / "z.log").write_text("z.log")
    assert files.paths()[:2] == first
    assert [path.read_text() for path in files.paths()] == ["x.log", "y.log", "z.log"]


@pytest.mark.parametrize(
    ("url", "error", "says"),
    [
        ("file:///absent/x.log", Unavailable, "x.log: cannot be fetched: FileNotFoundError"),
        ("file:///absent/*.log", Unavailable, r"\*.log: no file matches"),
        ("nosuch://bucket/x.log", Refused, "x.log: cannot be read by URL: Protocol not known: nosuch"),
    ],
)
def test_a_url_that_gives_nothing_says_why(url, error, says):
    with pytest.raises(error, match=says):
        FileSet(url).paths()


def test_the_query_of_a_url_is_not_told():
    assert FileSet("https://h/x.log?key=secret").name == "x.log"


def test_gzip_is_undone_by_content_not_by_name(tmp_path):
    packed, plain = tmp_path / "packed", tmp_path / "plain.gz"
    packed.write_bytes(gzip.compress(b"text"))
    plain.write_bytes(b"text")
    for path in (packed, plain):
        with opened(path) as file:
            assert file.read() == b"text"


def test_the_kind_of_a_file_is_told_below_its_packing(tmp_path):
    assert [kind_of(tmp_path / name) for name in ("a.CSV.gz", "a.npz", "gz")] == [".csv", ".npz", ""]
