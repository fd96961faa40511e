"""The stage: two sandbox replicas, an Alertmanager and the agent, each a process of its own.

Owns the directory, the config files and the start and end of every process.
Leaves what is played on it to `story`.
"""

import contextlib
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from haldane.demo import prometheus
from haldane.demo.acts import FIRST_STABLE, MODEL
from haldane.demo.data import LABEL
from haldane.demo.pager import Pager, paging
from haldane.demo.prepare import LABELLED_SET, Prepared
from haldane.demo.processes import last_lines, running, start, stop
from haldane.demo.visitor import Visitor, wait_until
from haldane.sandbox.forkserver import Forked, ForkServer
from haldane.sandbox.freeport import free_port

READY_SECONDS = 60.0  # for any one process; a loaded machine takes a few

# A truncated model is given up on after one retry, so that its failure shows at once; by default Serving
# tries five times more, a minute apart.
REPLICA_FLAGS = ("--max_num_load_retries=1", "--load_retry_interval_micros=200000")

# 30 pairs a second of two calls of 15 ms use less than half of two cores, so that pairs rarely overlap: calls that
# share a core slow each other down, and a version 1.29 times slower would look like less.
_AGENT_CONFIG = """\
mode: enforce
listen: 127.0.0.1:{agent_port}
state_dir: {state}
token_file: {token_file}
alertmanager: {pager}
look_every: 200ms
model_config_file: {model_config}
servers:
{servers}
models:
  {model}:
    clients: label
    traffic: {{labelled: {rows}, label: {label}}}
outputs: {{output: probability, kind: binary_probability}}
analysis:
  least_pairs: 150
  warmup_pairs: 20
  entry_pairs: 100
  horizon_pairs: 3000
  budget: 2m
  dependence: 0s
  metrics:
    accuracy: -3pp
    latency: +6%
    errors: {{role: guardrail, margin: +1pp}}
    disagreement: off
shadow: {{rate: 30, concurrency: 1, aa_share: 0.02}}
plan: {{load: 30s, bake: 2s, change: 20s}}
"""
_SERVER = "  - {{name: {name}, address: 127.0.0.1:{port}, metrics_url: {metrics}}}"

_METRICS_PATH = prometheus.SERVING_PATH
_MONITORING_CONFIG = f'prometheus_config {{ enable: true, path: "{_METRICS_PATH}" }}\n'

_MODEL_CONFIG = """\
model_config_list {{
  config {{
    name: "{model}"
    base_path: "{base}"
    model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: {version} }} }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Replica:
    """One sandbox in the place of a TF Serving process."""

    name: str
    port: int
    rest_port: int
    process: Forked

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}{_METRICS_PATH}"

    def serves(self, version: int) -> bool:
        """That version answers, by Serving's own REST status."""
        try:
            reply = httpx.get(f"http://127.0.0.1:{self.rest_port}/v1/models/{MODEL}/versions/{version}", timeout=2.0)
            return bool(reply.json()["model_version_status"][0]["state"] == "AVAILABLE")
        except (httpx.TransportError, ValueError, KeyError, IndexError):
            return False


@dataclass
class Stage:
    """Where everything of one run lies, and what runs on it."""

    directory: Path
    replicas: list[Replica] = field(default_factory=list)
    pager: Pager | None = None
    visitor: Visitor | None = None
    agent: "subprocess.Popen[bytes] | None" = None
    prometheus: str | None = None  # its URL, where one was asked for

    @property
    def made(self) -> Path:
        """Models that are ready but not published yet."""
        return self.directory / "made"

    @property
    def published(self) -> Path:
        """The base path that the replicas read versions from."""
        return self.directory / "models" / MODEL

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    def publish(self, version: int) -> None:
        """Make that version appear in the base path, whole."""
        (self.made / str(version)).rename(self.published / str(version))


def prepare(stage: Stage, seed: int, told: Callable[[Prepared], None]) -> None:
    """Make models and labelled set in a process of its own; RuntimeError with its last words when it fails."""
    log = stage.logs / "prepare.log"
    command = [sys.executable, "-m", "haldane.demo.prepare", "--seed", str(seed), "--out", str(stage.made)]
    # One thread for numpy: its matrices are small, and threads that wait for each other on a busy machine take longer.
    process = start(command, log, stdout=subprocess.PIPE, env={"OPENBLAS_NUM_THREADS": "1"})
    try:
        assert process.stdout is not None
        for line in process.stdout:
            told(Prepared.read(line.decode()))
        if process.wait() != 0:
            raise RuntimeError(f"making the models failed:\n{last_lines(log)}")
    finally:
        stop(process)


