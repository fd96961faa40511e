"""`haldane demo`, as a newcomer runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

HALDANE = [sys.executable, "-c", "from haldane.cli import main; main()"]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Path]:
    """The table, what was said, and the report."""
    home = tmp_path_factory.mktemp("demo")
    command = [*HALDANE, "demo", "--json", str(home / "table.json"), "--report", str(home / "report.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((home / "table.json").read_text()), done.stdout, home / "report.html"


pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(300)]


def test_every_verdict_is_right(played: tuple[dict[str, Any], str, Path]) -> None:
    table, _, _ = played
    assert table["right"], table["acts"]
    assert [act["version"] for act in table["acts"]] == [2, 3, 4, 5, 6]


def test_the_labels_tell_the_same_story(played: tuple[dict[str, Any], str, Path]) -> None:
    acts = {act["version"]: act for act in played[0]["acts"]}
    stable = {number: {labels["stable"] for labels in act["labels_after"].values()} for number, act in acts.items()}
    assert [stable[number] for number in (2, 3, 4, 5)] == [{1}, {3}, {3}, {3}]
    assert stable[6] in ({3}, {6})
    assert all(len(act["labels_after"]) == 2 for act in acts.values())


def test_the_failed_load_paged_somebody(played: tuple[dict[str, Any], str, Path]) -> None:
    alert = next(act["alert"] for act in played[0]["acts"] if act["version"] == 5)
    assert alert["model"] == "credit"
    assert alert["version"] == "5"


def test_the_seed_is_said_so_that_the_run_can_be_repeated(played: tuple[dict[str, Any], str, Path]) -> None:
    table, said, _ = played
    assert f"--seed {table['seed']}" in said


def test_the_report_stands_alone(played: tuple[dict[str, Any], str, Path]) -> None:
    page = played[2].read_text()
    assert "<svg" in page
    assert not [word for word in ('src="http', 'href="http', "<script") if word in page]


def test_ctrl_c_ends_everything_that_was_started(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*HALDANE, "demo", "--report", str(tmp_path / "report.html")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "agent:" in line:
            break
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert not list(tmp_path.glob("haldane-demo-*"))
    assert not still_running(str(tmp_path))


def test_a_real_prometheus_runs_beside_it_and_is_ended_with_it(
    need_binary: Callable[[str], str], tmp_path: Path
) -> None:
    need_binary("prometheus"), need_binary("alertmanager")
    process = subprocess.Popen(
        [*HALDANE, "demo", "--with-prometheus", "--report", str(tmp_path / "report.html")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    url = next(line.split("prometheus:")[1].strip() for line in process.stdout if "prometheus: http" in line)
    deadline = time.monotonic() + 60
    while up(url) != 3:  # the agent and two replicas
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert not still_running(str(tmp_path))


def up(url: str) -> int:
    answer = httpx.get(f"{url}/api/v1/query", params={"query": "up == 1"}, trust_env=False).json()
    return len(answer["data"]["result"])


def still_running(directory: str) -> list[str]:
    """Command lines of processes that name that directory."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(directory.encode() in word for word in words):
            lines.append(b" ".join(words).decode())
    return lines
