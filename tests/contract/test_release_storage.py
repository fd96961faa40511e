"""Publishing and syncing, to a directory, to S3 (moto) and to Google's storage (fake-gcs-server): the same promises."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests import fakegcs, moto

from haldane.ports import Malformed, Refused, Unavailable
from haldane.release.answers import Answered, from_lines, to_lines
from haldane.release.manifest import Manifest, listing, manifest
from haldane.release.publish import Origin, already, publish, sync
from haldane.release.shelf import Shelf, State
from haldane.release.storage import LAST, Disk, Storage, open_storage

ORIGIN = Origin("ada", datetime(2026, 11, 25, 12, tzinfo=UTC), {"files": "fine"}, {"data_version": "2026-10"})
_numbers = itertools.count()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with moto.bucket("models") as url:
        yield url


@pytest.fixture(scope="module")
def gs_bucket() -> Iterator[str]:
    with fakegcs.bucket("models") as url:
        yield url


@pytest.fixture(params=["disk", "s3", "gs"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty storage."""
    if request.param == "disk":
        return f"file://{tmp_path}/kept"
    url = request.getfixturevalue({"s3": "bucket", "gs": "gs_bucket"}[request.param])
    return f"{url}/{next(_numbers)}"


@pytest.fixture
def shelf(where: str) -> Shelf:
    return Shelf(open_storage(where), "credit")


def a_version(folder: Path, **files: str) -> tuple[Path, Manifest]:
    for name, text in {"saved_model.pb": "graph", "variables/variables.index": "i", **files}.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder, manifest(folder, listing(folder, most_bytes=2**30))


class Watched:
    """A storage that keeps a list of what is done to it, and can stop before a call, as a killed process does."""

    def __init__(self, storage: Storage, dies_at: str = "") -> None:
        self._storage, self._dies_at = storage, dies_at
        self.done: list[tuple[str, ...]] = []

    def __getattr__(self, name: str) -> object:
        found = getattr(self._storage, name)
        if not callable(found):
            return found

        def call(*arguments: object) -> object:
            if name == self._dies_at:
                raise KeyboardInterrupt
            self.done.append((name, *map(str, arguments)))
            return found(*arguments)

        return call


def test_versions_are_numbered_in_order_and_hold_what_was_published(shelf: Shelf, tmp_path: Path) -> None:
    assert already(shelf, a_version(tmp_path / "a")[1]) is None
    for number, text in enumerate(("one", "two"), 1):
        folder, files = a_version(tmp_path / text, variables__weights=text)
        made = publish(folder, files, shelf, ORIGIN)
        assert (made.version, made.digest, made.size_bytes) == (number, files.digest, files.size)
        assert shelf.verify(number) == []
        assert shelf.release(number) == made
        assert shelf.manifest(made) == files.by_path
        assert already(shelf, files) == made
    assert shelf.states() == {1: State.PUBLISHED, 2: State.PUBLISHED}
    assert shelf.storage.children("credit") == [".haldane", "1", "2"]
    assert shelf.release(2).metadata == {"data_version": "2026-10"}
    assert already(shelf, a_version(tmp_path / "one")[1]) is None, "an older version is published anew"


def test_two_publishers_at_once_get_two_numbers(where: str, tmp_path: Path) -> None:
    count = 6
    start = threading.Barrier(count)

    def run(number: int) -> int:
        folder, files = a_version(tmp_path / str(number), weights=str(number))
        own = Shelf(open_storage(where), "credit")
        start.wait()
        return publish(folder, files, own, ORIGIN).version

    with ThreadPoolExecutor(count) as pool:
        numbers = list(pool.map(run, range(count)))
    shelf = Shelf(open_storage(where), "credit")
    assert sorted(numbers) == list(range(1, count + 1))
    for index, version in enumerate(numbers):
        assert shelf.verify(version) == []
        with shelf.storage.opened(f"credit/{version}/weights") as file:
            assert file.read() == str(index).encode(), "each holds its own publisher's files"


def test_only_one_of_many_makes_a_file(where: str) -> None:
    count = 8
    start = threading.Barrier(count)

    def run(number: int) -> bool:
        own = open_storage(where)
        start.wait()
        return own.create("credit/claim", str(number).encode())

    with ThreadPoolExecutor(count) as pool:
        won = list(pool.map(run, range(count)))
    assert won.count(True) == 1
    assert open_storage(where).read("credit/claim") == str(won.index(True)).encode()


def test_a_number_is_beyond_every_one_that_was_ever_seen(shelf: Shelf, tmp_path: Path) -> None:
    folder, files = a_version(tmp_path / "a")
    shelf.storage.write("credit/0017/saved_model.pb", b"put there by hand")
    shelf.storage.write("credit/3.partial/x", b"no version")
    shelf.storage.write("credit/.haldane/20.deleted", b"")
    assert publish(folder, files, shelf, ORIGIN).version == 21
    assert shelf.states() == {17: State.UNKNOWN, 20: State.DELETED, 21: State.PUBLISHED}


