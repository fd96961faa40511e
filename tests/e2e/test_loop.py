"""The whole loop on real parts: Keras, MLflow, S3, Kafka, two servers with TensorFlow, Prometheus, and one pipeline."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from tests import moto
from tests.broker import Broker, events, make_topic
from tests.fleet import MODEL, AgentProcess, Fleet
from tests.mlflow import Mlflow
from tests.prometheus import JOB, Prometheus

from haldane.cli import main
from haldane.release.manifest import listing, manifest
from haldane.release.publish import Origin, publish
from haldane.release.shelf import Shelf
from haldane.release.storage import open_storage
from haldane.testing.sandboxes import METRICS_PATH, TOY, free_port

PIPELINE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "pipeline"
REAL = TOY.replace("--executor=toy", "--executor=tensorflow")
STABLE_4 = {"r0": {"stable": 4}, "r1": {"stable": 4}}
PATIENCE = 200.0  # seconds, for anything that a busy machine does late
ANNOUNCED, TOLD = "releases", "decisions"  # topics


def published(export: Path, store: str, note: str) -> int:
    """The export, told from others by a note in it, as the next version; without the trial that the command makes."""
    (export / "assets.extra").mkdir(exist_ok=True)
    (export / "assets.extra" / "note.txt").write_text(note)
    files = manifest(export, listing(export, most_bytes=2**30))
    return publish(export, files, Shelf(open_storage(store), MODEL), Origin("ada", datetime.now(UTC), {}, {})).version


def haldane(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def cleaned(where: str, agent: AgentProcess) -> bool:
    """Not while a server is not seen, which may happen on a busy machine."""
    command = ["release", "gc", MODEL, "--from", where, "--agent", agent.url, "--delete"]
    return CliRunner().invoke(main, command).exit_code == 0


class Loop:
    """The parts; three versions published, the third of them stable on both servers."""

    def __init__(self, directory: Path, need_binary: Callable[[str], str], stack: ExitStack) -> None:
        self.directory, self.stack, self.log = directory, stack, directory / "pipeline.log"
        self.mlflow = Mlflow(need_binary("mlflow"), directory)
        stack.callback(self.mlflow.stop)
        self.mlflow.start()
        broker = Broker(directory)
        self.brokers = broker.address
        broker.start()
        stack.callback(broker.stop)
        self.store = stack.enter_context(moto.bucket("models"))
        first = directory / "first"
        train = [sys.executable, str(PIPELINE / "train.py"), str(first), "--seed", "1", "--epochs", "3"]
        subprocess.run(train, check=True, timeout=300)
        self.fleet = Fleet(directory, size=2, command=REAL, stable=3)
        stack.callback(self.fleet.close)
        self.disk = str(self.fleet.first.models)
        for note in ("August", "September", "October"):
            published(first / "export", self.store, note)
        self.sync(1, 2, 3)
        for topic in (ANNOUNCED, TOLD):
            make_topic(self.brokers, topic)
        self.mlflow.wait()
        self.prometheus = self._prometheus(need_binary("prometheus"))
        stack.callback(self.prometheus.close)

    def _prometheus(self, binary: str) -> Prometheus:
        self.config = self.fleet.config()
        agent = int(self.config["listen"].rpartition(":")[2])
        servers = {f"serving-{one.name}": one.rest_port for one in self.fleet.sandboxes}
        jobs = "".join(JOB % target + f"    metrics_path: {METRICS_PATH}\n" for target in servers.items())
        return Prometheus(binary, self.directory, free_port(), {"haldane": agent}, more=jobs)

    def sync(self, *versions: int) -> None:
        chosen = [word for one in versions for word in ("--version", str(one))]
        haldane("release", "sync", "--from", self.store, "--model", MODEL, "--to", self.disk, *chosen)

    def pipeline(self) -> subprocess.Popen[str]:
        """The example, as a CI would run it; it is on its way when this returns."""
        own = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MODEL": MODEL,
            "STORE": self.store,
            "AGENT": f"http://{self.config['listen']}",
            "OUT": str(self.directory / "build"),
            "SEED": "2",
            "SECONDS_TO_WAIT": "300",
            "MLFLOW_TRACKING_URI": self.mlflow.url,
            "MLFLOW_PYTHON": str(Path(self.mlflow.program).parent / "python"),
            "BROKERS": self.brokers,
            "TOPIC": ANNOUNCED,
        }
        log = self.log.open("w")
        run = ["sh", str(PIPELINE / "run.sh")]
        made = subprocess.Popen(
            run, env={**os.environ, **own}, stdout=log, stderr=log, text=True, start_new_session=True
        )
        self.stack.callback(end_group, made)
        return made

    def waited_for(self) -> bool:
        """Whether the pipeline has asked the agent for the end: from then on the agent may be away."""
        _, found, after = self.log.read_text().partition("is in the topic")
        return bool(found) and len(after.splitlines()) > 1

    def announce(self, version: int) -> None:
        """The event that the pipeline sends, too."""
        haldane("release", "announce", MODEL, str(version), "--kafka", self.brokers, "--topic", ANNOUNCED)

    def start_agent(self) -> AgentProcess:
        config = self.config
        config["models"][MODEL] |= {
            "traffic": {"labelled": str(self.directory / "first" / "holdout.csv"), "label": "bad"},
            "outputs": {"kind": "binary_probability"},
            "published": self.store,
            "registered": MODEL,
            "releases": {"kafka": {"brokers": self.brokers, "topic": ANNOUNCED}},
        }
        servers = {"query": 'count(up{job=~"serving.*"} == 1) + 0 * $version', "direction": "higher", "margin": "-10%"}
        config["analysis"] |= {
            "least_pairs": 800,
            "metrics": {"accuracy": "5pp", "errors": "2pp", "latency": False, "disagreement": False},
            "gauges": {"servers": {**servers, "every": "1s", "block": "2s", "warmup": "1s"}},
            "budget": "200s",
        }
        config |= {"prometheus": {"url": self.prometheus.url}, "plan": {"load": "60s", "bake": "1s", "change": "60s"}}
        config |= {"mlflow": {"url": self.mlflow.url}}
        config |= {"notices_topic": {"brokers": self.brokers, "topic": TOLD}}
        self.fleet.agent = AgentProcess(self.directory, config)  # known before it starts, so that it is always stopped
        return self.fleet.agent.start(seconds=PATIENCE)

    def champion(self) -> str | None:
        """The registered version that MLflow names so."""
        found = httpx.get(
            self.mlflow.url + "/api/2.0/mlflow/registered-models/get",
            params={"name": MODEL},
            timeout=60,
            trust_env=False,
        )
        aliases = {one["alias"]: one["version"] for one in found.json()["registered_model"].get("aliases", ())}
        assert set(aliases) <= {"champion", "challenger"}
        return aliases.get("champion")

    def decided(self) -> dict[str, list[str]]:
        """Rollout -> the phases it entered, as the topic has told them so far; told twice counts once."""
        found = {event.get_id(): event.get_data() for event in asyncio.run(events(self.brokers, TOLD))}
        moves = sorted((one["seq"], one["rollout"], one["to"]) for one in found.values() if "to" in one)
        return {name: [to for _, which, to in moves if which == name] for _, name, _ in moves}

    @property
    def on_disk(self) -> list[int]:
        return sorted(int(path.name) for path in Path(self.disk, MODEL).iterdir() if path.name.isdigit())


def end_group(process: subprocess.Popen[str]) -> None:
    """It and what it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def loop(tmp_path: Path, need_binary: Callable[[str], str]) -> Iterator[Loop]:
    with ExitStack() as stack:
        yield Loop(tmp_path, need_binary, stack)


