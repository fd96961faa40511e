"""Rollouts from start to end, the agent as a process over toy sandboxes."""

import re

from tests.fleet import Fleet

from haldane.adapters.sql import open_store
from haldane.domain.record import Record, first_break
from haldane.serving import modelconfig


def test_a_good_version_is_promoted_on_every_server(fleet: Fleet) -> None:
    fleet.add(2)
    boots_with = fleet.directory / "boot.config"
    boots_with.write_text(fleet.base().read_text())
    agent = fleet.run_agent(boot_configs=[{"file": str(boots_with)}])
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert (over["phase"], over["verdict"]) == ("SUCCEEDED", "pass"), over["why"]
    agent.wait(lambda: agent.labels() == {"r0": {"stable": 2}, "r1": {"stable": 2}}, "at rest on version 2")
    boot = f"file {boots_with}"
    agent.wait(lambda: agent.get("/v1/status").json()["boot"] == {boot: "as it should be"}, "told")
    agent.wait(lambda: modelconfig.parse(boots_with.read_text()).models[0].versions == (2,), "what servers boot with")


def test_a_wrong_version_is_withdrawn_from_every_server(fleet: Fleet) -> None:
    fleet.add(2, k=20.0)
    agent = fleet.run_agent()
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert (over["phase"], over["verdict"]) == ("ROLLED_BACK", "fail"), over["why"]
    assert agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}
    ruling = agent.get(f"/v1/rollouts/{name}").json()["ruling"]
    assert {f["metric"]: f["state"] for f in ruling["findings"]}["accuracy"] == "harmful"


def test_a_version_that_cannot_be_loaded_never_gets_a_label(fleet: Fleet) -> None:
    fleet.add(2, "corrupt_pb")
    agent = fleet.run_agent()
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD", seconds=90)
    assert over["phase"] == "ROLLED_BACK"
    assert "DATA_LOSS" in over["why"]
    assert not any("canary" in str(record["data"].get("labels")) for record in agent.records(name))
    page = agent.get("/metrics").text
    assert re.search(r'tensorflow_serving_load_failures_total\{model="scorer",version="2"\} [1-9]', page)


def test_a_version_that_loads_but_cannot_answer_never_gets_a_label(fleet: Fleet) -> None:
    fleet.add(2, "missing_variables", k=10.0)
    agent = fleet.run_agent()
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert over["phase"] == "ROLLED_BACK"
    assert "cannot answer" in over["why"]
    assert not any("canary" in str(record["data"].get("labels")) for record in agent.records(name))


def test_a_person_can_abort_and_the_records_say_who_and_why(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent(analysis={"least_pairs": 3000, "budget": "5m"})
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    answer = agent.post(f"/v1/rollouts/{name}/commands", kind="abort")
    assert answer.json()["after"] == "ROLLING_BACK"
    agent.wait_phase(name, "ROLLED_BACK")
    assert agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}
    assert {"abort", "ada"} <= {str(v) for r in agent.records(name) for v in r["data"].values()}


def test_a_pause_holds_and_a_resume_goes_on(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent()
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    assert agent.post(f"/v1/rollouts/{name}/commands", kind="pause").json()["after"] == "HELD"
    assert agent.labels()["r0"] == {"canary": 2, "stable": 1}
    assert agent.post(f"/v1/rollouts/{name}/commands", kind="resume").status_code == 200
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK")["phase"] == "SUCCEEDED"


def test_harm_that_begins_while_a_rollout_is_held_with_users_on_it_takes_them_back(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent(plan={"load": "60s", "bake": "10m", "change": "60s"})
    name = agent.begin(2)
    agent.wait_phase(name, "BAKING")
    assert agent.post(f"/v1/rollouts/{name}/commands", kind="pause").json()["after"] == "HELD"
    for index in range(2):
        fleet.break_(index, kind="fail", version=2)
    over = agent.wait_phase(name, "ROLLED_BACK", "SUCCEEDED", seconds=150)
    assert (over["phase"], over["verdict"]) == ("ROLLED_BACK", "fail"), over["why"]
    assert agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}


def test_observe_mode_touches_nothing_and_recommends(fleet: Fleet) -> None:
    fleet.add(2, k=20.0)
    for sandbox in fleet.sandboxes:  # somebody else loads both versions
        sandbox.stop()
        sandbox.start(sandbox.config(sandbox.entry("scorer", 1, 2)), rest=True)
    agent = fleet.run_agent(
        mode="observe",
        models={
            "scorer": {
                "clients": "label",
                "stable": 1,
                "traffic": {"labelled": str(fleet.rows()), "label": "truth"},
            }
        },
    )
    name = agent.begin(2)
    over = agent.wait_phase(name, "HELD")
    assert "recommends withdrawing" in over["why"]
    assert agent.labels() == {"r0": {}, "r1": {}}
    assert "haldane_reloads_total{" not in agent.get("/metrics").text


def test_a_server_with_somebody_elses_model_is_refused(fleet: Fleet) -> None:
    fleet.add(2)
    other = fleet.sandboxes[1]
    other.stop()
    other.add("fraud", 1)
    other.start(other.config(other.entry("scorer", 1), other.entry("fraud", 1)), rest=True)
    agent = fleet.run_agent()
    answer = agent.post("/v1/rollouts", model="scorer", version=2)
    assert answer.status_code == 409
    assert "fraud" in answer.text and "adopt" in answer.text


def test_what_cannot_be_started_says_why(fleet: Fleet) -> None:
    agent = fleet.run_agent()
    for body, code, words in (
        ({"model": "nope", "version": 2}, 404, "scorer"),
        ({"model": "scorer", "version": 1}, 409, "stable already"),
        ({"model": "scorer", "version": 7}, 409, "no version 7"),
    ):
        answer = agent.post("/v1/rollouts", **body)
        assert (answer.status_code, words in answer.text) == (code, True), answer.text


def test_the_audit_log_is_an_unbroken_chain(fleet: Fleet) -> None:
    fleet.add(2, k=20.0)
    agent = fleet.run_agent()
    agent.wait_phase(agent.begin(2), "ROLLED_BACK")
    agent.stop()
    store = open_store(f"sqlite:///{fleet.directory / 'state' / 'haldane.db'}")
    records: list[Record] = store.records()
    store.close()
    assert len(records) > 4
    assert first_break(records) is None
