"""What storage shows and Serving does not is told once it lasts, and nothing is said of a disk that is another."""

from collections.abc import Mapping

import pytest

from haldane.domain.fleet import (
    Availability,
    ModelEntry,
    ModelName,
    ModelView,
    Policy,
    ReplicaView,
    ServerName,
    VersionStatus,
)
from haldane.judge import memory, storage
from haldane.judge.conditions import Name, conditions
from haldane.judge.memory import Bounds, Memory
from haldane.judge.storage import lacks

M, PATH, R0 = ModelName("m"), "/models/m", ServerName("r0")
BOUNDS = Bounds()
START, LOADING, AVAILABLE, UNLOADING, END = Availability
LATEST = ModelEntry(name=M, base_path=PATH)
WHOLE = {
    "saved_model.pb": 9,
    "fingerprint.pb": 1,
    "variables/variables.index": 1,
    "variables/variables.data-00000-of-00001": 5,
}
PART = {"variables/variables.index": 1}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (WHOLE, ""),
        ({"saved_model.pb": 9}, ""),
        ({"saved_model.pbtxt": 9}, ""),
        ({}, "has no saved_model.pb (it holds nothing)"),
        (PART, "has no saved_model.pb (it holds variables/variables.index)"),
        ({"saved_model.pb": 0}, "has an empty saved_model.pb"),
        (
            {"saved_model.pb": 9, "variables/variables.index": 1, "variables/variables.data-00001-of-00003": 5},
            "lacks 2 of the 3 files of its variables",
        ),
        ({"saved_model.pb": 9, "variables/variables.data-00000-of-00001": 5}, "has no variables/variables.index"),
        (
            {"saved_model.pb": 9, "variables/variables.index": 1},
            "has no variables/variables.data-* beside their index",
        ),
    ],
)
def test_what_a_directory_lacks(files: Mapping[str, int], says: str) -> None:
    assert lacks(files) == says


class Watch:
    """One server beside what its base path holds; a clock that moves only when told."""

    def __init__(self, entry: ModelEntry = LATEST) -> None:
        self.memory, self.entry = Memory(paths={M: PATH}), entry
        self.shelf: storage.Shelf = {}
        self.at = 1000.0

    def look(self, *versions: VersionStatus, after: float = 1.0) -> "Watch":
        self.at += after
        view = ReplicaView(R0, self.at, {M: ModelView(versions)})
        self.memory = memory.looked(self.memory, view, at=self.at, expected=None, bounds=BOUNDS)
        return self._notice()

    def holds(self, after: float = 1.0, **versions: Mapping[str, int] | None) -> "Watch":
        self.at += after
        self.shelf = storage.listed(self.shelf, {int(name[1:]): files for name, files in versions.items()}, self.at)
        return self._notice()

    def unseen(self) -> "Watch":
        self.memory = memory.looked(self.memory, None, at=self.at, expected=None, bounds=BOUNDS)
        return self._notice()

    def _notice(self) -> "Watch":
        self.memory = storage.noticed(self.memory, {M: self.entry}, {PATH: self.shelf}, self.at)
        return self

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.found]

    @property
    def found(self):
        return conditions({R0: self.memory}, at=self.at, bounds=BOUNDS)


V1, V1_ENDED = VersionStatus(1, AVAILABLE), VersionStatus(1, END)


def test_an_upload_that_stands_still_while_serving_tries_to_load_it_is_told():
    watch = Watch().look(V1, VersionStatus(2, LOADING)).holds(v1=None, v2=PART)
    assert watch.holds(after=BOUNDS.upload - 1, v1=None, v2=PART).names == []
    [one] = watch.holds(after=1, v1=None, v2=PART).found
    assert (one.name, one.version) == (Name.UPLOAD_INCOMPLETE, 2)
    assert one.detail == (
        "/models/m/2 has no saved_model.pb (it holds variables/variables.index); is the upload complete?"
    )
    assert watch.holds(v1=None, v2=WHOLE).names == []


def test_an_upload_that_goes_on_is_not_told():
    watch = Watch().look(V1, VersionStatus(2, LOADING)).holds(v1=None, v2={})
    for size in range(1, 5):
        watch.holds(after=BOUNDS.upload - 1, v1=None, v2={"variables/variables.index": size})
    assert watch.names == []


def test_where_storage_says_why_a_load_is_stuck_is_not_guessed_and_a_failed_load_is_told_once():
    watch = Watch().look(V1, VersionStatus(2, LOADING)).holds(v1=None, v2=PART)
    watch.holds(after=BOUNDS.slow, v1=None, v2=PART)
    assert watch.names == [Name.UPLOAD_INCOMPLETE]
    watch.look(V1, VersionStatus(2, END, "NOT_FOUND", "no model"))
    assert watch.names == [Name.FAILED_LOAD]


def test_a_newer_version_that_a_latest_server_does_not_even_try_is_told():
    watch = Watch().look(V1).holds(v1=None, v2=WHOLE)
    assert watch.look(V1, after=BOUNDS.unserved - 1).names == []
    [one] = watch.look(V1, after=1).found
    assert (one.name, one.version) == (Name.VERSION_NOT_LOADED, 2)
    assert one.detail == "storage holds it, complete, and nothing tries to load it; the newest that serves is 1"
    assert watch.look(V1, VersionStatus(2, START)).names == []


def test_a_base_path_serving_cannot_read_leaves_a_first_version_untried():
    watch = Watch().look().holds(v1=WHOLE).look(after=BOUNDS.unserved)
    assert watch.found[0].detail.endswith("no version serves")


@pytest.mark.parametrize(
    ("entry", "versions"),
    [
        (ModelEntry(name=M, base_path=PATH, policy=Policy.SPECIFIC, versions=(1,)), (V1,)),
        (ModelEntry(name=M, base_path=PATH, platform="other"), (V1,)),
        (LATEST, (VersionStatus(2, AVAILABLE), V1_ENDED)),
        (LATEST, (V1, VersionStatus(2, END, "DATA_LOSS", "broken"))),
        (LATEST, (VersionStatus(7, AVAILABLE),)),
    ],
    ids=["pinned to another", "no SavedModel", "serves", "failed, which is told as such", "another disk there"],
)
def test_nothing_is_untried(entry: ModelEntry, versions: tuple[VersionStatus, ...]) -> None:
    watch = Watch(entry).look(*versions).holds(v1=None, v2=WHOLE).look(*versions, after=BOUNDS.unserved)
    assert Name.VERSION_NOT_LOADED not in watch.names


def test_a_server_that_restarts_starts_the_wait_anew():
    watch = Watch().look(V1).holds(v1=None, v2=WHOLE).look(V1, after=BOUNDS.unserved - 1)
    watch.unseen().look(V1)
    assert watch.look(V1, after=BOUNDS.unserved - 1).names == []


def test_only_versions_under_way_and_a_newest_that_nobody_has_are_looked_into():
    watch = Watch().look(VersionStatus(1, END), VersionStatus(2, AVAILABLE), VersionStatus(3, LOADING))
    assert storage.worth_a_look([watch.memory], PATH)({1, 2, 3, 4}) == {3, 4}
    assert storage.worth_a_look([watch.memory], PATH)({1, 2}) == set()
    assert storage.worth_a_look([watch.memory], PATH)(set()) == set()
    assert storage.worth_a_look([Memory()], PATH)({1, 2}) == {2}
