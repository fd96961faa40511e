"""The Kubernetes manifests: right by the schemas, of least right, and true to the files and the code they stand for.

No cluster was at hand: these tests say nothing about how they run.
"""

import subprocess
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import kubernetes_validate
import pytest
import yaml
from prometheus_client import CollectorRegistry

from haldane.config import load_config
from haldane.serving.modelconfig import parse
from haldane.testing.gallery import MemoryAgent
from haldane.web.server import make_app

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"

AGENTS = ["haldane.yaml", "haldane-postgresql.yaml"]
VERSIONS = ["1.30.0", kubernetes_validate.latest_version()]  # the oldest and the newest promised
TEXT = {"type": "string"}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def one(name: str, kind: str) -> dict[str, Any]:
    [found] = [document for document in documents(name) if document["kind"] == kind]
    return found


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = one(name, "Deployment")["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [*AGENTS, "discovery.yaml", "bootconfig.yaml"])
def test_every_object_keeps_to_the_schema(name, version):
    for document in documents(name):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_schema_would_find_a_mistyped_key():
    broken = one("haldane.yaml", "Deployment")
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", AGENTS)
def test_the_pod_has_no_right_it_does_not_use(name):
    """Pod Security Standards, level restricted; and nothing at all of the Kubernetes API."""
    assert {document["kind"] for document in documents(name)} <= {
        "ConfigMap",
        "Deployment",
        "PersistentVolumeClaim",
        "Service",
        "ServiceAccount",
    }
    assert one(name, "ServiceAccount")["automountServiceAccountToken"] is False
    spec = pod(name)
    assert spec["automountServiceAccountToken"] is False
    assert (spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["seccompProfile"]) == (
        True,
        {"type": "RuntimeDefault"},
    )
    [container] = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert f"--uid {spec['securityContext']['runAsUser']} " in (ROOT / "Dockerfile").read_text()
    writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"state", "tmp"}


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("discovery.yaml", {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]}),
        (
            "bootconfig.yaml",
            {
                "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": ["tfs-models"],
                "verbs": ["get", "patch"],
            },
        ),
    ],
)
def test_what_takes_more_has_a_role_of_its_own_with_no_right_too_many(name, rule):
    assert one(name, "Role")["rules"] == [rule]
    binding = one(name, "RoleBinding")
    assert binding["roleRef"]["name"] == one(name, "Role")["metadata"]["name"]
    [subject] = binding["subjects"]
    assert (subject["kind"], subject["name"]) == ("ServiceAccount", pod("haldane.yaml")["serviceAccountName"])


@pytest.mark.parametrize("name", AGENTS)
def test_there_is_one_agent_and_never_two_at_a_time(name):
    spec = one(name, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


@pytest.mark.parametrize("name", AGENTS)
async def test_probes_and_ports_lead_somewhere(name):
    [container] = pod(name)["containers"]
    [port] = container["ports"]
    [service] = one(name, "Service")["spec"]["ports"]
    assert (service["targetPort"], service["port"]) == (port["name"], port["containerPort"])
    transport = httpx.ASGITransport(make_app(MemoryAgent(), registry=CollectorRegistry(), token="t"))
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as http:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            get = container[probe]["httpGet"]
            assert get["port"] == port["name"]
            assert (await http.get(get["path"])).status_code == 200


@pytest.mark.parametrize("name", AGENTS)
def test_the_agents_config_is_right_and_every_path_in_it_is_mounted(name, tmp_path):
    [container] = pod(name)["containers"]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    volumes = {volume["name"] for volume in pod(name)["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    text = one(name, "ConfigMap")["data"]["haldane.yaml"]
    paths = [word for word in text.split() if word.startswith("/")]
    assert paths
    assert [path for path in paths if not any(path.startswith(mount) for mount in mounts)] == []
    secrets = {"token": "a-long-random-word", "store": "postgresql+psycopg://me:secret@db/haldane"}
    for key, secret in secrets.items():
        (tmp_path / key).write_text(secret)
    (tmp_path / "models.config").write_text(one(name, "ConfigMap")["data"]["models.config"])
    path = tmp_path / "haldane.yaml"
    path.write_text(text.replace("/etc/haldane-secrets", str(tmp_path)).replace("/var/lib/haldane", str(tmp_path)))
    config = load_config(path, parse_models=lambda text, source: parse(text, source=source))
    assert config.listen.endswith(f":{container['ports'][0]['containerPort']}")
    assert config.store_url.get_secret_value().startswith("postgresql" if "postgresql" in name else "sqlite:")


def test_the_operators_objects_select_what_there_is():
    monitors = {document["kind"]: document for document in documents("monitoring.yaml")}
    endpoint = {
        "type": "object",
        "additionalProperties": False,
        "required": ["port", "path"],
        "properties": {"port": TEXT, "path": TEXT, "interval": TEXT, "relabelings": {"type": "array"}},
    }
    # What is used here of monitoring.coreos.com_{service,pod}monitors.yaml.
    for kind, endpoints in (("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")):
        properties = {"selector": {"type": "object"}, endpoints: {"type": "array", "items": endpoint, "minItems": 1}}
        schema = {"type": "object", "additionalProperties": False, "required": ["selector"], "properties": properties}
        jsonschema.validate(monitors[kind]["spec"], schema)
    service = one("haldane.yaml", "Service")
    selector = monitors["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert selector.items() <= service["metadata"]["labels"].items()
    assert monitors["ServiceMonitor"]["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    [relabel] = monitors["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["relabelings"]
    assert f'job="{relabel["replacement"]}"' in (ROOT / "rules" / "haldane.yml").read_text()


def test_prometheus_takes_the_rules_as_they_stand_in_the_operators_object(need_binary, tmp_path):
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump(one("prometheusrule.yaml", "PrometheusRule")["spec"]))
    command = [need_binary("promtool"), "check", "rules", str(rules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert yaml.safe_load(rules.read_text()) == yaml.safe_load((ROOT / "rules" / "haldane.yml").read_text())
