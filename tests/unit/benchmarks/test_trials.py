"""The trials are those of the public file: draws, configs, floors and rules were recorded from it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from benchmarks.trials import goals
from benchmarks.trials.run import Result, endings, evaluate
from benchmarks.trials.scenarios import LASTING, PUBLIC, SCENARIOS, identical

RECORDED = json.loads((Path(__file__).parents[2] / "data" / "judge_trials.json").read_text())
TRIAL, SEED = 3, 7  # of the recorded draws


def test_every_public_scenario_is_carried_and_no_name_is_used_twice():
    assert [scenario.name for scenario in PUBLIC] == list(RECORDED)
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


@pytest.mark.parametrize("scenario", PUBLIC, ids=lambda scenario: scenario.name)
def test_a_scenario_draws_the_recorded_numbers(scenario):
    recorded = RECORDED[scenario.name]
    assert (scenario.truth, scenario.batch) == (recorded["truth"], recorded["batch"])
    assert scenario.config() == recorded["config"]
    batches = list(scenario.batches(TRIAL, SEED))
    assert sum(int(batch["n"]) for batch in batches) == scenario.horizon
    for name, column in recorded["columns"].items():
        drawn = np.concatenate([batch[name] for batch in batches])
        assert (drawn.size, int((~np.isnan(drawn)).sum())) == (column["n"], column["known"])
        assert np.nansum(drawn) == pytest.approx(column["sum"], rel=1e-9)
        some = [value if value is not None else math.nan for value in column["first"] + column["last"]]
        assert [*drawn[:3], drawn[-1]] == pytest.approx(some, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("scenario", PUBLIC, ids=lambda scenario: scenario.name)
def test_the_floor_is_the_recorded_one(scenario):
    recorded = RECORDED[scenario.name]["floor"]
    assert scenario.floor() == (recorded if recorded is None else pytest.approx(recorded, rel=1e-6))


@pytest.mark.parametrize(
    "scenario", [each for each in PUBLIC if "verdicts" in RECORDED[each.name]], ids=lambda scenario: scenario.name
)
def test_the_other_rules_end_as_recorded(scenario):
    recorded = RECORDED[scenario.name]["verdicts"]
    ended = endings(scenario, list(recorded), range(2), SEED)
    assert {judge: [list(each) for each in found] for judge, found in ended.items()} == {
        judge: (found or [])[:2] for judge, found in recorded.items()
    }


def test_a_trial_without_the_right_verdict_is_infinitely_long():
    scenario = next(each for each in PUBLIC if each.name == "acc+5-late")
    ended = [("rollback", 5000), ("rollback", 4400), ("promote", 7000), ("inconclusive", 20_000), ("rollback", 4000)]
    found = evaluate(scenario, "some", 0, ended)
    assert (found.rollbacks, found.promotions, found.early_rollbacks, found.early_promotions) == (3, 1, 1, 0)
    assert found.median == 1000  # after the change at pair 4,000
    assert found.p90 is None


def a_result(scenario: str, truth: str, **more: object) -> Result:
    counts = {"trials": 1000, "rollbacks": 0, "promotions": 0, "early_promotions": 0, "early_rollbacks": 0}
    blank = {"judge": "some", "seed": 0, "median": None, "p90": None, "floor": None}
    return Result(**{"scenario": scenario, "truth": truth, **counts, **blank, **more})


@pytest.mark.parametrize(
    ("name", "figures", "said"),
    [
        ("acc-edge-b02-m1", {"rollbacks": 10, "promotions": 50}, []),
        ("acc-edge-b02-m1", {"rollbacks": 11}, ["false rollback 1.10% > 1%"]),
        ("acc-edge-b02-m1", {"promotions": 51}, ["false promotion 5.10% > 5%"]),
        (LASTING[0].name, {"rollbacks": 20}, []),
        ("cpu-aa", {"rollbacks": 1}, ["false rollback 0.10% > 0%"]),
        ("acc+2-b02-m1", {"median": 1400.0, "floor": 1000.0}, []),
        ("acc+2-b02-m1", {"median": 1410.0, "floor": 1000.0}, ["median / floor 1.41 > 1.4"]),
        ("acc+2-b02-m1", {}, ["no right verdict in half of the trials"]),
        ("lat+25-m5", {"median": 90.0, "floor": 27.0}, ["median 90 > 80 pairs"]),
        ("acc+5-late", {"median": 700.0, "floor": 300.0, "early_promotions": 1}, ["promoted before the least pairs"]),
    ],
)
def test_a_missed_goal_is_said(name, figures, said):
    scenario = next(each for each in SCENARIOS if each.name == name)
    found = list(goals.missed(scenario, a_result(name, scenario.truth, **figures)))
    assert len(found) == len(said)
    assert all(text.startswith(start) for text, start in zip(found, said, strict=True))


def test_every_goal_names_a_scenario_that_has_a_right_verdict():
    truths = {scenario.name: scenario.truth for scenario in SCENARIOS}
    assert all(truths[name] in ("good", "bad") for name in goals.SPEED)
    assert any(identical(scenario) for scenario in SCENARIOS)
