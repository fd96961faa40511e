"""The workflow files of the pipeline's example are what GitHub and GitLab take, and run what is there."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "pipeline"
FILES = {"github.yml": "vendor.github-workflows", "gitlab-ci.yml": "vendor.gitlab-ci"}


@pytest.mark.parametrize(("file", "schema"), FILES.items())
def test_a_workflow_is_what_its_service_takes(file: str, schema: str, tmp_path: Path) -> None:
    assert checked(EXAMPLE / file, schema) == 0
    wrong = tmp_path / file
    wrong.write_text((EXAMPLE / file).read_text().replace("timeout", "time_out"))
    assert checked(wrong, schema) == 1, "the schema takes anything"


def checked(file: Path, schema: str) -> int:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.parametrize("file", FILES)
def test_a_workflow_runs_the_example(file: str) -> None:
    text = (EXAMPLE / file).read_text()
    assert "sh docs/examples/pipeline/run.sh" in text
    assert isinstance(yaml.safe_load(text), dict)


def test_the_script_is_sh_and_says_what_it_lacks(tmp_path: Path) -> None:
    assert subprocess.run(["sh", "-n", str(EXAMPLE / "run.sh")], check=False).returncode == 0
    bare = {"PATH": "/usr/bin:/bin"}
    run = subprocess.run(["sh", str(EXAMPLE / "run.sh")], env=bare, cwd=tmp_path, capture_output=True, check=False)
    assert (run.returncode != 0, b"STORE: where versions are kept" in run.stderr) == (True, True)
    assert not list(tmp_path.iterdir())