@contextlib.contextmanager
def directory(keep: Callable[[], bool]) -> Iterator[Stage]:
    """A fresh directory, removed at the end unless `keep` then says otherwise."""
    import tempfile

    stage = Stage(Path(tempfile.mkdtemp(prefix="haldane-demo-")))
    for path in (stage.made, stage.published, stage.logs):
        path.mkdir(parents=True)
    try:
        yield stage
    finally:
        if not keep():
            shutil.rmtree(stage.directory, ignore_errors=True)


@contextlib.contextmanager
def replicas(stage: Stage, forks: ForkServer, count: int = 2) -> Iterator[list[Replica]]:
    """That many sandboxes that serve version 1; all start at once."""
    config, monitoring = write_model_config(stage), stage.directory / "monitoring.config"
    monitoring.write_text(_MONITORING_CONFIG)
    shared = (f"--model_config_file={config}", f"--monitoring_config_file={monitoring}", *REPLICA_FLAGS)
    ports = [free_port() for _ in range(2 * count)]
    try:
        for number, (port, rest_port) in enumerate(zip(ports[:count], ports[count:], strict=True), start=1):
            name = f"replica-{number}"
            process = forks.spawn(
                [f"--port={port}", f"--rest_api_port={rest_port}", *shared], stage.logs / f"{name}.log"
            )
            stage.replicas.append(Replica(name, port, rest_port, process))
        for replica in stage.replicas:
            _wait(lambda one=replica: one.serves(FIRST_STABLE), replica.name, stage)  # type: ignore[misc]
        yield stage.replicas
    finally:
        for replica in stage.replicas:
            replica.process.terminate()


@contextlib.contextmanager
def pager(stage: Stage) -> Iterator[Pager]:
    """The Alertmanager."""
    with paging(stage.logs) as stage.pager:
        yield stage.pager


@contextlib.contextmanager
def agent(stage: Stage) -> Iterator[Visitor]:
    """The agent in enforce mode, ready, and a visitor of it. Needs replicas and pager."""
    config, port, token = write_agent_config(stage)
    command = [sys.executable, "-c", "from haldane.cli import main; main()", "run", "--config", str(config)]
    with running(command, stage.logs / "agent.log") as stage.agent:
        stage.visitor = Visitor(f"http://127.0.0.1:{port}", token)
        with contextlib.closing(stage.visitor):
            process = stage.agent
            _wait(lambda: stage.visitor.ready() or _ended(process), "agent", stage)  # type: ignore[union-attr]
            if process.poll() is not None:
                raise RuntimeError(f"the agent ended:\n{last_lines(stage.logs / 'agent.log')}")
            yield stage.visitor


@contextlib.contextmanager
def beside(stage: Stage) -> Iterator[str]:
    """The URL of a Prometheus that scrapes agent and replicas. Needs them and the pager."""
    assert stage.pager is not None and stage.visitor is not None
    replicas = [f"127.0.0.1:{one.rest_port}" for one in stage.replicas]
    text = prometheus.config(agent=stage.visitor.url, replicas=replicas, alertmanager=stage.pager.url)
    with prometheus.scraping(stage.logs, text) as stage.prometheus:
        yield stage.prometheus


def write_model_config(stage: Stage) -> Path:
    """Serving's own model config file: version 1 and no label, which is the agent's to set."""
    config = stage.directory / "models.config"
    config.write_text(_MODEL_CONFIG.format(model=MODEL, base=stage.published, version=FIRST_STABLE))
    return config


def write_agent_config(stage: Stage) -> tuple[Path, int, str]:
    """The agent's config, its port and its token. Needs replicas and pager."""
    assert stage.pager is not None
    port = free_port()
    token, token_file = secrets.token_urlsafe(24), stage.directory / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(token)
    servers = (_SERVER.format(name=one.name, port=one.port, metrics=one.metrics_url) for one in stage.replicas)
    config = stage.directory / "haldane.yaml"
    config.write_text(
        _AGENT_CONFIG.format(
            agent_port=port,
            state=stage.directory / "state",
            token_file=token_file,
            pager=stage.pager.url,
            model_config=stage.directory / "models.config",
            servers="\n".join(servers),
            model=MODEL,
            rows=stage.made / LABELLED_SET,
            label=LABEL,
        )
    )
    return config, port, token


def _ended(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is not None


def _wait(holds: Callable[[], bool], name: str, stage: Stage) -> None:
    try:
        wait_until(holds, READY_SECONDS, f"{name} is not ready")
    except TimeoutError as error:
        raise RuntimeError(f"{error}:\n{last_lines(stage.logs / f'{name}.log')}") from error
