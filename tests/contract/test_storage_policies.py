"""The policies of deploy/storage let each role do its work and nothing else: an S3 server (moto) enforces them.

It enforces users, actions and resources as IAM does; it was not held against AWS itself.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import s3fs
from click.testing import CliRunner
from tests import api, moto

from haldane.adapters.storage import listing
from haldane.cli import main
from haldane.domain.vouched import Standing
from haldane.ports import Unavailable
from haldane.release.manifest import listing as files_of
from haldane.release.manifest import manifest
from haldane.release.publish import Origin, publish, sync
from haldane.release.shelf import Shelf, State
from haldane.release.storage import Disk, open_storage
from haldane.release.vouch import vouch
from haldane.testing.gallery import MemoryAgent, a_story

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "storage"
MODEL = "finance/credit_score"
ROLES = ("publisher", "reader", "gc", "audit")


def policy(role: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"s3-{role}.json").read_text())
    return found


class Account:
    """Users of an S3 server, one of each role; `as_` acts as one of them, who may do what their policy says."""

    def __init__(self, policies: Mapping[str, Mapping[str, Any]]) -> None:
        self._keys = dict[str, tuple[str, str]]()
        iam = boto3.client("iam")
        for role, document in policies.items():
            iam.create_user(UserName=role)
            if document["Statement"]:
                iam.put_user_policy(UserName=role, PolicyName="own", PolicyDocument=json.dumps(document))
            key = iam.create_access_key(UserName=role)["AccessKey"]
            self._keys[role] = key["AccessKeyId"], key["SecretAccessKey"]

    @contextmanager
    def as_(self, role: str) -> Iterator[None]:
        own = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        _enforced(True)
        self._take(*self._keys[role])
        try:
            yield
        finally:
            self._take(*own)
            _enforced(False)

    @staticmethod
    def _take(key: str, secret: str) -> None:
        os.environ.update(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
        s3fs.S3FileSystem.clear_instance_cache()  # it would go on as whoever it was made for


def _enforced(yes: bool) -> None:
    """moto looks at no policy until so many calls were made."""
    httpx.post(
        f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/reset-auth", content=b"0" if yes else b"inf"
    ).raise_for_status()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto.bucket("models"):
        yield os.environ["AWS_ENDPOINT_URL"]


def empty(server: str) -> None:
    httpx.post(f"{server}/moto-api/reset").raise_for_status()
    for bucket in ("models", "audit"):
        httpx.put(f"{server}/{bucket}").raise_for_status()


@pytest.fixture
def account(server: str) -> Account:
    empty(server)
    return Account({role: policy(role) for role in ROLES})


def shelf(model: str = MODEL) -> Shelf:
    return Shelf(open_storage("s3://models"), model)


def release(folder: Path, text: str, model: str = MODEL) -> int:
    """Publish a version of two files, of which one is the same each time."""
    for name, content in {"saved_model.pb": text, "variables/variables.index": "same"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    origin = Origin("ada", datetime.now(UTC), {}, {})
    return publish(folder, manifest(folder, files_of(folder, most_bytes=10**6)), shelf(model), origin).version


def publishes(folder: Path) -> None:
    assert [release(folder / "export", text) for text in "ab"] == [1, 2]
    assert shelf().verify(2) == []


def reads(folder: Path) -> None:
    """What the agent and the servers' sync ask for."""
    assert sync(shelf(), Disk(folder / "server"), 2)
    found = vouch(f"s3://models/{MODEL}", 2)
    assert (found.standing, found.why[:16]) == (Standing.VERIFIED, "published by ada")
    assert vouch(f"s3://models/{MODEL}", 7).why.startswith("there is no record of it")
    assert set(listing(f"s3://models/{MODEL}", lambda found: found) or ()) == {1, 2}


def cleans_up(folder: Path) -> None:
    one = shelf()
    one.release(1)
    one.delete(1, {"by": "ada", "at": "now", "why": "retention"})
    assert one.states() == {1: State.DELETED, 2: State.PUBLISHED}


def exports(folder: Path) -> None:
    agent = MemoryAgent()
    agent.add(a_story())
    with api.served(agent) as url:
        to = ["audit", "export", "--to", "s3://audit/haldane/2026-11.jsonl", "--agent", url]
        assert CliRunner().invoke(main, to).exit_code == 0
        assert CliRunner().invoke(main, to).exit_code == 5, "what is there is not written over"


WORK: Mapping[str, Callable[[Path], None]] = {
    "publisher": publishes,
    "reader": reads,
    "gc": cleans_up,
    "audit": exports,
}


def ready_for(role: str, account: Account, folder: Path) -> None:
    """What must be there before that role's work."""
    if role in ("reader", "gc"):
        with account.as_("publisher"):
            publishes(folder)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_can_do_its_work(account: Account, role: str, tmp_path: Path) -> None:
    ready_for(role, account, tmp_path)
    with account.as_(role):
        WORK[role](tmp_path)


def test_what_was_exported_by_policy_is_whole(account: Account, tmp_path: Path) -> None:
    with account.as_("audit"):
        exports(tmp_path)
    copy = tmp_path / "audit.jsonl"
    copy.write_bytes(open_storage("s3://audit").read("haldane/2026-11.jsonl") or b"")
    verified = CliRunner().invoke(main, ["audit", "verify", str(copy)])
    assert (verified.exit_code, "none changed" in verified.stdout) == (0, True)


# Bytes. s3fs sends from 100 MiB in parts of 50 MiB, and copies from 150 MiB in parts, too.
SENT_IN_PARTS, COPIED_IN_PARTS = 101 * 2**20, 151 * 2**20


