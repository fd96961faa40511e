"""The container set-up: right by the Compose schema, and every file it mounts is right by its own checker.

No container is started: these tests say nothing about the images.
"""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from haldane.sandbox import flags

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples" / "compose"
HALDANE = str(Path(sys.executable).parent / "haldane")


def resolved() -> dict[str, Any]:
    """The Compose file with YAML's own merges done (the checker does not do them)."""
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_the_compose_file_keeps_to_the_schema():
    compose_spec.PyCompose.from_yaml(yaml.safe_dump(resolved())).validate()


def test_the_checker_would_find_a_mistyped_key():
    broken = resolved()
    broken["services"]["grafana"]["restrt"] = "always"
    with pytest.raises(ValueError, match="restrt"):
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(broken)).validate()


def test_every_mounted_file_is_there():
    mounts = [
        mount.split(":")[0]
        for service in resolved()["services"].values()
        for mount in service.get("volumes", [])
        if mount.startswith("./") and mount.split(":")[0] != "./models"  # the user's own
    ]
    assert mounts
    assert [mount for mount in mounts if not (ROOT / mount).exists()] == []


def test_every_port_is_published_on_loopback_only():
    ports = [port for service in resolved()["services"].values() for port in service.get("ports", [])]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_images_are_pinned_to_a_version():
    images = [service["image"] for service in resolved()["services"].values() if "image" in service]
    assert images
    assert [image for image in images if ":" not in image or image.endswith(":latest")] == []


def test_prometheus_accepts_its_config_and_finds_the_rules(need_binary, tmp_path):
    (tmp_path / "rules").mkdir()
    (tmp_path / "prometheus.yml").write_text((EXAMPLES / "prometheus.yml").read_text())
    (tmp_path / "rules" / "haldane.yml").write_text((ROOT / "rules" / "haldane.yml").read_text())
    check([need_binary("promtool"), "check", "config", str(tmp_path / "prometheus.yml")])


def test_alertmanager_accepts_its_config(need_binary):
    check([need_binary("amtool"), "check-config", str(EXAMPLES / "alertmanager.yml")])


def test_the_agent_accepts_its_config(tmp_path, monkeypatch):
    monkeypatch.setenv("HALDANE_TOKEN", "a-long-random-word")
    (tmp_path / "models" / "credit_risk").mkdir(parents=True)
    (tmp_path / "models" / "credit_risk" / "held_out.parquet").touch()  # the user's own
    (tmp_path / "models.config").write_text((EXAMPLES / "models.config").read_text())
    (tmp_path / "haldane.yaml").write_text(
        (EXAMPLES / "haldane.yaml").read_text().replace("/models/", f"{tmp_path}/models/")
    )
    check([HALDANE, "check", "config", str(tmp_path / "haldane.yaml")])


def test_the_agent_looks_after_the_servers_that_are_there():
    config = yaml.safe_load((EXAMPLES / "haldane.yaml").read_text())
    replicas = [name for name, service in resolved()["services"].items() if "serving" in service.get("image", "")]
    assert [(server["name"], server["address"]) for server in config["servers"]] == [
        (name, f"{name}:8500") for name in replicas
    ]


def test_serving_would_take_its_flags_and_files():
    service = resolved()["services"]["serving-a"]
    line = flags.parse(service["command"])
    assert (line.unknown, line.complaints) == ((), ())
    assert line.allow_version_labels_for_unavailable_models  # models.config has a label
    check([HALDANE, "check", "serving-config", str(EXAMPLES / "models.config")])
    mounted = {mount.split(":")[1] for mount in service["volumes"]}
    assert {line.model_config_file, line.monitoring_config_file} <= mounted


def test_grafana_is_told_where_prometheus_and_the_boards_are():
    """Grafana has no checker of its own to run: what these files point to must be there."""
    mounts = dict(mount.split(":")[:2] for mount in resolved()["services"]["grafana"]["volumes"])
    inside = {target: source for source, target in mounts.items()}
    (source,) = yaml.safe_load((EXAMPLES / "grafana-datasource.yml").read_text())["datasources"]
    assert (source["type"], source["url"], source["access"]) == ("prometheus", "http://prometheus:9090", "proxy")
    (provider,) = yaml.safe_load((EXAMPLES / "grafana-dashboards.yml").read_text())["providers"]
    assert provider["type"] == "file"
    folder = ROOT / inside[provider["options"]["path"]]
    boards = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert len({board["uid"] for board in boards}) == len(boards) == 5
    assert mounts["./docs/examples/compose/grafana-datasource.yml"].startswith("/etc/grafana/provisioning/datasources/")
    assert mounts["./docs/examples/compose/grafana-dashboards.yml"].startswith("/etc/grafana/provisioning/dashboards/")


def test_the_image_copies_what_is_there_and_installs_extras_that_exist():
    text = (ROOT / "Dockerfile").read_text()
    left_out = (ROOT / ".dockerignore").read_text().split()
    for words in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        for source in words.split()[:-1]:
            assert (ROOT / source).exists()
            assert source not in left_out
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {*extras.split(",")} <= project["optional-dependencies"].keys()


def test_the_image_does_not_run_as_root_and_holds_no_tensorflow():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER haldane" in lines
    assert not [line for line in lines if line.startswith("RUN") and "tensorflow" in line]
    assert (ROOT / "agent" / "haldane" / "serving_protos.binpb").is_file()  # all it needs to speak Serving's messages


def test_nothing_that_the_image_installs_brings_tensorflow_along():
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', (ROOT / "Dockerfile").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in extras.split(",") for one in project["optional-dependencies"][extra]),
    ]
    seen: dict[str, set[str]] = {}
    waiting = [Requirement(one) for one in wanted]
    while waiting:
        one = waiting.pop()
        name, more = canonicalize_name(one.name), {"", *one.extras}
        if more <= seen.setdefault(name, set()):
            continue
        seen[name] |= more
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another system
        found = [Requirement(line) for line in needs]
        waiting += [r for r in found if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in more)]
    assert {"grpcio", "protobuf", "pyarrow"} <= seen.keys()
    assert not [name for name in seen if name.startswith(("tensorflow", "keras", "torch"))]


def check(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
