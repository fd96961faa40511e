"""A case file is an NPZ archive: the same bits back, and a clear word about one that is not whole."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from haldane.adapters.archive import case_of, packed, unpacked
from haldane.adapters.sql import SqlStore, open_store
from haldane.domain.entries import LABEL_DTYPE, READING_DTYPE
from haldane.domain.evidence import Verdict
from haldane.domain.rollout import Phase
from haldane.domain.traffic import PAIR_DTYPE
from haldane.judge.replay import CaseFile, Recorded
from haldane.ports import Malformed, Unavailable
from haldane.testing.builders import a_rollout
from haldane.testing.pairs import pairs, rules

STORED = Path(__file__).parents[2] / "data" / "stored"
ROLLOUT = a_rollout(Phase.ROLLED_BACK, analysis=rules().to_json())
RULING = {"verdict": "fail", "seconds": 1.1, "why": "harm", "entries": 2}
ENTRIES = (pairs(5), np.zeros(3, READING_DTYPE), pairs(2, first=5), np.zeros(1, LABEL_DTYPE))
CASE = CaseFile(rollout=ROLLOUT, recorded=(Recorded(7, RULING),), entries=ENTRIES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "case.npz"
    path.write_bytes(b"".join(packed(CASE)))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    made = open_store(f"sqlite:///{tmp_path / 'haldane.db'}")
    yield made
    made.close()


def rewritten(path: Path, change: dict[str, bytes | None]) -> Path:
    """The archive with other members; None takes one out."""
    other = path.with_name("changed.npz")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            data = change.get(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return other


def test_a_case_comes_back_bit_for_bit(path: Path) -> None:
    case = unpacked(path)
    assert (case.rollout, case.recorded, case.rules) == (ROLLOUT, CASE.recorded, rules())
    assert [entry.tobytes() for entry in case.entries] == [entry.tobytes() for entry in ENTRIES]
    assert [entry.dtype for entry in case.entries] == [entry.dtype for entry in ENTRIES]


def test_equal_cases_are_equal_files() -> None:
    assert b"".join(packed(CASE)) == b"".join(packed(CASE))


def test_an_archive_written_in_form_1_still_loads() -> None:
    case = unpacked(STORED / "case-1.npz")
    assert (case.rollout.id, case.rules.alpha, case.recorded[0].verdict) == ("credit-2-test", 0.01, Verdict.FAIL)
    assert [(entry.dtype, len(entry)) for entry in case.entries] == [
        (PAIR_DTYPE, 5),
        (READING_DTYPE, 3),
        (PAIR_DTYPE, 2),
        (LABEL_DTYPE, 1),
    ]


def test_numpy_opens_it_too(path: Path) -> None:
    with np.load(path) as archive:
        assert archive["entries/00000001-2"].tobytes() == ENTRIES[0].tobytes()


def test_a_long_log_is_sent_on_in_pieces() -> None:
    noise = np.random.default_rng(0).random(20_000)
    long = CaseFile(rollout=ROLLOUT, recorded=(), entries=[pairs(20_000, stable_seconds=noise) for _ in range(20)])
    sizes = [len(piece) for piece in packed(long)]
    assert len(sizes) > 3
    assert max(sizes) < sum(sizes) / 3


def test_a_store_gives_the_rulings_and_the_entries_of_one_rollout(store: SqlStore) -> None:
    moved = ("phase_changed", {"to": "ROLLED_BACK", "ruling": RULING})
    store.commit(ROLLOUT, None, [("rollout_started", {"why": "x"}), moved])
    for entry in ENTRIES:
        store.append_evidence(ROLLOUT.id, entry)
    case = case_of(store, ROLLOUT)
    assert [one.ruling for one in case.recorded] == [RULING]
    assert [len(entry) for entry in case.entries] == [5, 3, 2, 1]


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot read it: No such file"):
        unpacked(tmp_path / "none.npz")


def test_a_torn_download_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(Malformed, match="not a whole NPZ archive"):
        unpacked(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rules.json": None}, "holds no rules.json"),
        ({"rulings.json": b"{"}, "rulings.json is not JSON"),
        ({"rulings.json": b"[]"}, "rollout.json or rulings.json is not as"),
        ({"rulings.json": b'{"schema": 9, "rulings": []}'}, "an archive of schema 9; this release reads 1"),
        (
            {"rulings.json": b'{"schema": 1, "rulings": [{"seq": 1, "ruling": {"verdict": "maybe"}}]}'},
            "rulings.json is not as",
        ),
        ({"rollout.json": b"[]"}, "rollout.json or rulings.json"),
        ({"rollout.json": b'{"schema": 99}'}, "schema 99"),
        ({"entries/00000002-102.npy": None}, "entry 2 of the evidence log is missing"),
        ({"entries/00000002-102.npy": b"\x93NUMPY no"}, "entries/00000002-102.npy"),
    ],
)
def test_what_is_wrong_inside_is_named(path: Path, change: dict[str, bytes | None], says: str) -> None:
    with pytest.raises(Malformed, match=says):
        unpacked(rewritten(path, change))


def test_evidence_of_a_later_schema_is_refused(path: Path) -> None:
    other = path.with_name("later.npz")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            new.writestr(name.replace("-102.npy", "-109.npy"), old.read(name))
    with pytest.raises(Malformed, match="evidence of schema 109; this release reads"):
        unpacked(other)
