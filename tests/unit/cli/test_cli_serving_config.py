"""`check serving-config`: exit codes, both forms, and what the disk says."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from haldane.cli import main

TEXT = """model_config_list {
  config {
    name: "credit"
    base_path: "BASE"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 } }
  }
}
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["check", "serving-config", *map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "credit" / "1").mkdir(parents=True)
    (tmp_path / "credit" / "1" / "saved_model.pb").write_bytes(b"\x08\x01")
    path = tmp_path / "models.config"
    path.write_text(TEXT.replace("BASE", str(tmp_path / "credit")))
    return path


def test_a_good_file_is_fine(file):
    result = run("--enforce", file)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "1 file(s): 0 error(s), 0 warning(s)\n")


def test_warnings_alone_are_no_failure_and_errors_are(file):
    file.write_text(file.read_text().replace("specific { versions: 1 }", "latest {}"))
    assert (run(file).exit_code, run("--enforce", file).exit_code) == (0, 2)
    assert f"{file}:6: warning: model credit: by the policy latest" in run(file).stdout


def test_json_has_every_finding(file):
    file.write_text(file.read_text().replace("versions: 1 }", "versions: 1 } }").replace('"credit"', '"a b"'))
    assert run(file, "-o", "json").exit_code == 2
    file.write_text(TEXT.replace('"BASE"', '"credit"'))
    told = json.loads(run(file, "-o", "json").stdout)
    assert told["errors"] == 1
    assert told["findings"][0] == {
        "file": str(file),
        "line": 4,
        "level": "error",
        "says": "model credit: base_path 'credit' must be absolute, like /models/credit or gs://bucket/path",
        "trap": 0,
    }


def test_trap_05_a_listed_version_that_is_not_on_the_disk_is_told(file):
    file.write_text(file.read_text().replace("versions: 1", "versions: 2"))
    result = run(file)
    assert result.exit_code == 2
    assert f"{file}:6: error: model credit: there is no version 2" in result.stdout and "[trap 5]" in result.stdout


def test_trap_27_a_listed_version_that_is_half_copied_is_told(file):
    (file.parent / "credit" / "1" / "saved_model.pb").unlink()
    result = run(file)
    assert (result.exit_code, "[trap 27]" in result.stdout) == (2, True)


def test_trap_06_a_base_path_that_is_not_there_is_told(file):
    file.write_text(file.read_text().replace("/credit", "/debit"))
    result = run(file)
    assert (result.exit_code, "does not open its ports" in result.stdout) == (0, True)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_a_mistake(file, content):
    bad = file.parent / "other.config"
    if content is not None:
        bad.write_bytes(content)
    result = run(file, bad)
    assert (result.exit_code, f"{bad}: cannot read it" in result.stderr) == (2, True)


def test_text_that_is_no_config_is_told_with_its_line(file):
    file.write_text("model_config_list {\n  config { nam: 1 }\n}\n")
    result = run(file)
    assert (result.exit_code, f"{file}:2: error:" in result.stdout, "Did you mean name?" in result.stdout) == (
        2,
        True,
        True,
    )
