"""The workflow files of the pipeline's example are what GitHub and GitLab take, and run what is there."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from haldane.config import load_config
from haldane.serving.modelconfig import parse

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


def test_the_local_run_gives_the_script_all_it_needs_ends_with_its_code_and_leaves_nothing_running(
    tmp_path: Path,
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("python", "haldane"):
        (programs / name).write_text(LOCAL_STUB)
        (programs / name).chmod(0o755)
    log, out = tmp_path / "log", tmp_path / "out"
    script = ["sh", str(EXAMPLE / "run-locally.sh"), str(out)]
    own = {"PATH": f"{programs}:/usr/bin:/bin", "LOG": str(log), "PORT": "28500"}
    done = subprocess.run(script, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    calls = log.read_text().replace(str(EXAMPLE), "").splitlines()
    running = [int(line.split()[1]) for line in calls if line.startswith("running")]
    assert len(running) == 3, "two servers and the agent"
    for pid in running:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert "python /train.py build --seed 2" in calls
    assert f"haldane release publish build/export --model loans --to {out}/models --junit build/validate.xml" in calls
    assert "haldane release announce loans 7 --agent http://127.0.0.1:28504 --token-file state/token" in calls
    (out / "first").mkdir()
    (out / "first" / "holdout.csv").touch()  # train.py writes it
    load_config(out / "haldane.yaml", parse_models=lambda text, source: parse(text, source=source))
    (out / "models").mkdir()
    assert subprocess.run(script, env=own, capture_output=True, check=False).returncode == 2, "the folder is not empty"


LOCAL_STUB = """#!/bin/sh
echo "${0##*/} $*" >> "$LOG"
case "$*" in
"sandbox"* | "run"*) echo "running $$" >> "$LOG"; exec sleep 600 ;;
"status"*) test "$(grep -c ^running "$LOG")" = 3 ;;
"release publish"*) echo 7 ;;
"rollout wait"*) exit 1 ;;
esac
"""


def test_the_script_is_sh_and_says_what_it_lacks(tmp_path: Path) -> None:
    assert subprocess.run(["sh", "-n", str(EXAMPLE / "run.sh")], check=False).returncode == 0
    bare = {"PATH": "/usr/bin:/bin"}
    run = subprocess.run(["sh", str(EXAMPLE / "run.sh")], env=bare, cwd=tmp_path, capture_output=True, check=False)
    assert (run.returncode != 0, b"STORE: where versions are kept" in run.stderr) == (True, True)
    assert not list(tmp_path.iterdir())


STUB = """#!/bin/sh
echo "${0##*/} $*" >> "$LOG"
case "$*" in
*log_run.py*) echo run-1 > "$OUT/mlflow-run" ;;
"release publish"*) echo 7 ; exit "${PUBLISH:-0}" ;;
"rollout wait"*) exit "${WAIT:-0}" ;;
esac
"""


@pytest.fixture
def stubbed(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """Runs the script with programs that only say how they were called: its exit code, and the calls."""
    for name in ("python", "haldane"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(STUB)
        program.chmod(0o755)
    (tmp_path / "out").mkdir()

    def run(**given: str) -> tuple[int, list[str]]:
        log = tmp_path / "log"
        log.write_text("")
        own = {
            "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
            "LOG": str(log),
            "OUT": str(tmp_path / "out"),
            "STORE": "s3://m",
        }
        done = subprocess.run(["sh", str(EXAMPLE / "run.sh")], env={**own, **given}, capture_output=True, check=False)
        return done.returncode, log.read_text().replace(str(tmp_path), "").replace(str(EXAMPLE), "").splitlines()

    return run


def test_each_step_gets_what_the_one_before_it_gave(stubbed: Callable[..., tuple[int, list[str]]]) -> None:
    assert stubbed() == (
        0,
        [
            "python /train.py /out --seed 1",
            "haldane release publish /out/export --model loans --to s3://m --junit /out/validate.xml",
            "haldane release announce loans 7 --agent http://127.0.0.1:8620",
            "haldane rollout wait loans 7 --agent http://127.0.0.1:8620 --timeout 7200",
        ],
    )
    kafka = {"MLFLOW_TRACKING_URI": "http://m", "BROKERS": "k1:9092,k2:9092", "TOPIC": "releases"}
    _, calls = stubbed(**kafka)
    assert calls[1:4] == [
        "python /log_run.py /out loans",
        "haldane release publish /out/export --model loans --to s3://m --junit /out/validate.xml --mlflow-run run-1",
        "haldane release announce loans 7 --kafka k1:9092,k2:9092 --topic releases",
    ]
    assert stubbed(TOKEN_FILE="t")[1][2].endswith("--agent http://127.0.0.1:8620 --token-file t")


def test_it_ends_with_the_verdict_and_announces_nothing_that_was_refused(
    stubbed: Callable[..., tuple[int, list[str]]],
) -> None:
    assert stubbed(WAIT="1")[0] == 1
    code, calls = stubbed(PUBLISH="3")
    assert (code, calls[-1].split()[:3]) == (3, ["haldane", "release", "publish"])
