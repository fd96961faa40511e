"""Object storage whose listings are late or leave things out: nothing half is served, no number given twice."""

from datetime import UTC, datetime

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from haldane.ports import Malformed, Refused
from haldane.release.manifest import listing, manifest
from haldane.release.objects import Objects
from haldane.release.publish import Origin, publish, sync
from haldane.release.shelf import Shelf, State
from haldane.release.storage import Disk

ORIGIN = Origin("ada", datetime(2026, 11, 25, 12, tzinfo=UTC), {}, {})


class Liar(MemoryFileSystem):
    """Leaves what `hides` is in out of every listing; what is asked for by name is there."""

    store: dict = {}  # noqa: RUF012 - of each test its own
    pseudo_dirs: list = [""]  # noqa: RUF012
    cachable = False
    hides = "nothing"

    def ls(self, path, detail=True, **more):
        found = super().ls(path, detail=True, **more)
        shown = [one for one in found if self.hides not in one["name"]]
        return shown if detail else [one["name"] for one in shown]


@pytest.fixture
def liar(monkeypatch):
    monkeypatch.setattr(Liar, "store", {})
    monkeypatch.setattr(Liar, "pseudo_dirs", [""])
    return Liar()


@pytest.fixture
def shelf(liar):
    return Shelf(Objects(liar, "/models", "memory://models"), "credit")


@pytest.fixture
def export(tmp_path):
    folder = tmp_path / "export"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text("graph")
    (folder / "variables" / "variables.index").write_text("i")
    return folder


def published(shelf, export, text="graph"):
    (export / "saved_model.pb").write_text(text)
    return publish(export, manifest(export, listing(export, most_bytes=2**30)), shelf, ORIGIN).version


def test_a_version_that_no_listing_shows_is_neither_overwritten_nor_numbered_again(liar, shelf, export):
    assert published(shelf, export, "one") == 1
    liar.hides = "/models/credit"  # the model looks as if it were new
    assert published(shelf, export, "two") == 2
    liar.hides = "nothing"
    assert liar.cat_file("/models/credit/1/saved_model.pb") == b"one"
    assert shelf.states() == {1: State.PUBLISHED, 2: State.PUBLISHED}


def test_a_version_put_there_by_hand_that_no_listing_shows_stays_as_it_is(liar, shelf, export):
    liar.pipe_file("/models/credit/1/saved_model.pb", b"theirs")
    liar.hides = "/models/credit/1"
    with pytest.raises(Refused, match="something was put there meanwhile"):
        published(shelf, export)
    assert liar.cat_file("/models/credit/1/saved_model.pb") == b"theirs"


def test_a_file_that_no_listing_shows_is_proven_and_placed_all_the_same(liar, shelf, export):
    """Both go by the manifest: what Serving finds is whole, or has no graph."""
    liar.hides = "variables.index"
    assert published(shelf, export) == 1
    assert liar.cat_file("/models/credit/1/variables/variables.index") == b"i"


def test_a_version_whose_files_are_not_all_listed_does_not_reach_a_server(liar, shelf, export, tmp_path):
    published(shelf, export)
    disk = Disk(tmp_path / "disk")
    liar.hides = "credit/1"
    with pytest.raises(Refused, match="credit 1: is unfinished"):
        sync(shelf, disk, 1)
    assert not (tmp_path / "disk" / "credit" / "1").exists()
    liar.hides = "nothing"
    assert sync(shelf, disk, 1)


def test_a_manifest_that_climbs_out_of_the_version_writes_nothing_anywhere(liar, shelf, export, tmp_path):
    release = shelf.release(published(shelf, export))
    text = b"0" * 64 + b"  ../../../stolen\n"
    liar.pipe_file("/models/credit/.haldane/1.sha256", text)
    with pytest.raises(Malformed, match="not the manifest that was published"):
        sync(shelf, Disk(tmp_path / "disk"), release.version)
    assert not [path for path in tmp_path.rglob("*") if path.name == "stolen"]
