"""The stored form of a rollout: what was written by any release still loads, what a newer one wrote is refused."""

import json
from pathlib import Path

import pytest

from haldane.adapters.rows import rollout_from_json, rollout_to_json
from haldane.domain.evidence import Verdict
from haldane.domain.rollout import Phase, Plan
from haldane.ports import Malformed
from haldane.testing.builders import a_rollout

STORED = Path(__file__).parents[2] / "data" / "stored"


def test_a_rollout_stored_in_form_1_still_loads():
    loaded = rollout_from_json((STORED / "rollout-1.json").read_text())
    assert loaded == a_rollout(
        Phase.HELD,
        held_from=Phase.PROMOTING,
        promoted=("r0",),
        started_at=1760000000.25,
        phase_since=1760000100.5,
        verdict=Verdict.PASS,
        extensions=1,
        seed=4294967295,
        why="ada: a pause",
        analysis='{"alpha":0.05}',
        plan=Plan(at_once=2),
    )
    assert json.loads(rollout_to_json(loaded)) == json.loads((STORED / "rollout-1.json").read_text())


def test_a_field_that_came_later_has_its_default_in_an_older_rollout():
    body = json.loads(rollout_to_json(a_rollout(extensions=3)))
    del body["extensions"]
    assert rollout_from_json(json.dumps(body)).extensions == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema 2; this release reads 1"),
        ({"schema": None}, "schema None"),
        ({"weight": 3}, "unknown fields \\['weight'\\]"),
        ({"phase": "DANCING"}, "cannot be read"),
        ({"servers": 7}, "cannot be read"),
    ],
)
def test_what_this_release_cannot_know_is_refused_with_a_clear_word(change, words):
    body = json.loads(rollout_to_json(a_rollout())) | change
    with pytest.raises(Malformed, match=words):
        rollout_from_json(json.dumps(body))


def test_a_body_cut_off_by_a_full_disk_is_malformed():
    with pytest.raises(Malformed, match="cannot be read"):
        rollout_from_json(rollout_to_json(a_rollout())[:-20])


def test_a_rollout_in_its_steps_of_traffic_comes_back_as_it_was():
    plan = Plan(traffic_steps=(0.1, 1.0), step_seconds=5.0, step_pairs=7)
    ramping = a_rollout(Phase.RAMPING, plan=plan, step=2, step_at=12.5, step_from=0)
    assert rollout_from_json(rollout_to_json(ramping)) == ramping
