"""A canary that is right for most and wrong for a few, judged by the fields of real requests."""

from pathlib import Path

from tests.fleet import ROWS, Fleet


def rows_by_country(fleet: Fleet) -> Path:
    """Every tenth row is German and has an x above 20; all others have one below 10."""
    path = fleet.directory / "by_country.csv"
    lines = ["x,country,truth"]
    for i in range(ROWS):
        country, x = ("DE", 20 + i / 1000) if i % 10 == 0 else ("FR", i / 1000)
        lines.append(f"{x},{country},{10 * x}")
    path.write_text("\n".join(lines))
    return path


def test_a_version_wrong_in_one_slice_only_is_withdrawn_for_it(fleet: Fleet) -> None:
    fleet.add(2, k=10.001)  # wrong by more than 0.01 above x = 10, that is for Germans, who are a tenth
    config = fleet.config()
    metrics = {**config["analysis"]["metrics"], "accuracy": "12pp"}
    slices = [{"field": "country", "values": ["DE", "FR", "AT"], "metrics": {"accuracy": "2pp", "errors": False}}]
    agent = fleet.run_agent(
        models={
            "scorer": {"clients": "label", "traffic": {"labelled": str(rows_by_country(fleet)), "label": "truth"}},
        },
        analysis={**config["analysis"], "metrics": metrics, "slices": slices},
    )
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert (over["phase"], over["verdict"]) == ("ROLLED_BACK", "fail"), over["why"]
    assert "worse in country=DE: accuracy" in over["why"]
    ruling = agent.get(f"/v1/rollouts/{name}").json()["ruling"]
    states = {finding["slice"]: finding["state"] for finding in ruling["findings"] if finding["slice"]}
    assert ruling["named"] == ["accuracy country=DE"]
    assert (states["country=DE"], states["country=AT"]) == ("harmful", "no data")
    assert agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}


def test_a_column_to_slice_by_that_is_missing_stops_the_rollout_before_it_starts(fleet: Fleet) -> None:
    fleet.add(2)
    config = fleet.config()
    agent = fleet.run_agent(analysis={**config["analysis"], "slices": ["country=DE"]})
    answer = agent.post("/v1/rollouts", model="scorer", version=2)
    assert answer.status_code == 502
    assert "no column to slice by named 'country'; the columns are x, truth" in answer.text