def publish_large(folder: Path, size: int) -> int:
    export = folder / "large"
    (export / "variables").mkdir(parents=True)
    (export / "saved_model.pb").write_text("graph")
    with (export / "variables" / "variables.data-00000-of-00001").open("wb") as file:
        file.truncate(size)
    found = manifest(export, files_of(export, most_bytes=2 * size))
    return publish(export, found, shelf(), Origin("ada", datetime.now(UTC), {}, {})).version


def parts_left() -> int:
    """Uploads in parts that were begun and not ended."""
    return len(boto3.client("s3").list_multipart_uploads(Bucket="models").get("Uploads", []))


def test_what_is_sent_and_copied_in_parts_takes_the_same_rights(account: Account, tmp_path: Path) -> None:
    with account.as_("publisher"):
        assert publish_large(tmp_path, COPIED_IN_PARTS) == 1
    key = f"{MODEL}/1/variables/variables.data-00000-of-00001"
    assert "-" in boto3.client("s3").head_object(Bucket="models", Key=key)["ETag"], "it was copied in one piece"
    assert parts_left() == 0
    with account.as_("reader"):
        assert sync(shelf(), Disk(tmp_path / "server"), 1)


@pytest.mark.parametrize("may_end_it", [True, False])
def test_an_upload_in_parts_that_fails_leaves_none_where_the_publisher_may_end_it(
    server: str, may_end_it: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty(server)
    whole = policy("publisher")
    kept = [one for one in whole["Statement"] if may_end_it or one["Sid"] != "EndUploadsThatFailed"]
    account = Account({"publisher": {**whole, "Statement": kept}})
    send = s3fs.S3FileSystem._upload_file_part_concurrent

    async def fails_at_the_end(*given: Any, **more: Any) -> None:
        assert len(await send(*given, **more)) == 3
        raise ConnectionResetError("the network broke")

    monkeypatch.setattr(s3fs.S3FileSystem, "_upload_file_part_concurrent", fails_at_the_end)
    with account.as_("publisher"), pytest.raises(Unavailable, match="network broke" if may_end_it else "Permission"):
        publish_large(tmp_path, SENT_IN_PARTS)
    assert parts_left() == (0 if may_end_it else 1)
    assert shelf().states() == {1: State.UNFINISHED}


def less(role: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The role's policy without one of its actions, for each, and which."""
    whole = policy(role)
    for index, statement in enumerate(whole["Statement"]):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        for action in actions:
            kept = [one for one in actions if one != action]
            changed = [{**statement, "Action": kept}] if kept else []
            statements = [*whole["Statement"][:index], *changed, *whole["Statement"][index + 1 :]]
            yield f"{role}: {statement['Sid']} {action}", {**whole, "Statement": statements}


# Ending an upload has tests of its own: it takes a file that is sent in parts.
CASES = [(role, *one) for role in ROLES for one in less(role) if "AbortMultipartUpload" not in one[0]]


@pytest.mark.parametrize(("role", "left_out", "document"), CASES, ids=[left_out for _, left_out, _ in CASES])
def test_no_policy_gives_more_than_the_work_takes(
    server: str, role: str, left_out: str, document: dict[str, Any], tmp_path: Path
) -> None:
    empty(server)
    account = Account({**{other: policy(other) for other in ROLES}, role: document})
    if role != "publisher":
        ready_for(role, account, tmp_path)
    with account.as_(role), pytest.raises((Unavailable, AssertionError)):
        WORK[role](tmp_path)


def test_nobody_can_do_another_roles_work(account: Account, tmp_path: Path) -> None:
    with account.as_("publisher"):
        publishes(tmp_path)
        with pytest.raises(Unavailable, match=r"PermissionError|AccessDenied"):
            shelf().storage.remove(f"{MODEL}/1")
    for role in ("reader", "gc", "audit"):
        with account.as_(role), pytest.raises(Unavailable):
            release(tmp_path / "export", "c")
    with account.as_("reader"), pytest.raises(Unavailable):
        shelf().delete(1, {"why": "mine"})
    for role in ("gc", "audit"):
        with account.as_(role), pytest.raises(Unavailable):
            sync(shelf(), Disk(tmp_path / "another"), 2)
    assert shelf().states() == {1: State.PUBLISHED, 2: State.PUBLISHED}
    assert shelf().verify(1) == shelf().verify(2) == []


@pytest.mark.parametrize("role", ["publisher", "reader", "gc"])
def test_another_namespace_is_out_of_reach(account: Account, role: str, tmp_path: Path) -> None:
    assert release(tmp_path / "theirs", "x", "fraud/score") == 1
    with account.as_(role):
        for deed in (
            lambda: release(tmp_path / "theirs", "y", "fraud/score"),
            lambda: shelf("fraud/score").release(1),
            lambda: shelf("fraud/score").delete(1, {"why": "mine"}),
        ):
            with pytest.raises(Unavailable, match=r"PermissionError|AccessDenied|Forbidden"):
                deed()
    assert shelf("fraud/score").verify(1) == []


def test_the_bindings_for_google_name_the_same_storage() -> None:
    """No emulator enforces them: only their form is looked at, and that every role of the S3 policies is there."""
    found = json.loads((FOLDER / "gcs.json").read_text())
    assert found["version"] == 3, "conditions need version 3"
    members = {member.partition(":")[2].partition("@")[0] for one in found["bindings"] for member in one["members"]}
    assert members == {"haldane-publisher", "haldane-reader", "haldane-gc"}
    for one in found["bindings"]:
        assert one["role"].startswith("roles/storage.object")
        assert "projects/_/buckets/models/objects/finance/" in one["condition"]["expression"]