def test_files_of_an_earlier_version_are_not_sent_again(shelf: Shelf, tmp_path: Path) -> None:
    publish(*a_version(tmp_path / "a", variables__weights="heavy", note="old"), shelf, ORIGIN)
    watched = Watched(shelf.storage)
    made = publish(
        *a_version(tmp_path / "b", assets__weights="heavy", note="new"),
        Shelf(watched, "credit"),  # type: ignore[arg-type]
        ORIGIN,
    )
    sent = [call[2].rpartition("/")[2] for call in watched.done if call[0] == "upload"]
    assert sent == ["note"]
    assert shelf.verify(made.version) == []


def test_an_earlier_version_that_was_changed_is_not_copied_from(shelf: Shelf, tmp_path: Path) -> None:
    publish(*a_version(tmp_path / "a", weights="heavy"), shelf, ORIGIN)
    shelf.storage.write("credit/1/weights", b"heavier")
    publish(*a_version(tmp_path / "b", weights="heavy", note="new"), shelf, ORIGIN)
    assert shelf.verify(2) == []
    assert shelf.verify(1) == ["weights has changed"]


def test_nobody_ever_sees_a_graph_without_the_rest(where: str, tmp_path: Path) -> None:
    """Looks at the place where Serving looks after every single object that is written there."""
    shelf = Shelf(open_storage(where), "credit")
    seen = []
    if isinstance(shelf.storage, Disk):
        folder, files = a_version(tmp_path / "a", weights="w")
        publish(folder, files, shelf, ORIGIN)
        return  # one rename: there is nothing to see in between
    plain = shelf.storage.copy

    def copy(path: str, to: str) -> None:
        plain(path, to)
        seen.append(shelf.storage.files("credit/1"))

    shelf.storage.copy = copy  # type: ignore[method-assign]
    publish(*a_version(tmp_path / "a", weights="w"), shelf, ORIGIN)
    *before, whole = seen
    assert before and all(LAST not in files for files in before)
    assert whole == ["saved_model.pb", "variables/variables.index", "weights"]


@pytest.mark.parametrize("step", ["create", "write", "upload", "opened", "place"])
def test_a_publisher_that_dies_leaves_nothing_that_could_be_served(shelf: Shelf, tmp_path: Path, step: str) -> None:
    folder, files = a_version(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        publish(folder, files, Shelf(Watched(shelf.storage, step), "credit"), ORIGIN)  # type: ignore[arg-type]
    assert shelf.published() == []
    assert [name for name in shelf.storage.children("credit") if name != ".haldane"] == []
    assert publish(folder, files, shelf, ORIGIN).version == (1 if step == "create" else 2)


def test_what_changes_between_validation_and_publishing_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    folder, files = a_version(tmp_path / "a", weights="w")
    (folder / "weights").write_text("x")
    with pytest.raises(Refused, match="arrived changed: weights has changed"):
        publish(folder, files, shelf, ORIGIN)
    assert shelf.states() == {1: State.UNFINISHED}


def test_a_changed_byte_is_found_and_does_not_reach_a_server(shelf: Shelf, tmp_path: Path) -> None:
    publish(*a_version(tmp_path / "a", weights="w"), shelf, ORIGIN)
    shelf.storage.write("credit/1/weights", b"W")
    assert shelf.verify(1) == ["weights has changed"]
    with pytest.raises(Refused, match="weights has changed"):
        sync(shelf, Disk(tmp_path / "server"), 1)
    assert not (tmp_path / "server" / "credit" / "1").exists()


def test_an_added_file_is_found_and_does_not_reach_a_server(shelf: Shelf, tmp_path: Path) -> None:
    publish(*a_version(tmp_path / "a"), shelf, ORIGIN)
    shelf.storage.write("credit/1/assets.extra/tf_serving_warmup_requests", b"slow ones")
    said = "assets.extra/tf_serving_warmup_requests was not there when it was validated"
    assert shelf.verify(1) == [said]
    assert sync(shelf, Disk(tmp_path / "server"), 1)
    assert Shelf(Disk(tmp_path / "server"), "credit").verify(1) == []


def test_a_missing_file_is_found(shelf: Shelf, tmp_path: Path) -> None:
    publish(*a_version(tmp_path / "a", weights="w"), shelf, ORIGIN)
    shelf.storage.remove("credit/1/variables")
    assert shelf.verify(1) == ["variables/variables.index is missing"]


def test_a_changed_manifest_is_found(shelf: Shelf, tmp_path: Path) -> None:
    publish(*a_version(tmp_path / "a"), shelf, ORIGIN)
    shelf.storage.write("credit/.haldane/1.sha256", b"0" * 64 + b"  ../../../etc/cron.d/x\n")
    with pytest.raises(Malformed, match="not the manifest that was published"):
        sync(shelf, Disk(tmp_path / "server"), 1)


def test_a_record_that_is_none_is_told_by_name(shelf: Shelf, tmp_path: Path) -> None:
    publish(*a_version(tmp_path / "a"), shelf, ORIGIN)
    record = shelf.storage.read("credit/.haldane/1.yaml")
    assert record is not None
    for broken in (b"[", b"a: 1", record.replace(b"version: 1", b"version: 2"), record + b"more: 1\n"):
        shelf.storage.write("credit/.haldane/1.yaml", broken)
        with pytest.raises(Malformed, match=r"1\.yaml"):
            shelf.release(1)


def test_sync_brings_the_same_bytes_once(shelf: Shelf, tmp_path: Path) -> None:
    publish(*a_version(tmp_path / "a", assets__words="w"), shelf, ORIGIN)
    disk = Disk(tmp_path / "server")
    assert sync(shelf, disk, 1)
    assert not sync(shelf, disk, 1)
    assert Shelf(disk, "credit").verify(1) == []
    assert sorted(path.name for path in (tmp_path / "server" / "credit").iterdir()) == [".haldane", "1"]
    assert sorted(disk.children("credit/.haldane")) == ["1.sha256", "1.yaml"], "nothing is left of the way there"


def test_golden_answers_travel_with_the_version(shelf: Shelf, tmp_path: Path) -> None:
    answers = (Answered(b"request", b"answer \xff"), Answered(b"", b""))
    made = publish(*a_version(tmp_path / "a"), shelf, replace(ORIGIN, answers=answers))
    assert shelf.answers(made) == answers
    disk = Shelf(Disk(tmp_path / "server"), "credit")
    assert sync(shelf, Disk(tmp_path / "server"), 1)
    assert disk.answers(disk.release(1)) == answers
    shelf.storage.write("credit/.haldane/1.golden", to_lines(answers[:1]).encode())
    with pytest.raises(Malformed, match="its digest differs"):
        shelf.answers(made)
    assert shelf.states() == {1: State.PUBLISHED}


@pytest.mark.parametrize("text", ["{", "[]", '{"request": "AA=="}', '{"request": "A", "answer": ""}', "1"])
def test_answers_in_another_form_are_none(text: str) -> None:
    with pytest.raises(Malformed, match="not as they were written"):
        from_lines(text)


def test_many_that_sync_at_once_leave_one_whole_version(shelf: Shelf, where: str, tmp_path: Path) -> None:
    publish(*a_version(tmp_path / "a", assets__words="w"), shelf, ORIGIN)
    start = threading.Barrier(4)

    def run(_: int) -> bool:
        own = Shelf(open_storage(where), "credit")
        start.wait()
        return sync(own, Disk(tmp_path / "server"), 1)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))).count(True) == 1
    assert Shelf(Disk(tmp_path / "server"), "credit").verify(1) == []


