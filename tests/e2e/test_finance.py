"""One namespace from storage to servers: what is held stays, what does not fit is never loaded, what fits is served."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from tests.fleet import MODEL, AgentProcess, Fleet

from haldane.cli import main
from haldane.domain.release import Profile
from haldane.release.manifest import listing, manifest
from haldane.release.publish import Origin, publish, sync
from haldane.release.shelf import Shelf
from haldane.release.storage import Disk
from haldane.sandbox import toy

NAME = f"finance/{MODEL}"
SMALL, LARGE = Profile(0.5, 10_000_000), Profile(0.5, 10**12)
ADA = "ada-" * 8
CI = "ci-ci-" * 8


def run(agent: AgentProcess, token: str, *words: str) -> Result:
    secret = agent.directory / "token-of-caller"
    secret.write_text(token)
    asked = ("--agent", agent.url, "--token-file", str(secret))
    return CliRunner().invoke(main, [*words, *asked])


def published(directory: Path, profile: Profile, k: float) -> int:
    """The next version of the namespace's model, in the storage and on the servers' disk."""
    export = directory / f"export-{k}"
    toy.write(export, "affine", k=k)
    shelf = Shelf(Disk(directory / "kept"), NAME)
    origin = Origin("ada", datetime.now(UTC), {}, {}, (), profile)
    version = publish(export, manifest(export, listing(export, most_bytes=2**30)), shelf, origin).version
    sync(shelf, Disk(directory / "servers"), version)
    return version


def config(fleet: Fleet) -> dict[str, Any]:
    """Servers with 4 GB each, of which this machine's sandboxes use a few MB; people with rights on the namespace."""
    base = fleet.config()
    for server, sandbox in zip(base["servers"], fleet.sandboxes, strict=True):
        server |= {"process_url": f"http://127.0.0.1:{sandbox.admin_port}/metrics", "memory": "4GB"}
    model = {"namespace": "finance", "published": str(fleet.directory / "kept"), "releases": {"patience": "3s"}}
    people = []
    for name, token, rights in (("ada", ADA, ["start", "hold"]), ("ci", CI, ["announce"])):
        (fleet.directory / name).write_text(token)
        token_file = str(fleet.directory / name)
        people.append({"name": name, "token_file": token_file, "rights": rights, "models": ["finance/*"]})
    models = {MODEL: {**base["models"][MODEL], **model}}
    return {"servers": base["servers"], "models": models, "people": people}


def test_a_hold_the_room_on_the_servers_and_a_namespace_through_a_running_agent(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    for sandbox in fleet.sandboxes:
        sandbox.models = tmp_path / "servers" / "finance"
    kept = tmp_path / "kept" / NAME
    assert [published(tmp_path, SMALL, k) for k in (10.0, 10.0001, 10.0002)] == [1, 2, 3]
    assert published(tmp_path, LARGE, 10.0003) == 4
    try:
        fleet.start()
        agent = fleet.run_agent(**config(fleet))
        agent.wait(lambda: agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}, "at rest")
        gc_leaves_what_is_held(agent, kept)
        what_does_not_fit_is_not_loaded(agent)
        what_fits_is_served(agent, kept)
    finally:
        fleet.close()


def versions(folder: Path) -> set[int]:
    return {int(one.name) for one in folder.iterdir() if one.name.isdigit()}


def gc_leaves_what_is_held(agent: AgentProcess, kept: Path) -> None:
    denied = run(agent, CI, "release", "hold", NAME, "2", "--why", "mine")
    assert (denied.exit_code, "takes the right `hold` of finance/" in denied.output) == (5, True), denied.output
    held = run(agent, ADA, "release", "hold", NAME, "2", "--why", "audit of the third quarter")
    assert held.exit_code == 0, held.output
    agent.kill()
    agent.start()
    agent.wait(lambda: agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}, "seen again")
    cleaned = run(agent, ADA, "release", "gc", NAME, "--from", str(kept.parents[1]), "--keep", "1", "--delete")
    assert cleaned.exit_code == 0, cleaned.output
    assert "audit of the third quarter" in cleaned.output
    assert versions(kept) == {1, 2, 4}, "1 is stable, 2 on hold, 4 the newest"


def what_does_not_fit_is_not_loaded(agent: AgentProcess) -> None:
    refused = run(agent, ADA, "rollout", "start", NAME, "4", "--why", "by hand")
    assert (refused.exit_code, "there is no room for it; r0: version 4 needs 1 TB" in refused.output) == (5, True)
    announced = run(agent, CI, "release", "announce", NAME, "4", "--why", "retrained")
    assert announced.exit_code == 0, announced.output
    agent.wait(lambda: "no room" in json.dumps(agent.get("/v1/status").json()), "the reason in the status")
    waited = run(agent, CI, "rollout", "wait", NAME, "4", "--timeout", "60")
    assert (waited.exit_code, "no rollout of version 4 was started" in waited.output) == (3, True), waited.output
    records = [json.loads(line) for line in agent.get("/v1/records").text.splitlines()]
    (refusal,) = [one["data"] for one in records if one["kind"] == "release_refused"]
    assert "r1: version 4 needs 1 TB (as measured when it was validated)" in refusal["why"]
    assert not any(one["kind"] == "rollout_started" for one in records)
    seen = agent.get("/v1/status").json()["seen"]
    loaded = {one["version"] for view in seen.values() for one in view["models"][MODEL]["versions"]}
    assert loaded == {1}, "no server was ever told of it"


def what_fits_is_served(agent: AgentProcess, kept: Path) -> None:
    done = run(agent, ADA, "rollout", "start", NAME, "2", "--why", "the third quarter's", "--wait")
    assert done.exit_code == 0, done.output
    assert agent.labels() == {"r0": {"stable": 2}, "r1": {"stable": 2}}
    records = [json.loads(line) for line in agent.get("/v1/records").text.splitlines()]
    (started,) = [one["data"] for one in records if one["kind"] == "rollout_started"]
    assert started["by"] == "ada"
    assert [one.partition(":")[0] for one in started["memory"]] == ["r0", "r1"]
    assert "version 2 needs 10 MB (as measured when it was validated)" in started["memory"][0]
    checked = [one["data"]["result"] for one in records if one["kind"] == "release_checked"]
    assert checked == ["verified", "verified"], "the namespace is part of where it was published"
    (denied,) = [one for one in records if one["kind"] == "denied"]
    assert (denied["data"]["by"], denied["data"]["right"]) == ("ci", "hold")
