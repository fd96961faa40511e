"""Steps of traffic through a real HAProxy, with users who really call through it: all the way, and back."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.fleet import MODEL, AgentProcess, Fleet
from tests.gateways import HAProxy, predict_through

STEPS = ["10%", "50%", "100%"]
SHARE = 'haldane_gateway_share_seen_ratio{gateway="haproxy"} '


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, size=3)
    made.add(1)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def gateway(trio: Fleet, need_binary: Callable[[str], str], tmp_path: Path) -> Iterator[HAProxy]:
    made = HAProxy(need_binary("haproxy"), tmp_path, [sandbox.port for sandbox in trio.sandboxes])
    made.start()
    yield made
    made.stop()


class Users:
    """Call through the gateway without a pause, name no version, and note which version answered."""

    def __init__(self, gateway: HAProxy) -> None:
        self.answers: Counter[int] = Counter()
        self.errors: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._call, args=(gateway.address,))

    def __enter__(self) -> "Users":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _call(self, address: str) -> None:
        with predict_through(address, MODEL) as predict:
            while not self._over.wait(0.005):
                try:
                    self.answers[predict()] += 1
                except grpc.RpcError as error:
                    self.errors.append(str(error))


def run(fleet: Fleet, gateway: HAProxy, **more: Any) -> AgentProcess:
    config: dict[str, Any] = fleet.config()
    servers = config["servers"]
    servers[2]["canary"] = True
    model = {"clients": "unversioned", "placement": "own_replicas", "traffic": config["models"][MODEL]["traffic"]}
    plan = {**config["plan"], "traffic_steps": STEPS, "step": "1s", "step_pairs": 20}
    return fleet.run_agent(
        servers=servers,
        models={MODEL: model},
        gateways=[{"haproxy": gateway.socket, "backend": "serving"}],
        **{"plan": plan, **more},
    )


def seen_share(agent: AgentProcess) -> float:
    (line,) = [line for line in agent.get("/metrics").text.splitlines() if line.startswith(SHARE)]
    return float(line.removeprefix(SHARE))


def shares(agent: AgentProcess, name: str) -> list[float]:
    """The shares the rollout wanted, in order, without repeats."""
    told = [record["data"]["share"] for record in agent.records(name) if "share" in record["data"]]
    return [share for i, share in enumerate(told) if not i or share != told[i - 1]]


def test_users_go_to_a_good_version_in_steps_and_then_it_is_stable(trio: Fleet, gateway: HAProxy) -> None:
    trio.add(2)
    agent = run(trio, gateway)
    with Users(gateway) as users:
        name = agent.begin(2)
        agent.wait_phase(name, "RAMPING", "HELD", "ROLLED_BACK")
        assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "SUCCEEDED"
    assert shares(agent, name) == [0.0, 0.1, 0.5, 1.0, 0.0]
    assert users.errors == []
    assert users.answers[1] and users.answers[2]
    assert gateway.count(MODEL, 2, 50) == 50
    status = agent.get("/v1/status").json()
    assert (status["gateways"]["haproxy"]["share"], status["share"]) == (0.0, None)


def test_a_version_that_fails_under_users_gives_them_back(trio: Fleet, gateway: HAProxy) -> None:
    trio.add(2)
    plan = {"change": "20s", "traffic_steps": STEPS, "step": "1h", "step_budget": "2h"}
    agent = run(trio, gateway, plan=plan)
    name = agent.begin(2)
    agent.wait(lambda: seen_share(agent) > 0.05, "10 % of the calls there")
    trio.break_(2, kind="fail", version=2)
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "ROLLED_BACK"
    assert shares(agent, name) == [0.0, 0.1, 0.0]
    assert gateway.count(MODEL, 1, 50) == 50


def test_a_harmful_version_never_gets_a_user(trio: Fleet, gateway: HAProxy) -> None:
    trio.add(2, k=20.0)
    agent = run(trio, gateway)
    with Users(gateway) as users:
        name = agent.begin(2)
        assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "ROLLED_BACK"
    assert (set(users.answers), users.errors, shares(agent, name)) == ({1}, [], [0.0])
