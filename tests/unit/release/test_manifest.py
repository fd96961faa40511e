"""Files, sizes, paths and hashes: what is refused before anything is run."""

import hashlib
import os
import subprocess

import pytest

from haldane.release.manifest import NotReleasable, listing, manifest

MUCH = 2**40


def a_folder(tmp_path, **files):
    folder = tmp_path / "4"
    folder.mkdir()
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def refused(folder, most_bytes=MUCH):
    with pytest.raises(NotReleasable) as caught:
        manifest(folder, listing(folder, most_bytes=most_bytes))
    return caught.value.check, str(caught.value)


def test_the_manifest_has_every_file_and_is_what_sha256sum_reads(tmp_path):
    folder = a_folder(tmp_path, graph="g", variables__index="one", assets__words="")
    found = manifest(folder, listing(folder, most_bytes=MUCH))
    assert [file.path for file, _ in found.files] == ["assets/words", "graph", "variables/index"]
    assert found.size == 4
    assert found.digest == hashlib.sha256(found.text.encode()).hexdigest()
    subprocess.run(["sha256sum", "--check", "--strict"], cwd=folder, input=found.text, text=True, check=True)


def test_one_changed_byte_changes_the_digest(tmp_path):
    folder = a_folder(tmp_path, graph="g", variables__index="one")
    before = manifest(folder, listing(folder, most_bytes=MUCH)).digest
    (folder / "variables" / "index").write_text("onf")
    assert manifest(folder, listing(folder, most_bytes=MUCH)).digest != before


def test_a_directory_that_is_too_large_is_refused_without_being_read(tmp_path):
    folder = a_folder(tmp_path, graph="g")
    with (folder / "weights").open("wb") as file:
        file.truncate(20 * 2**30)  # takes no room on the disk, and would take minutes to read
    check, why = refused(folder, 10 * 2**30)
    assert check == "size"
    assert "more than 10,737,418,240 bytes (weights goes beyond)" in why


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("haldane.release.manifest.MOST_FILES", 2)
    assert refused(a_folder(tmp_path, a="", b="", c=""))[0] == "size"


def test_an_archive_of_folders_without_end_is_refused(tmp_path, monkeypatch):
    """Assets that were packed to harm: no file in it is large."""
    deep = a_folder(tmp_path, graph="g")
    for _ in range(150):
        deep /= "d"
    deep.mkdir(parents=True)
    assert refused(tmp_path / "4") == ("paths", "d/d/d/d/d/d/d/... is nested more than 100 folders deep")
    monkeypatch.setattr("haldane.release.manifest.MOST_FILES", 50)
    assert refused(tmp_path / "4") == ("size", f"{tmp_path / '4'} holds more than 50 files and folders")


def test_a_folder_that_cannot_be_read_is_refused(tmp_path):
    assert refused(tmp_path / "absent") == ("files", ". cannot be read: No such file or directory")


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "graph", "/"])
def test_a_link_is_refused_wherever_it_leads(tmp_path, target):
    folder = a_folder(tmp_path, graph="g", assets__words="")
    (folder / "assets" / "link").symlink_to(target)
    assert refused(folder) == (
        "paths",
        f"assets/link is a link to {target}; a release holds plain files, so copy what it names",
    )


def test_a_pipe_and_a_name_with_a_line_break_are_refused(tmp_path):
    folder = a_folder(tmp_path, graph="g")
    os.mkfifo(folder / "pipe")
    assert refused(folder) == ("paths", "pipe is neither a file nor a directory")
    (folder / "pipe").unlink()
    (folder / "a\nb").touch()
    assert refused(folder)[0] == "paths"


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path):
    folder = a_folder(tmp_path, graph="g")
    files = listing(folder, most_bytes=MUCH)
    (folder / "graph").write_text("longer")
    with pytest.raises(NotReleasable, match="had 1 bytes, then 6: is it still being written"):
        manifest(folder, files)
