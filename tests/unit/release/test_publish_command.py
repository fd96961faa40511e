"""`haldane release publish`, `list`, `show`, `verify`, `sync` as a pipeline calls them, on real SavedModels."""

import json
import re
import subprocess
from datetime import UTC, datetime

import pytest
import yaml
from click.testing import CliRunner
from tests.unit.release import saved_models

from haldane.cli import main
from haldane.release.manifest import listing, manifest
from haldane.release.publish import Origin
from haldane.release.publish import publish as store
from haldane.release.shelf import Shelf
from haldane.release.storage import Disk
from haldane.testing.sandboxes import Sandbox


def release(*arguments):
    return CliRunner().invoke(main, ["release", *map(str, arguments)])


def publish(model, kept, *more):
    trial = ("--allow-network", "--timeout", "280")
    return release("publish", model, "--model", "credit", "--to", kept, *trial, *more)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved_models.linear(tmp_path_factory.mktemp("export") / "run-7", "x")


@pytest.fixture(scope="module")
def kept(model, tmp_path_factory):
    """A storage with the model as version 1."""
    kept = tmp_path_factory.mktemp("kept")
    (kept.parent / "notes.yaml").write_text("owner: risk-team\ndata_version: '2026-10'\nmetrics: {auc: 0.81}\n")
    result = publish(model, kept, "--metadata", kept.parent / "notes.yaml", "--by", "ada")
    assert (result.exit_code, result.stdout) == (0, "1\n"), result.output
    return kept


def test_what_was_published_is_listed_shown_and_verified(kept):
    (row,) = json.loads(release("list", "credit", "--from", kept, "-o", "json").stdout)
    assert (row["version"], row["state"], row["published_by"]) == (1, "published", "ada")
    assert "published" in release("list", "credit", "--from", kept.as_uri()).stdout
    shown = yaml.safe_load(release("show", "credit", "1", "--from", kept).stdout)
    assert shown["metadata"] == {"owner": "risk-team", "data_version": "2026-10", "metrics": {"auc": 0.81}}
    assert shown["checks"]["run serving_default"] == "made-up input gives finite answers"
    assert release("verify", "credit", "1", "--from", kept).exit_code == 0


def test_the_manifest_that_is_shown_and_stored_is_what_sha256sum_reads(kept):
    shown = release("show", "credit", "1", "--from", kept, "--manifest").stdout
    for text in (shown, (kept / "credit" / ".haldane" / "1.sha256").read_text()):
        check = ["sha256sum", "--check", "--strict"]
        subprocess.run(check, cwd=kept / "credit" / "1", input=text, text=True, check=True)


def test_the_same_files_again_are_the_same_version_unless_a_new_one_is_asked_for(model, tmp_path):
    assert publish(model, tmp_path).stdout == "1\n"
    again = publish(model, tmp_path)
    assert (again.exit_code, again.stdout) == (0, "1\n")
    assert "has exactly these files already" in again.stderr
    third = publish(model, tmp_path, "--again")
    assert third.stdout == "2\n"
    assert re.search(r"^p99 under load [\d.]+ ms, version 1 had [\d.]+ ms$", third.stderr, re.M), third.stderr
    shown = yaml.safe_load(release("show", "credit", "2", "--from", tmp_path).stdout)
    assert shown["profile"]["under_load"]["p99_seconds"] > 0


def test_with_a_server_it_is_compared_with_what_is_served_there_under_the_name_without_namespace(tmp_path):
    model = saved_models.affine(tmp_path / "run")

    def publish_in_finance(*more):
        trial = ("--allow-network", "--timeout", "280", "--again")
        return release("publish", model, "--model", "finance/credit", "--to", tmp_path / "kept", *trial, *more)

    assert publish_in_finance().stdout == "1\n"
    files = manifest(model, listing(model, most_bytes=10**6))
    shelf = Shelf(Disk(tmp_path / "kept"), "finance/credit")
    assert store(model, files, shelf, Origin("ada", datetime.now(UTC), {}, {})).version == 2, "the newest, not measured"
    with Sandbox(tmp_path / "sandbox") as sandbox:
        sandbox.add("credit", 1)
        sandbox.start(sandbox.config(sandbox.entry("credit", 1)))
        third = publish_in_finance("--served", sandbox.server.address)
    assert (third.exit_code, third.stdout) == (0, "3\n"), third.output
    assert "ok  served: as the version now served" in third.stderr
    assert re.search(r"^p99 under load [\d.]+ ms, version 1 had", third.stderr, re.M), third.stderr


def test_a_model_that_must_not_be_released_is_not_published(tmp_path):
    frozen = saved_models.linear(tmp_path / "run", "x", learned=False)
    result = publish(frozen, tmp_path / "kept", "--junit", tmp_path / "junit.xml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "NO  variables" in result.stderr
    assert (tmp_path / "junit.xml").exists()
    assert not (tmp_path / "kept").exists()


def test_what_could_not_be_tried_is_not_published(model, tmp_path):
    result = publish(model, tmp_path / "kept", "--timeout", "0.001")
    assert (result.exit_code, result.stdout) == (3, "")
    assert not (tmp_path / "kept").exists()


def test_sync_brings_the_newest_to_a_servers_disk(kept, tmp_path):
    arguments = ("sync", "--from", kept, "--model", "credit", "--to", tmp_path)
    assert release(*arguments).stdout == f"credit 1 is now in {tmp_path}\n"
    assert release(*arguments).stdout == f"credit 1 was already in {tmp_path}\n"
    assert release("verify", "credit", "1", "--from", tmp_path).exit_code == 0
    (tmp_path / "credit" / "1" / "saved_model.pb").write_bytes(b"tampered")
    assert release("verify", "credit", "1", "--from", tmp_path).exit_code == 1
    refused = release(*arguments)
    assert refused.exit_code == 5
    assert "is not what was published: saved_model.pb has changed" in refused.stderr


def test_nothing_to_sync_nothing_to_show(tmp_path):
    empty = release("sync", "--from", tmp_path, "--model", "credit", "--to", tmp_path / "server")
    assert (empty.exit_code, empty.stderr) == (5, f"credit: has no published version in {tmp_path}\n")
    assert release("show", "credit", "1", "--from", tmp_path).exit_code == 5
    assert release("list", "credit", "--from", "gopher://models").exit_code == 5
    assert release("list", "../credit", "--from", tmp_path).exit_code == 5
    assert Shelf(Disk(tmp_path), "credit").states() == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("owner: [", "while parsing"),
        ("- a list", "wants a mapping"),
        ("at: 2026-10-31", "Dates want quotes"),
        ("auc: .nan", "not JSON compliant"),
        ("owner: " + "x" * 70_000, "larger than 65,536 bytes"),
    ],
)
def test_metadata_that_cannot_be_kept_is_told_before_anything_is_tried(model, tmp_path, text, said):
    notes = tmp_path / "notes.yaml"
    if text is not None:
        notes.write_text(text)
    result = publish(model, tmp_path / "kept", "--metadata", notes)
    assert result.exit_code == 2
    assert said in result.stderr
