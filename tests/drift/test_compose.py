"""The container set-up: right by the Compose schema, and every file it mounts is right by its own checker.

No container is started: these tests say nothing about the images.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples" / "compose"


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


def test_the_agents_config_is_right(tmp_path, monkeypatch):
    from haldane.config import load_config
    from haldane.serving.modelconfig import parse

    monkeypatch.setenv("HALDANE_TOKEN", "a-long-random-word")
    text = (EXAMPLES / "haldane.yaml").read_text().replace("/var/lib/haldane", str(tmp_path))
    for name in ("models.config", "traffic/requests.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((EXAMPLES / name).read_text())
    path = tmp_path / "haldane.yaml"
    path.write_text(text)
    config = load_config(path, parse_models=lambda text, source: parse(text, source=source))
    assert [server.address for server in config.fleet] == ["serving-a:8500", "serving-b:8500"]


def test_the_requests_are_in_servings_rest_form():
    for line in (EXAMPLES / "traffic" / "requests.jsonl").read_text().splitlines():
        assert set(json.loads(line)) == {"instances"}


def test_the_image_does_not_run_as_root_and_holds_no_tensorflow():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER haldane" in lines
    assert not [line for line in lines if line.startswith("RUN") and "tensorflow" in line]


def check(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
