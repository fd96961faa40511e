"""The network policies: right by the schemas, and they let through what the manifests need and nothing else.

No cluster was at hand: what a policy lets through is worked out here, by the rules of the NetworkPolicy API.
"""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
HERE, MONITORING, SYSTEM = "serving", "monitoring", "kube-system"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


POLICIES = [one["spec"] for one in documents("networkpolicy.yaml")]
CONFIG, *_, DEPLOYMENT, _ = documents("haldane.yaml")
[SERVING] = [
    one["spec"]["selector"]["matchLabels"] for one in documents("monitoring.yaml") if one["kind"] == "PodMonitor"
]
AGENT = (HERE, DEPLOYMENT["spec"]["template"]["metadata"]["labels"])
SERVER = (HERE, SERVING)
Pod = tuple[str, dict[str, str]]  # namespace and labels


def lets(source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection goes through: what selects either end must allow it, and allows all where nothing does."""
    return _one_way("Egress", source, target, port, protocol) and _one_way("Ingress", target, source, port, protocol)


def _one_way(way: str, own: Pod, other: Pod, port: int, protocol: str) -> bool:
    selecting = [
        one for one in POLICIES if way in one["policyTypes"] and own[0] == HERE and _is(one["podSelector"], own[1])
    ]
    peers = "to" if way == "Egress" else "from"
    return not selecting or any(
        {"port": port, "protocol": protocol} in rule["ports"] and any(_peer(one, other) for one in rule[peers])
        for policy in selecting
        for rule in policy[way.lower()]
    )


def _is(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _peer(peer: dict[str, Any], other: Pod) -> bool:
    assert peer and peer.keys() <= {"podSelector", "namespaceSelector"}
    named = {"kubernetes.io/metadata.name": other[0]}
    there = _is(peer["namespaceSelector"], named) if "namespaceSelector" in peer else other[0] == HERE
    return there and _is(peer.get("podSelector", {}), other[1])


@pytest.mark.parametrize("version", ["1.30.0", kubernetes_validate.latest_version()])
def test_both_keep_to_the_schema(version):
    for document in documents("networkpolicy.yaml"):
        kubernetes_validate.validate(document, version, strict=True)


REST: Pod = (HERE, {"tensorflow-serving-client": "rest"})
GRPC: Pod = (HERE, {"tensorflow-serving-client": "grpc"})
PROMETHEUS: Pod = (MONITORING, {"app": "prometheus"})


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (AGENT, SERVER, 8500),
        (AGENT, SERVER, 8501),
        (PROMETHEUS, AGENT, 8620),
        (PROMETHEUS, SERVER, 8501),
        ((HERE, {"haldane-client": "true"}), AGENT, 8620),
        (REST, SERVER, 8501),
        (GRPC, SERVER, 8500),
    ],
)
def test_what_is_needed_goes_through(source, target, port):
    assert lets(source, target, port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (REST, SERVER, 8500),  # it could reload
        (PROMETHEUS, SERVER, 8500),
        ((HERE, {}), SERVER, 8500),
        ((HERE, {}), SERVER, 8501),
        ((HERE, {}), AGENT, 8620),
        (("elsewhere", GRPC[1]), SERVER, 8500),
        (("elsewhere", AGENT[1]), SERVER, 8500),
        (AGENT, (HERE, {"app": "postgresql"}), 5432),
        (AGENT, ("elsewhere", SERVER[1]), 8500),
        (AGENT, (SYSTEM, {"component": "kube-apiserver"}), 6443),
    ],
)
def test_nothing_else_goes_through(source, target, port):
    assert not lets(source, target, port)


def test_the_agent_finds_names():
    dns = (SYSTEM, {"k8s-app": "kube-dns"})
    assert lets(AGENT, dns, 53, "UDP")
    assert lets(AGENT, dns, 53)


def test_every_port_in_the_agents_config_goes_through():
    ports = {int(port) for port in re.findall(r"serving-\d\.serving:(\d+)", CONFIG["data"]["haldane.yaml"])}
    assert ports == {8500, 8501}
    assert all(lets(AGENT, SERVER, port) for port in ports)
    [container] = DEPLOYMENT["spec"]["template"]["spec"]["containers"]
    assert all(lets(PROMETHEUS, AGENT, port["containerPort"]) for port in container["ports"])
