"""What lies where the servers load from, against what was published."""

from datetime import UTC, datetime

import pytest

from haldane.domain.release import Profile, UnderLoad
from haldane.domain.vouched import Standing
from haldane.release.answers import Answered
from haldane.release.manifest import listing, manifest
from haldane.release.publish import Origin, publish, sync
from haldane.release.shelf import Shelf
from haldane.release.storage import Disk
from haldane.release.vouch import profile_of, vouch

TOOK = Profile(1.5, 2_000_000, 0.001, UnderLoad(2, 3000, 1.5, 0.001, 0.002))
CHANGED, UNVERIFIED, VERIFIED = Standing.CHANGED, Standing.UNVERIFIED, Standing.VERIFIED


@pytest.fixture
def kept(tmp_path):
    """A storage with `finance/credit` 1."""
    export = tmp_path / "export"
    export.mkdir()
    (export / "saved_model.pb").write_text("graph")
    origin = Origin("ada", datetime(2026, 11, 25, tzinfo=UTC), {}, {"owner": "risk"}, [Answered(b"x", b"y")], TOOK)
    shelf = Shelf(Disk(tmp_path / "kept"), "finance/credit")
    publish(export, manifest(export, listing(export, most_bytes=100)), shelf, origin)
    return tmp_path / "kept"


@pytest.fixture
def served(kept, tmp_path):
    """The base path of a server to which it was synced."""
    sync(Shelf(Disk(kept), "finance/credit"), Disk(tmp_path / "server"), 1)
    return tmp_path / "server" / "finance" / "credit"


def found(base, version=1, **more):
    return vouch(str(base), version, **more)


def test_what_was_published_is_verified_by_the_manifest_beside_it(served):
    told = found(served)
    assert (told.standing, told.why) == (VERIFIED, "published by ada at 2026-11-25T00:00:00+00:00")
    assert len(told.digest) == 64
    assert told.profile == profile_of(str(served), 1) == TOOK
    assert profile_of(str(served), 2) is None
    assert told.metadata == {"owner": "risk"}
    assert [(one.body, one.recorded) for one in told.golden] == [(b"x", b"y")]
    assert found(f"{served}/").standing is VERIFIED
    served.joinpath("1").rename(served / "001")
    assert found(served.as_uri()).standing is VERIFIED, "Serving reads 001 as 1"


def test_a_changed_byte_an_added_file_and_a_changed_manifest_are_found(served):
    (served / "1" / "extra").touch()
    assert found(served).why == "extra was not there when it was validated"
    (served / "1" / "extra").unlink()
    (served / "1" / "saved_model.pb").write_text("Graph")
    told = found(served)
    assert (told.standing, told.why) == (CHANGED, "saved_model.pb has changed")
    (served / ".haldane" / "1.sha256").write_text("")
    assert found(served).standing is CHANGED


def test_the_manifest_of_the_storage_counts_more_than_one_that_was_changed_with_the_files(served, kept):
    (served / "1" / "saved_model.pb").write_text("Graph")
    forged = manifest(served / "1", listing(served / "1", most_bytes=100))
    record = (served / ".haldane" / "1.yaml").read_text()
    old = Shelf(Disk(kept), "finance/credit").release(1).digest
    (served / ".haldane" / "1.yaml").write_text(record.replace(old, forged.digest))
    (served / ".haldane" / "1.sha256").write_text(forged.text)
    assert found(served).standing is VERIFIED, "who may write there may forge"
    assert found(served, published=str(kept), model="finance/credit").standing is CHANGED


@pytest.mark.parametrize(
    ("base", "more", "why"),
    [
        ("", {}, "where its versions lie is not known"),
        ("/no/such/credit", {}, "there is no record of it in /no/such; that has none"),
        ("abfs://bucket/credit", {}, "adlfs"),
        ("ftp://host/credit", {}, "no way to make a file"),
        ("/models/a b", {}, "no model's name"),
    ],
)
def test_what_cannot_be_told_is_unverified(base, more, why):
    told = found(base, **more)
    assert told.standing is UNVERIFIED
    assert why in told.why


def test_a_disk_that_cannot_be_read_from_here_is_unverified(kept):
    told = found("/no/such/finance/credit", published=str(kept), model="finance/credit")
    assert (told.standing, told.why) == (UNVERIFIED, "the servers' storage cannot be read from here")
    assert len(told.digest) == 64
    assert len(told.golden) == 1, "the servers can be asked all the same"


def test_golden_answers_that_were_changed_are_found(served):
    (served / ".haldane" / "1.golden").write_text("")
    told = found(served)
    assert (told.standing, "1.golden" in told.why) == (CHANGED, True)


def test_a_version_nobody_published_is_unverified(served):
    (served / "7").mkdir()
    assert found(served, 7).standing is UNVERIFIED