def test_sync_leaves_what_else_lies_there(shelf: Shelf, tmp_path: Path) -> None:
    publish(*a_version(tmp_path / "a"), shelf, ORIGIN)
    there = tmp_path / "server" / "credit" / "1"
    there.mkdir(parents=True)
    (there / "saved_model.pb").write_text("someone's own")
    with pytest.raises(Refused, match=r"is not what was published: saved_model\.pb has changed"):
        sync(shelf, Disk(tmp_path / "server"), 1)
    assert (there / "saved_model.pb").read_text() == "someone's own"


def test_an_unfinished_version_is_not_synced(shelf: Shelf, tmp_path: Path) -> None:
    folder, files = a_version(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        publish(folder, files, Shelf(Watched(shelf.storage, "place"), "credit"), ORIGIN)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="is unfinished"):
        sync(shelf, Disk(tmp_path / "server"), 1)
    with pytest.raises(Refused, match=r"there is no record of it in .*; that has 1"):
        sync(shelf, Disk(tmp_path / "server"), 7)


@pytest.mark.parametrize("model", ["../secret", "/etc", "a//b", "credit/5", ".haldane", "", "a/..", "a b"])
def test_a_name_that_leads_elsewhere_is_no_model(tmp_path: Path, model: str) -> None:
    with pytest.raises(Refused, match="no model's name"):
        Shelf(Disk(tmp_path), model)


def test_a_model_may_lie_in_a_namespace(shelf: Shelf, tmp_path: Path) -> None:
    own = Shelf(shelf.storage, "finance/credit_score")
    publish(*a_version(tmp_path / "a"), own, ORIGIN)
    assert own.published() == [1]
    assert shelf.states() == {}


def test_a_storage_that_cannot_number_is_refused_and_one_that_is_gone_is_unavailable(
    bucket: str, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="use one of file://, s3://"):
        open_storage("ftp://host/models")
    with pytest.raises(Refused, match="names a directory of this machine"):
        open_storage("file://elsewhere/models")
    with pytest.raises(Unavailable, match="s3://nowhere/credit"):
        publish(*a_version(tmp_path / "a"), Shelf(open_storage("s3://nowhere"), "credit"), ORIGIN)
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"Not a directory|File exists"):
        publish(*a_version(tmp_path / "b"), Shelf(Disk(tmp_path / "file"), "credit"), ORIGIN)
