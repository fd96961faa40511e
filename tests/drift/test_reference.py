"""What is made from other files is what it would be made again: reference pages, Kubernetes manifests."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from haldane.config import ConfigError, load_config
from haldane.web.api import Api

ROOT = Path(__file__).resolve().parents[2]


def tool(name: str) -> ModuleType:
    """A program of tools/, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_reference, make_manifests = tool("make_reference"), tool("make_manifests")


@pytest.mark.parametrize("name", make_manifests.PAGES)
def test_a_manifest_is_what_it_is_made_from(name):
    made = make_manifests.PAGES[name]()
    assert (make_manifests.FOLDER / name).read_text() == made, "run .venv/bin/python tools/make_manifests.py"


@pytest.mark.parametrize("name", make_reference.PAGES)
def test_a_reference_page_is_what_the_code_says(name):
    stored = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert stored == make_reference.PAGES[name](), "run .venv/bin/python tools/make_reference.py"


def test_every_route_stands_in_the_table():
    page = make_reference.api_page().replace("ID", "{rollout}")
    for route in Api(None, "").routes():
        method = next(iter(route.methods - {"HEAD"}))
        assert f"| {method} {route.path} |" in page


def test_every_setting_has_a_meaning():
    for _, section in make_reference._sections("", make_reference.Config):
        assert section.__doc__
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name} says nothing of itself"


def test_the_example_is_a_minimal_config():
    assert len(make_reference.EXAMPLE.splitlines()) <= 10
    made = make_reference.Config.model_validate(yaml.safe_load(make_reference.EXAMPLE))
    assert made.models.keys() == {"credit_risk"}
    assert re.search(r"^## `models\.NAME\.traffic`", make_reference.config_page(), re.M)


def config_blocks():
    """Every config in a document or an example, with where it stands."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in sorted(pages):
        for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S)):
            if re.search(r"^servers:", block, re.M):
                yield pytest.param(block, id=f"{page.relative_to(ROOT)}#{number}")
    for path in sorted((ROOT / "docs" / "examples").rglob("haldane.yaml")):
        yield pytest.param(path.read_text(), id=str(path.relative_to(ROOT)))


@pytest.mark.parametrize("text", list(config_blocks()))
def test_a_config_in_the_documents_is_right_but_for_files_a_reader_has(text, tmp_path):
    path = tmp_path / "haldane.yaml"
    path.write_text(text)
    try:
        load_config(path)
    except ConfigError as error:
        wrong = [str(one) for one in error.problems if not re.search(r"no such file|cannot read|is not set", one.says)]
        assert not wrong
