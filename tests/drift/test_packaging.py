"""What is generated, pinned, licensed and promised agrees with the code beside it."""

import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

# Written so that this file does not match itself.
REGISTRY_HOSTS = re.compile(r"(pypi|pythonhosted|npmjs|yarnpkg|(?:deb|security)\.debian|test\.pypi)\.(org|com|io)")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(work|farm)/(main|shared|\.library|[a-z]+/main)")


def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def tracked_texts(root: Path) -> list[tuple[Path, str]]:
    """Every file under version control that is text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    texts = []
    for name in filter(None, listed.split("\0")):
        path = root / name
        data = path.read_bytes() if path.is_file() else b""
        if b"\0" not in data:
            texts.append((path.relative_to(root), data.decode(errors="replace")))
    return texts


def test_the_descriptor_set_is_the_installed_packages_own(root, tmp_path):
    pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed")
    made = tmp_path / "made.binpb"
    # In a process of its own: the script puts a stub in the place of tensorflow.
    subprocess.run([sys.executable, root / "tools" / "make_descriptor_set.py", made], check=True, timeout=120)
    kept = root / "agent" / "haldane" / "serving_protos.binpb"
    assert made.read_bytes() == kept.read_bytes(), "run tools/make_descriptor_set.py and commit what it writes"


def test_imports_flow_one_way(root):
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_tracked_file_names_a_registry_host_or_a_path_of_one_machine(root):
    if not (root / ".git").exists():
        pytest.skip("not a git checkout, so there is no list of tracked files")
    found = [
        f"{path}: {hit.group()}"
        for path, text in tracked_texts(root)
        for pattern in (REGISTRY_HOSTS, MACHINE_PATHS)
        for hit in pattern.finditer(text)
    ]
    assert not found


def test_every_dependency_is_pinned(root):
    pins = {
        re.split(r"==", line)[0].lower().replace("_", "-")
        for line in (root / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    described = project(root)
    wanted = [*described["dependencies"], *chain.from_iterable(described["optional-dependencies"].values())]
    names = {re.split(r"[\[<>=!~; ]", line)[0].lower().replace("_", "-") for line in wanted} - {"haldane"}
    assert names <= pins, f"not in constraints.txt: {sorted(names - pins)}; run `make constraints`"


def test_constraints_hold_pins_and_nothing_else(root):
    odd = [
        line
        for line in (root / "constraints.txt").read_text().splitlines()
        if not re.fullmatch(r"[A-Za-z0-9._-]+==[^\s;@/]+( ; [^/@]+)?", line)
    ]
    assert not odd


def test_the_base_install_needs_no_tensorflow(root):
    assert not [line for line in project(root)["dependencies"] if "tensorflow" in line]


def test_the_version_is_the_same_everywhere_and_has_its_entry_in_the_changelog(root):
    version = project(root)["version"]
    assert importlib.import_module("haldane").__version__ == version
    assert re.search(rf"^## {re.escape(version)}\b", (root / "CHANGELOG.md").read_text(), re.M)


def test_licence_and_notice_are_there(root):
    assert "Apache License" in (root / "LICENSE").read_text()
    assert "The TensorFlow Authors" in (root / "NOTICE").read_text()


def test_every_entry_point_imports(root):
    described = project(root)
    groups = {"console_scripts": described["scripts"], **described.get("entry-points", {})}
    for group, entries in groups.items():
        for name, target in entries.items():
            importlib.metadata.EntryPoint(name, target, group).load()


def test_ci_runs_the_readmes_test_command(root):
    lines = [line.strip() for line in (root / ".ci" / "run").read_text().splitlines()]
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]
    assert os.access(root / ".ci" / "run", os.X_OK)
    for readme in ("README.md", "README.zh-CN.md"):
        assert "make test" in (root / readme).read_text()
