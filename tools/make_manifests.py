"""Writes deploy/kubernetes/{haldane-postgresql,prometheusrule}.yaml; `--check` only says what differs.

The one is haldane.yaml with the store in PostgreSQL instead of on a volume, the
other rules/haldane.yml as the Prometheus operator takes it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "deploy" / "kubernetes"
NOTE = "# Made by tools/make_manifests.py from {source}; change it there.\n"
POSTGRESQL = """\
#
#   kubectl -n serving create secret generic haldane --from-literal=token="$(openssl rand -hex 32)" \\
#       --from-literal=store="postgresql+psycopg://haldane:PASSWORD@HOST/haldane"
#
# What is left in state_dir is a note of which notices were sent: without it a restart tells open conditions anew.
"""


class Dumper(yaml.SafeDumper):
    """Blocks of text as blocks, so that configs and expressions can be read."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Dumper.add_representer(str, _text)


def _dumped(documents: list[Any]) -> str:
    return yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)


def postgresql() -> str:
    """The agent with its store in PostgreSQL: no volume claim, so the pod may start on any node."""
    documents = list(yaml.safe_load_all((FOLDER / "haldane.yaml").read_text()))
    kept = [one for one in documents if one["kind"] != "PersistentVolumeClaim"]
    for one in kept:
        if one["kind"] == "ConfigMap":
            one["data"]["haldane.yaml"] += "store_file: /etc/haldane-secrets/store\n"
        if one["kind"] == "Deployment":
            pod = one["spec"]["template"]["spec"]
            [state] = [volume for volume in pod["volumes"] if volume["name"] == "state"]
            del state["persistentVolumeClaim"]
            state["emptyDir"] = {"sizeLimit": "1Gi"}
    return NOTE.format(source="haldane.yaml") + POSTGRESQL + _dumped(kept)


def prometheus_rule() -> str:
    """rules/haldane.yml as a PrometheusRule."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "haldane", "labels": {"app.kubernetes.io/name": "haldane"}},
        "spec": yaml.safe_load((ROOT / "rules" / "haldane.yml").read_text()),
    }
    return NOTE.format(source="rules/haldane.yml") + _dumped([rule])


PAGES = {"haldane-postgresql.yaml": postgresql, "prometheusrule.yaml": prometheus_rule}


def differing() -> Iterator[str]:
    """The files that are not what they would be."""
    for name, make in PAGES.items():
        path = FOLDER / name
        if not path.exists() or path.read_text() != make():
            yield f"deploy/kubernetes/{name}"


def run() -> int:
    if "--check" in sys.argv[1:]:
        stale = list(differing())
        for name in stale:
            print(f"{name} is stale: run python tools/make_manifests.py")
        return 1 if stale else 0
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make())
    return 0


if __name__ == "__main__":
    sys.exit(run())
