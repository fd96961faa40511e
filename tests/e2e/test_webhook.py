"""Conditions and rollouts reach a receiver by webhook; one that is gone holds up no rollout."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.fleet import MODEL, Fleet, fleet
from tests.receiver import SECRET, Receiver

from haldane.testing.sandboxes import free_port

__all__ = ["fleet"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with closing(Receiver()) as made:
        yield made


def hook(fleet: Fleet, url: str) -> dict[str, Any]:
    secret = fleet.directory / "webhook.secret"
    secret.write_text(SECRET + "\n")
    return {"url": url, "secret_file": str(secret)}


def test_a_rollout_and_the_failed_load_it_meets_are_told_once_each(fleet: Fleet, receiver: Receiver) -> None:
    fleet.add(5, "corrupt_pb")
    agent = fleet.run_agent(webhook=hook(fleet, receiver.url))
    name = agent.begin(5)
    told = []
    while not any(event.get_data().get("to") == "ROLLED_BACK" for event in told):
        told.append(receiver.next())
    moves = [event.get_data() for event in told if event.get_type().startswith("haldane.rollout.")]
    assert [move["seq"] for move in moves] == sorted({move["seq"] for move in moves})
    assert {move["rollout"] for move in moves} == {name}
    assert moves[0]["new"] == 5
    while not (failed := [one for one in told if one.get_type() == "haldane.condition.began"]):
        told.append(receiver.next())
    [one] = failed
    assert (one.get_data()["condition"], one.get_subject()) == ("failed_load", f"models/{MODEL}/versions/5")


def test_a_receiver_that_is_gone_holds_up_no_rollout_and_is_told_of(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent(webhook=hook(fleet, f"http://127.0.0.1:{free_port()}/"))
    name = agent.begin(2)
    assert agent.wait_phase(name, "SUCCEEDED")["verdict"] == "pass"
    assert 'haldane_notifications_total{notifier="webhook",result="unavailable"}' in agent.get("/metrics").text
