"""`haldane release gc` against an agent's API: what goes, what stays, and when nothing does."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from tests import api

from haldane.cli import main
from haldane.domain.fleet import ServerName
from haldane.domain.release import Hold
from haldane.domain.rollout import Phase
from haldane.release.manifest import listing, manifest
from haldane.release.publish import Origin, publish
from haldane.release.shelf import Shelf, State
from haldane.release.storage import Disk
from haldane.testing.builders import MODEL, a_view
from haldane.testing.gallery import MemoryAgent, a_story

R0, R1 = ServerName("r0"), ServerName("r1")


class Seeing(MemoryAgent):
    """An agent that sees both of its servers, unless told otherwise."""

    def __init__(self):
        super().__init__()
        labels = {"stable": 5}
        self.seen = {R0: a_view(5, labels=labels), R1: a_view(5, 6, labels={**labels, "old": 1}, server="r1")}

    def status(self):
        return replace(super().status(), seen=self.seen, stable={MODEL: 5})


@pytest.fixture
def agent():
    return Seeing()


@pytest.fixture
def address(agent):
    with api.served(agent) as url:
        yield url


@pytest.fixture
def shelf(tmp_path):
    """Nine published versions."""
    shelf = Shelf(Disk(tmp_path / "kept"), MODEL)
    folder = tmp_path / "export"
    folder.mkdir()
    for number in range(9):
        (folder / "saved_model.pb").write_text(str(number))
        origin = Origin("ada", datetime.now(UTC) - timedelta(days=9 - number), {}, {})
        publish(folder, manifest(folder, listing(folder, most_bytes=100)), shelf, origin)
    return shelf


def gc(shelf, address, *more):
    where = shelf.storage.name
    return CliRunner().invoke(main, ["release", "gc", MODEL, "--from", where, "--agent", address, *more])


def test_a_dry_run_says_what_and_why_and_deletes_nothing(shelf, address):
    result = gc(shelf, address, "-o", "json")
    assert result.exit_code == 0, result.output
    told = {one["version"]: one for one in json.loads(result.stdout)}
    assert [version for version, one in told.items() if one["delete"]] == [2, 3, 4]
    assert told[1]["why"] == "labelled old on r1"
    assert told[5]["why"].startswith("stable, the last known good; labelled stable on r0; AVAILABLE on r0; ")
    assert told[6]["why"] == "AVAILABLE on r1"
    assert told[9]["why"] == "one of the 3 newest"
    assert shelf.published() == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert "delete" in gc(shelf, address).stdout


def test_deleting_keeps_the_rest_the_records_and_the_numbers(shelf, address):
    result = gc(shelf, address, "--delete", "--why", "disk is full")
    assert result.exit_code == 0, result.output
    assert shelf.published() == [9, 8, 7, 6, 5, 1]
    assert [v for v, state in shelf.states().items() if state is State.DELETED] == [2, 3, 4]
    assert b"why: disk is full" in shelf.storage.read(f"{MODEL}/.haldane/2.deleted")
    assert shelf.release(2).published_by == "ada"
    assert gc(shelf, address, "--delete", "--keep", "1").exit_code == 0
    assert shelf.published() == [9, 6, 5, 1]


def test_what_is_on_trial_baking_or_could_be_gone_back_to_stays(shelf, address, agent):
    agent.add(a_story(id="credit-3-x", phase=Phase.SUCCEEDED, old=2, new=3))
    agent.add(a_story(id="credit-4-y", phase=Phase.BAKING, old=3, new=4))
    told = {one["version"]: one for one in json.loads(gc(shelf, address, "-o", "json").stdout)}
    assert not any(one["delete"] for one in told.values())
    assert told[2]["why"] == "the version before the last promotion"
    assert "rollout credit-4-y is BAKING, and goes back to it" in told[3]["why"]
    assert "rollout credit-4-y is BAKING" in told[4]["why"]


@pytest.mark.parametrize("hidden", [None, replace(a_view(5), models={})])
def test_while_a_server_is_not_seen_nothing_is_deleted(shelf, address, agent, hidden):
    agent.seen = {R0: a_view(5), R1: hidden}
    result = gc(shelf, address, "--delete")
    assert result.exit_code == 3
    assert f"does not see {MODEL} on r1" in result.stderr
    assert len(shelf.published()) == 9


def test_a_version_that_failed_somewhere_stays(shelf, address, agent):
    agent.seen = {R0: a_view(5, failed=(2,)), R1: a_view(5)}
    told = {one["version"]: one for one in json.loads(gc(shelf, address, "-o", "json").stdout)}
    assert told[2] == {"version": 2, "delete": False, "why": "failed on r0, whose config may still name it"}


def release(*arguments):
    return CliRunner().invoke(main, ["release", *map(str, arguments)])


def test_what_is_on_hold_stays_and_says_by_whom_and_why_until_the_hold_is_ended(shelf, address, tmp_path):
    (tmp_path / "token").write_text("t0ken")
    to = ("--agent", address, "--token-file", tmp_path / "token")
    made = release("hold", MODEL, 2, "--why", "audit", "--until", "2100-01-01", *to)
    assert made.exit_code == 0, made.output
    assert "until 2100-01-01 00:00 UTC: audit" in made.stdout
    told = {one["version"]: one for one in json.loads(gc(shelf, address, "-o", "json").stdout)}
    assert told[2]["delete"] is False
    assert told[2]["why"].startswith("on hold by ") and told[2]["why"].endswith("until 2100-01-01 00:00 UTC: audit")
    assert gc(shelf, address, "--delete", "--keep", "1").exit_code == 0
    assert 2 in shelf.published()
    kept = ("--from", shelf.storage.name, "--agent", address)
    listed = {one["version"]: one for one in json.loads(release("list", MODEL, *kept, "-o", "json").stdout)}
    assert (listed[2]["hold"]["why"], listed[9]["hold"]) == ("audit", None)
    assert "on hold by" in release("show", MODEL, 2, *kept).stdout
    assert f"{MODEL} 2 is on hold by" in CliRunner().invoke(main, ["status", "--agent", address]).stdout
    assert release("unhold", MODEL, 2, "--why", "audited", *to).exit_code == 0
    assert release("unhold", MODEL, 2, "--why", "audited", *to).exit_code == 5
    assert gc(shelf, address, "--delete", "--keep", "1").exit_code == 0
    assert 2 not in shelf.published()


def test_a_hold_set_while_others_are_deleted_counts(shelf, address, agent, monkeypatch):
    delete = Shelf.delete

    def and_hold(self, version, note):
        delete(self, version, note)
        agent.held[4] = Hold(model=MODEL, version=4, by="ada", why="wait", since=0.0)

    monkeypatch.setattr(Shelf, "delete", and_hold)
    result = gc(shelf, address, "--delete")
    assert f"{MODEL} 4 stays: on hold by ada" in result.stderr
    assert shelf.published() == [9, 8, 7, 6, 5, 4, 1]


def test_a_model_in_a_namespace_is_cleaned_up_by_its_full_name_and_by_no_other(shelf, address, agent, tmp_path):
    agent.namespace = "finance"
    top = shelf.storage.path("finance")
    top.mkdir()
    shelf.storage.path(MODEL).rename(top / MODEL)
    agent.held[2] = Hold(model=MODEL, version=2, by="ada", why="audit", since=0.0)
    run = ["release", "gc", f"finance/{MODEL}", "--from", shelf.storage.name, "--agent", address, "-o", "json"]
    told = {one["version"]: one for one in json.loads(CliRunner().invoke(main, run).stdout)}
    assert [version for version, one in told.items() if one["delete"]] == [3, 4]
    assert told[2]["why"].startswith("on hold by ada")
    kept = ("--from", shelf.storage.name, "--agent", address)
    assert "on hold by ada" in release("show", f"finance/{MODEL}", 2, *kept).stdout
    run[2] = f"fraud/{MODEL}"
    refused = CliRunner().invoke(main, run)
    assert (refused.exit_code, f"it has finance/{MODEL}" in refused.stderr) == (5, True)


def test_where_no_agent_answers_the_list_says_that_holds_are_not_shown(shelf):
    result = release("list", MODEL, "--from", shelf.storage.name, "--agent", "http://127.0.0.1:1")
    assert (result.exit_code, "holds are not shown" in result.stderr) == (0, True)


def test_without_the_agent_or_with_another_models_nothing_is_deleted(shelf, address):
    assert gc(shelf, "http://127.0.0.1:1", "--delete").exit_code == 4
    other = ["release", "gc", "other", "--from", shelf.storage.name, "--agent", address, "--delete"]
    result = CliRunner().invoke(main, other)
    assert result.exit_code == 5
    assert "does not look after other" in result.stderr
    assert len(shelf.published()) == 9


def test_what_a_dead_publisher_left_goes_after_a_day(shelf, address):
    for version, days in ((10, 2), (11, 0)):
        made = shelf.release(9).model_copy(
            update={"version": version, "published_at": (datetime.now(UTC) - timedelta(days=days)).isoformat()}
        )
        shelf.note(made, shelf.manifest(shelf.release(9)))
        shelf.storage.write(f"{MODEL}/.haldane/incoming-{version}-abc/weights", b"w")
    assert gc(shelf, address, "--delete").exit_code == 0
    assert shelf.states()[10] is State.DELETED
    assert shelf.states()[11] is State.UNFINISHED
    left = [name for name in shelf.storage.children(f"{MODEL}/.haldane") if name.startswith("incoming")]
    assert left == ["incoming-11-abc"]
