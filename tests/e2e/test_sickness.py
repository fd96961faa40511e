"""A sick server, or a sick stable, is not taken for a bad version; the agent as a process over toy sandboxes."""

from tests.fleet import AgentProcess, Fleet


def explained(agent: AgentProcess, name: str) -> str:
    return " ".join(agent.get(f"/v1/rollouts/{name}/explanation").json()["sentences"])


def test_a_sick_server_is_set_aside_and_the_version_judged_on_the_other(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent()
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    fleet.break_(1, kind="fail", share=0.8)
    agent.wait(lambda: "r1 is set aside as sick" in explained(agent, name), "told that r1 is sick")
    over = agent.wait_phase(name, "PROMOTING", "BAKING", "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert over["verdict"] == "pass", over["why"]


def test_nothing_is_promoted_against_a_stable_that_fails_everywhere(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent(analysis={"least_pairs": 200, "warmup_pairs": 20, "budget": "12s"})
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    for index in range(2):
        fleet.break_(index, kind="fail", share=0.5)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD", seconds=90)
    assert (over["phase"], over["verdict"]) == ("HELD", "inconclusive"), over["why"]
    assert "nothing is promoted against a sick baseline" in over["why"]
