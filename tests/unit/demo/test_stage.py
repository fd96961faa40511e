"""The stage: a config the agent accepts, processes that end, a directory that goes away."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from haldane.config import load_config
from haldane.demo import processes, stage
from haldane.demo.pager import Pager
from haldane.demo.prepare import LABELLED_SET
from haldane.demo.visitor import wait_until
from haldane.domain.rollout import Mode
from haldane.sandbox.freeport import free_port


@pytest.fixture
def place(tmp_path: Path) -> stage.Stage:
    """A stage with two replicas that nobody started."""
    one = stage.Stage(tmp_path, pager=Pager("http://127.0.0.1:1", "nobody"))
    for path in (one.made, one.published, one.logs):
        path.mkdir(parents=True)
    (one.made / LABELLED_SET).touch()
    nobody: Any = None
    one.replicas = [stage.Replica(f"replica-{number}", 1000 + number, 2000 + number, nobody) for number in (1, 2)]
    return one


def test_the_agent_accepts_the_config(place: stage.Stage) -> None:
    stage.write_model_config(place)
    path, port, _ = stage.write_agent_config(place)
    config = load_config(path)
    assert config.mode is Mode.ENFORCE
    assert config.listen == f"127.0.0.1:{port}"
    assert [server.name for server in config.fleet] == ["replica-1", "replica-2"]
    rules = config.analysis_of("credit").rules(rate_per_second=config.shadow.rate)
    assert set(rules.objectives) == {"accuracy", "latency"}


def test_nobody_else_can_read_the_token(place: stage.Stage) -> None:
    stage.write_model_config(place)
    stage.write_agent_config(place)
    assert (place.directory / "token").stat().st_mode & 0o077 == 0


def test_publishing_moves_a_version_whole(place: stage.Stage) -> None:
    (place.made / "2").mkdir()
    (place.made / "2" / "saved_model.pb").write_bytes(b"model")
    place.publish(2)
    assert (place.published / "2" / "saved_model.pb").read_bytes() == b"model"
    assert not (place.made / "2").exists()


def test_a_process_that_ignores_the_first_signal_is_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ENOUGH_SECONDS", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with processes.running([sys.executable, "-c", deaf], tmp_path / "log") as process:
        wait_until(lambda: "up" in processes.last_lines(tmp_path / "log"), 20, "it does not start")
    assert process.poll() is not None


def test_ports_given_one_after_the_other_differ() -> None:
    assert len({free_port() for _ in range(20)}) == 20


@pytest.mark.parametrize("keep", [True, False])
def test_the_directory_stays_only_when_kept(keep: bool) -> None:
    with stage.directory(lambda: keep) as place:
        assert place.made.is_dir()
    assert place.directory.is_dir() is keep
    if keep:
        shutil.rmtree(place.directory)


def test_making_models_that_fails_says_why(place: stage.Stage) -> None:
    shutil.rmtree(place.made)
    place.made.touch()  # a file where a directory should be
    with pytest.raises(RuntimeError, match="making the models failed"):
        stage.prepare(place, 1, lambda done: None)
