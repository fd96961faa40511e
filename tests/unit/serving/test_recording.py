"""Files of recorded requests: finished, removed, found again after a crash, and a disk that is full."""

import resource
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from haldane import wire
from haldane.domain.traffic import Api, Request
from haldane.ports import Refused
from haldane.serving.recording import Recording, Terms
from haldane.serving.records import frame, log_of, read_frames, read_prediction_logs
from haldane.tensors import encode


@pytest.fixture
def terms(tmp_path: Path) -> Terms:
    return Terms(tmp_path / "kept", file_bytes=1000, file_seconds=3600.0, keep_bytes=100_000, keep_seconds=3600.0)


def opened(terms: Terms, model: str = "credit") -> Recording:
    recording = Recording(model, terms)
    recording.open()
    return recording


def files(terms: Terms) -> list[Path]:
    return sorted(terms.directory.glob("*.tfrecord"))


def held(path: Path) -> list[bytes]:
    return [one for one in read_frames(path) if isinstance(one, bytes)]


def test_a_file_has_its_own_name_only_when_it_is_finished(terms):
    recording = opened(terms)
    recording.write([b"one", b"two"])
    assert files(terms) == []
    (part,) = terms.directory.glob("*.part")
    assert stat.S_IMODE(part.stat().st_mode) == 0o600
    recording.close()
    (path,) = files(terms)
    assert held(path) == [b"one", b"two"]
    assert not list(terms.directory.glob("*.part"))


def test_what_is_recorded_replays_byte_for_byte(terms):
    request = wire.PredictRequest()
    request.model_spec.name = "credit"
    request.model_spec.version_label = "stable"
    request.model_spec.signature_name = "plus"
    request.inputs["x"].CopyFrom(encode(np.array([1.5, 2.5], np.float32), 1))
    recording = opened(terms)
    recording.write([log_of(Api.PREDICT, request)])
    recording.close()
    (replayed,) = [one for one in read_prediction_logs(files(terms)[0], model="credit") if isinstance(one, Request)]
    again = wire.PredictRequest.FromString(replayed.body)
    assert again.inputs["x"].SerializeToString() == request.inputs["x"].SerializeToString()
    assert again.model_spec.signature_name == "plus"


def test_a_new_file_is_begun_at_the_size_and_all_records_are_kept_in_order(terms):
    recording = opened(terms)
    for number in range(50):
        recording.write([b"%0100d" % number])
    recording.close()
    assert len(files(terms)) > 3
    assert [int(one) for path in files(terms) for one in held(path)] == list(range(50))


def test_a_file_is_finished_at_its_age_even_when_nothing_comes(terms):
    recording = opened(replace(terms, file_seconds=0.0))
    recording.write([b"one"])
    recording.tidy()
    assert len(files(terms)) == 1
    recording.close()


def test_the_oldest_files_go_beyond_the_size(terms):
    recording = opened(replace(terms, keep_bytes=3000))
    for number in range(100):
        recording.write([b"%0100d" % number])
    recording.close()
    kept = [int(one) for path in files(terms) for one in held(path)]
    assert sum(path.stat().st_size for path in files(terms)) <= 4000
    assert kept == list(range(kept[0], 100))


def test_files_go_at_their_age_and_others_are_never_touched(terms):
    terms.directory.mkdir()
    others = ["notes.txt", "credit.tfrecord", "credit-loan-20260101T000000-000000001.tfrecord"]
    for name in others:
        (terms.directory / name).write_bytes(b"x")
    recording = opened(replace(terms, keep_seconds=0.05))
    recording.write([b"x" * 2000])
    (path,) = [one for one in files(terms) if one.name not in others]
    while time.time() - path.stat().st_mtime <= 0.05:
        time.sleep(0.01)
    recording.tidy()
    recording.close()
    assert not path.exists()
    assert {name for name in others if (terms.directory / name).exists()} == set(others)


def test_what_a_crash_left_is_finished_at_the_next_start(terms):
    terms.directory.mkdir()
    whole = frame(b"one") + frame(b"two")
    (terms.directory / "credit-20260101T000000-000000001.tfrecord.part").write_bytes(whole + frame(b"three")[:-3])
    (terms.directory / "credit-20260101T000000-000000002.tfrecord.part").write_bytes(b"")
    (terms.directory / "other-20260101T000000-000000001.tfrecord.part").write_bytes(whole)
    recording = opened(terms)
    recording.close()
    (path,) = files(terms)
    assert held(path) == [b"one", b"two"]
    assert [one.name[:5] for one in terms.directory.glob("*.part")] == ["other"]


def test_two_processes_never_record_one_model_into_one_folder(terms):
    recording = opened(terms)
    with pytest.raises(Refused, match="another tap"):
        opened(terms)
    other = opened(terms, "another")
    other.close()
    recording.close()
    opened(terms).close()


def test_a_folder_that_cannot_be_had_is_named(terms):
    terms.directory.parent.joinpath("kept").write_text("a file")
    with pytest.raises(Refused, match=r"directory"):
        opened(terms)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """The kernel refuses to let a file of this process grow past 1,500 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_refuses_costs_that_write_only(terms, small_disk):
    recording = opened(replace(terms, file_bytes=100_000))
    recording.write([b"a" * 1000])
    with pytest.raises(OSError, match="File too large"):
        recording.write([b"b" * 1000])
    recording.write([b"c" * 1000])
    recording.close()
    records = [one for path in files(terms) for one in read_frames(path)]
    assert records == [b"a" * 1000, b"c" * 1000]  # no torn record between them


def test_a_folder_that_was_tidied_away_is_made_again(terms):
    recording = opened(terms)
    for path in terms.directory.iterdir():
        path.unlink()
    terms.directory.rmdir()
    recording.write([b"one"])
    recording.close()
    assert len(files(terms)) == 1


def test_files_that_cannot_be_removed_cost_no_records(terms, monkeypatch):
    recording = opened(replace(terms, keep_bytes=2000))

    def kept(self, missing_ok=False):
        raise PermissionError("not yours")

    monkeypatch.setattr(Path, "unlink", kept)
    for number in range(50):
        recording.write([b"%0100d" % number])
    with pytest.raises(PermissionError):
        recording.tidy()
    recording.close()
    assert [int(one) for path in files(terms) for one in held(path)] == list(range(50))