def rollouts_of(agent: AgentProcess, version: int) -> list[dict[str, Any]]:
    return [one for one in agent.get("/v1/rollouts").json()["rollouts"] if one["new"] == version]


@pytest.mark.timeout(600)
def test_a_training_run_becomes_stable_through_a_crash_and_a_changed_byte_does_not(loop: Loop) -> None:
    pipeline = loop.pipeline()
    loop.fleet.start(PATIENCE)
    loop.prometheus.start()
    agent = loop.start_agent()
    shelf = Shelf(open_storage(loop.store), MODEL)

    def going() -> bool:
        assert pipeline.poll() is None, loop.log.read_text()
        return True

    agent.wait(lambda: going() and shelf.published()[0] == 4, "version 4 published", PATIENCE)
    loop.sync(4)
    agent.wait(lambda: going() and bool(rollouts_of(agent, 4)), "a rollout of the announced version", PATIENCE)
    name = rollouts_of(agent, 4)[0]["id"]
    agent.wait_phase(name, "SHADOWING", "PROMOTING", "BAKING", "SUCCEEDED", seconds=PATIENCE)
    loop.announce(4)
    agent.wait(loop.waited_for, "the pipeline waiting for the end", PATIENCE)
    agent.kill()
    agent.start(seconds=PATIENCE)
    assert pipeline.wait(300) == 0, loop.log.read_text()
    agent.wait(lambda: agent.labels() == STABLE_4, "4 stable everywhere", PATIENCE)
    checked = [one["data"] for one in agent.records(name) if one["kind"] == "release_checked"]
    assert {one["result"] for one in checked} == {"verified"}
    run = checked[0]["metadata"]["mlflow"]
    assert (run["params"]["epochs"], run["data"][0].partition("@")[0]) == ("5", "loans")
    assert run["metrics"]["accuracy"] > 0.8
    agent.wait(lambda: loop.champion() == "1", "the run's registered version champion", PATIENCE)
    succeeded = f'haldane_rollout_phase{{model="{MODEL}",phase="SUCCEEDED"}} == 1'
    loop.prometheus.wait(lambda: loop.prometheus.series(succeeded) == 1)

    for where in (loop.disk, loop.store):
        agent.wait(partial(cleaned, where, agent), "cleaned up", PATIENCE)
    assert loop.on_disk == sorted(shelf.published()) == [2, 3, 4]

    assert published(loop.directory / "build" / "export", loop.store, "with a byte changed below") == 5
    loop.sync(5)
    note = Path(loop.disk, MODEL, "5", "assets.extra", "note.txt")
    note.write_text("With a byte changed below")
    loop.announce(5)
    agent.wait(lambda: bool(rollouts_of(agent, 5)), "a rollout of the changed version", PATIENCE)
    (over,) = rollouts_of(agent, 5)
    over = agent.wait_phase(over["id"], "ROLLED_BACK", "SUCCEEDED", "HELD", seconds=PATIENCE)
    assert over["phase"] == "ROLLED_BACK"
    assert "version 5 is not what was published: assets.extra/note.txt has changed" in over["why"]
    assert not any("canary': 5" in str(one["data"].get("labels")) for one in agent.records(over["id"]))
    assert agent.labels() == STABLE_4
    agent.wait(
        lambda: over["id"] in loop.decided() and loop.decided()[over["id"]][-1] == "ROLLED_BACK", "told", PATIENCE
    )
    assert loop.decided()[name][-1] == "SUCCEEDED"
    assert len(rollouts_of(agent, 4)) == 1, "the event was read twice, before that of version 5"
