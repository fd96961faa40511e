"""What a version costs, told apart in one process of real TensorFlow: CPU, memory, seconds to load."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.test_resources import MARGIN, costed, finding
from tests.fleet import MODEL, Fleet

from haldane.testing.sandboxes import TOY

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed: install haldane[sandbox]"
)
REAL = TOY.replace("--executor=toy", "--executor=tensorflow")
ROUNDS, MEGABYTES = 200, 10
MODELS = Path(__file__).with_name("cost_models.py")


def export(fleet: Fleet, version: int, rounds: int, megabytes: int) -> None:
    aside = fleet.first.models / MODEL / f".incoming-{version}"
    subprocess.run([sys.executable, str(MODELS), str(aside), str(rounds), str(megabytes)], check=True, timeout=120)
    aside.rename(aside.with_name(str(version)))


@pytest.fixture
def real_fleet(tmp_path: Path) -> Iterator[Fleet]:
    """One server, for two cores are busy with one; version 1 serves, version 2 is due."""
    made = Fleet(tmp_path, size=1, command=REAL)
    export(made, 1, ROUNDS, MEGABYTES)
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_cpu_memory_and_load_time_of_a_version_are_told_apart_in_one_process(real_fleet: Fleet) -> None:
    """Twice the work a call, 200 MB of weights more: a pair of both costs half as much again as two of stable."""
    agent = costed(
        real_fleet,
        cpu={"kind": "cpu", "margin": "+10%", "weight": 10, "block": "2s", "every": "1s", "warmup": "1s"},
        memory={"kind": "memory", "limit": "2GB"},
        loading={"kind": "load_time", "limit": "60s"},
    )
    agent.wait(lambda: len(agent.labels()) == 1, "seen")
    export(real_fleet, 2, 3 * ROUNDS, 20 * MEGABYTES)
    name = agent.begin(2)
    over = agent.wait_phase(name, "ROLLED_BACK", "SUCCEEDED", "HELD", seconds=240)
    assert (over["phase"], over["verdict"]) == ("ROLLED_BACK", "fail"), over["why"]
    cpu, memory, loading = (finding(agent, name, metric) for metric in ("cpu", "memory", "loading"))
    assert (cpu["state"], cpu["estimate"] > MARGIN) == ("harmful", True)
    assert (memory["state"], 150e6 < memory["estimate"] < 600e6) == ("harmless", True), memory
    assert (loading["state"], 0 < loading["estimate"] < 60) == ("harmless", True), loading
    assert "bit for bit" in agent.replay(name).stdout
