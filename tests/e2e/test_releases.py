"""What was published is what is served: the agent compares before it labels."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from tests.fleet import MODEL, Fleet

from haldane import wire
from haldane.cli import main
from haldane.release.answers import Answered
from haldane.release.manifest import listing, manifest
from haldane.release.publish import Origin, publish
from haldane.release.shelf import Shelf
from haldane.release.storage import Disk
from haldane.sandbox import toy
from haldane.tensors import encode
from haldane.testing.sandboxes import affine_request


def ten_times(x: float, *, factor: float = 10.0) -> Answered:
    """A request with the answer that version 2 gives, or would give with another factor."""
    response = wire.PredictResponse()
    response.outputs["y"].CopyFrom(encode(np.array([factor * x], np.float32), 1))
    return Answered(affine_request(x).body, response.SerializeToString())


def published(fleet: Fleet, *answers: Answered, k: float = 10.0) -> Path:
    """The next version, published to where the servers load from; its folder there."""
    export = fleet.directory / f"export-{k}"
    toy.write(export, "affine", k=k)
    found = manifest(export, listing(export, most_bytes=2**30))
    kept = fleet.first.models
    made = publish(export, found, Shelf(Disk(kept), MODEL), Origin("ada", datetime.now(UTC), {}, {}, answers))
    return kept / MODEL / str(made.version)


def test_a_published_version_is_verified_twice_and_promoted(fleet: Fleet) -> None:
    published(fleet, ten_times(1.0), ten_times(2.5))
    agent = fleet.run_agent()
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert over["phase"] == "SUCCEEDED", over["why"]
    checks = [record["data"]["result"] for record in agent.records(name) if record["kind"] == "release_checked"]
    assert checks == ["verified", "verified"]
    told = agent.get(f"/v1/rollouts/{name}/explanation").json()["sentences"]
    assert any(one.startswith("Its files are those that were published: published by ada at ") for one in told)
    assert "Before its label was set, each server answered 2 requests as when it was validated." in told


def test_a_version_that_answers_otherwise_than_validated_gets_no_label(fleet: Fleet) -> None:
    published(fleet, ten_times(1.0), ten_times(2.5, factor=10.5))
    agent = fleet.run_agent()
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert over["phase"] == "ROLLED_BACK"
    assert "it does not answer as when it was validated: y: 25 at [0], was 26.25" in over["why"]
    assert not any("canary': 2" in str(record["data"].get("labels")) for record in agent.records(name))


def test_a_byte_that_changes_on_trial_stops_it_before_users_get_it(fleet: Fleet) -> None:
    folder = published(fleet)
    agent = fleet.run_agent(analysis={"least_pairs": 3000, "budget": "5m"})
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    (folder / "more").write_bytes(b"x")
    agent.post(f"/v1/rollouts/{name}/commands", kind="promote")
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert (over["phase"], "is not what was published" in over["why"]) == ("ROLLED_BACK", True), over["why"]
    assert not any("'stable': 2" in str(record["data"].get("labels")) for record in agent.records(name))
    assert agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}


def test_a_version_nobody_published_says_so(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent()
    name = agent.begin(2)
    agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    told = agent.get(f"/v1/rollouts/{name}/explanation").json()["sentences"]
    assert any(
        one.startswith("Unverified: whether its files are those that were published is not known") for one in told
    )
    assert any("未核实" in one for one in agent.get(f"/v1/rollouts/{name}/explanation?language=zh").json()["sentences"])


def test_what_the_agent_uses_is_not_cleaned_up(fleet: Fleet) -> None:
    for k in (10.0, 11.0, 12.0, 13.0):
        published(fleet, k=k)
    agent = fleet.run_agent()
    arguments = ["release", "gc", MODEL, "--from", str(fleet.first.models), "--agent", agent.url, "--keep", "1"]

    def gone() -> set[int]:
        result = CliRunner().invoke(main, [*arguments, "-o", "json"])
        assert result.exit_code == 0, result.output
        return {one["version"] for one in json.loads(result.stdout) if one["delete"]}

    assert gone() == {2, 3, 4}, "1 was put there by hand and is stable, 5 is the newest"
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING", "PROMOTING", "BAKING", "SUCCEEDED")
    assert gone() == {3, 4}
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "SUCCEEDED"
    assert CliRunner().invoke(main, [*arguments, "--delete"]).exit_code == 0
    assert sorted(path.name for path in (fleet.first.models / MODEL).iterdir() if path.name.isdigit()) == [
        "1",
        "2",
        "5",
    ]
    assert agent.labels() == {"r0": {"stable": 2}, "r1": {"stable": 2}}
