"""The sandbox behaves as a real TF Serving server was recorded to behave.

`serving/` holds the recordings and the replayer as they came. Here every
scenario is replayed against sandboxes from one fork server, and the figures are
printed. The same scenarios run against a real server when HALDANE_MODEL_SERVER
says how to start one:

    HALDANE_MODEL_SERVER="my-server --port={grpc} --rest_api_port={rest} --model_config_file={config} {flags}"
    HALDANE_MODEL_SERVER="127.0.0.1:8500:8501"     (host, gRPC and REST port of one that runs)

One that runs must see this machine's files, is configured by reload, and serves
only the scenarios that need neither flags nor a history of their own.
"""

import json
import os
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf import text_format

from haldane import wire
from haldane.sandbox import toy
from haldane.sandbox.forkserver import ForkServer, spawn

HERE = Path(__file__).parent / "serving"
CACHE = Path(__file__).parents[2] / ".cache" / "conformance-models"
JOBS = 3
WITHOUT_MISMATCH = ("reload", "startup", "status", "policy", "under_load")
# What the toy executor answers too: control, not tensors. Recipes it has no likeness of are left out.
TOY_AREAS = (
    "reload",
    "startup",
    "status",
    "policy",
    "under_load",
    "versions_live",
    "version_dirs",
    "signals",
    "health",
)
TOY_RECIPES = {"affine", "slow_load", "slow_predict", "corrupt_pb", "empty_dir", "two_outputs"}
sys.path.insert(0, str(HERE))
import build_models  # noqa: E402
import replay  # noqa: E402


def scenarios() -> list[dict[str, Any]]:
    loaded = (json.loads(path.read_text()) for path in sorted((HERE / "recorded").glob("*.json")))
    return [scenario for scenario in loaded if "steps" in scenario]


class Replayed:
    """All steps of many scenarios with their verdicts."""

    def __init__(self) -> None:
        self.verdicts: dict[str, Counter[str]] = {}
        self.notes: list[str] = []
        self.second_tries: list[str] = []

    def add(self, scenario: dict[str, Any], verdicts: list[tuple[str, list[str]]]) -> None:
        counter = self.verdicts.setdefault(scenario["area"], Counter())
        for index, (step, (verdict, notes)) in enumerate(zip(scenario["steps"], verdicts, strict=True)):
            counter[verdict] += 1
            if verdict == "mismatch":
                text = "; ".join(notes)[:600]
                self.notes.append(f"{scenario['area']}: {scenario['name']} step {index} {step['op']}: {text}")

    @property
    def total(self) -> Counter[str]:
        return sum(self.verdicts.values(), Counter())

    def share(self, *verdicts: str) -> float:
        return sum(self.total[verdict] for verdict in verdicts) / self.total.total()

    def summary(self, title: str) -> str:
        def line(name: str, counter: Counter[str]) -> str:
            strict, loose, mismatch = counter["strict"], counter["loose"], counter["mismatch"]
            return (
                f"  {name:<18} {counter.total():>5} steps  {strict:>5} strict  {loose:>3} loose  {mismatch:>3} mismatch"
            )

        rows = [line(area, counter) for area, counter in sorted(self.verdicts.items())]
        again = [f"  replayed once more: {', '.join(self.second_tries)}"] if self.second_tries else []
        return "\n".join([f"conformance of {title}:", *rows, line("all", self.total), *again, *self.notes])


def forking(server: ForkServer) -> SimpleNamespace:
    """What the replayer uses of `subprocess`, with processes that are forks instead."""

    def popen(words: list[str], *, stdout: Any, stderr: Any, env: dict[str, str], **_: Any) -> Any:
        return spawn(server.socket, words, stdout=stdout.fileno(), stderr=stderr.fileno(), env=env)

    return SimpleNamespace(
        Popen=popen, **{n: getattr(replay.subprocess, n) for n in ("DEVNULL", "TimeoutExpired", "run")}
    )


def replay_all(
    chosen: list[dict[str, Any]],
    start: str,
    *,
    builder: Any = build_models,
    ports: tuple[int, int] = (0, 0),
    jobs: int = JOBS,
) -> Replayed:
    options = replay.arguments([str(HERE / "recorded"), "--start", start, "--cache", str(CACHE)])
    options.builder = builder
    options.grpc_port, options.rest_port = ports
    protos, result = replay.Protos(), Replayed()

    def run(scenario: dict[str, Any]) -> list[tuple[str, list[str]]]:
        try:
            answers, _ = replay.run_scenario(scenario, options, protos)
        except Exception as failure:  # a server so different that a step cannot run is a finding, not a crash
            return [("mismatch", [f"could not run: {failure!r}"])] * len(scenario["steps"])
        return [replay.compare(s, s["response"], a) for s, a in zip(scenario["steps"], answers, strict=True)]

    # Long ones first, so that none is left alone at the end.
    chosen = sorted(chosen, key=lambda s: -sum(step["response"].get("about_s", 0) for step in s["steps"]))
    with ThreadPoolExecutor(jobs) as pool:
        for scenario, verdicts in list(zip(chosen, pool.map(run, chosen), strict=True)):
            if any(verdict == "mismatch" for verdict, _ in verdicts):
                # Scenarios run against real clocks, on a machine that may be busy: once more, alone.
                result.second_tries.append(scenario["name"])
                result.add(scenario, run(scenario))
            else:
                result.add(scenario, verdicts)
    return result


def toy_place(cache: str, recipe: str, base: Path) -> None:
    """As build_models.place, in toy form."""
    base = Path(base)
    base.mkdir(parents=True, exist_ok=True)
    for directory, (name, arguments) in build_models.expand(recipe):
        staged = base.parent / f".staging-{base.name}-{directory}"
        toy.write(staged, name, **json.loads(arguments))
        staged.rename(base / directory)


@pytest.fixture
def forkserver(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    with ForkServer() as server:
        monkeypatch.setattr(replay, "subprocess", forking(server))
        yield server


FLAGS = "--port={grpc} --rest_api_port={rest} --model_config_file={config} {flags}"


@pytest.mark.timeout(900)
def test_the_sandbox_answers_as_the_recorded_server_did(forkserver: ForkServer, record_property: Any) -> None:
    chosen = scenarios()
    build(chosen)
    result = replay_all(chosen, FLAGS)
    record_property("summary", result.summary("the sandbox on TensorFlow"))
    assert result.total.total() == 1217
    assert result.share("strict", "loose") >= 0.97
    assert result.share("strict") >= 0.90
    assert {area: result.verdicts[area]["mismatch"] for area in WITHOUT_MISMATCH} == dict.fromkeys(WITHOUT_MISMATCH, 0)


def build(chosen: list[dict[str, Any]]) -> None:
    """Make the SavedModels these scenarios name; kept from run to run."""
    recipes = sorted({recipe for scenario in chosen for recipe in replay.recipes_of(scenario)})
    for _ in range(3):  # another test process may be making the same one, and comes first
        missing = [recipe for recipe in recipes if not built(recipe)]
        if not missing:
            return
        # In a process of its own: this one must not import TensorFlow.
        words = [sys.executable, build_models.__file__, "--cache", str(CACHE), *missing]
        replay.subprocess.run(words, check=False, stdout=replay.subprocess.DEVNULL)
    raise AssertionError(f"could not be built: {[recipe for recipe in recipes if not built(recipe)]}")


def built(recipe: str) -> bool:
    return all(build_models.cache_path(CACHE, artefact).exists() for _, artefact in build_models.expand(recipe))


@pytest.mark.timeout(900)
def test_the_toy_executor_gives_the_same_control_answers(forkserver: ForkServer, record_property: Any) -> None:
    chosen = [scenario for scenario in scenarios() if scenario["area"] in TOY_AREAS and in_toy_form(scenario)]
    builder = SimpleNamespace(place=toy_place, expand=build_models.expand)
    result = replay_all(chosen, f"--executor=toy {FLAGS}", builder=builder)
    record_property("summary", result.summary("the toy executor"))
    assert len(chosen) >= 70
    assert result.total["mismatch"] == 0


def in_toy_form(scenario: dict[str, Any]) -> bool:
    return {build_models.parse(recipe)[0] for recipe in replay.recipes_of(scenario)} <= TOY_RECIPES


class Adopted:
    """A server that already runs, given a scenario's config by reload instead of being started."""

    returncode = None

    def __init__(self, words: list[str], **_: Any) -> None:
        address, path = words
        with grpc.insecure_channel(address) as channel:
            self._channel = channel
            self._reload("model_config_list {}")
            time.sleep(
                2
            )  # a poll and the ticks that unload: added again too soon, a model's old END answers the reload
            self._reload(Path(path).read_text())

    def _reload(self, config: str) -> None:
        request = wire.ReloadConfigRequest()
        text_format.Parse(config, request.config, descriptor_pool=wire.POOL)
        method = wire.RELOAD_CONFIG
        self._channel.unary_unary(method.path)(request.SerializeToString(), timeout=30)

    def poll(self) -> None:
        """It runs."""

    def terminate(self) -> None:
        """It is not ours to end."""

    def wait(self, _timeout: float | None = None) -> int:
        return 0


def without_history(scenario: dict[str, Any]) -> bool:
    """Whether a server with a past, and with its own flags, can play this scenario."""
    server, steps = scenario["server"], scenario["steps"]
    ops = {step["op"] for step in steps}
    asks = {step.get("method") for step in steps}
    starts = [step for step in steps if step["op"] == "start"]
    return (
        ops <= {"start", "grpc", "rest"}
        and asks.isdisjoint({"GetModelStatus", "HandleReloadConfigRequest", "Health/Check"})
        and not server["flags"]
        and bool(server["config"])
        and len(starts) == 1
        and starts[0].keys() <= {"op", "response"}
        and starts[0]["response"].get("started")
        and not any(step["op"] == "rest" and "model_version_status" in str(step["response"]) for step in steps)
    )


def against(server: str, monkeypatch: pytest.MonkeyPatch) -> Replayed:
    """Replay against a server given by address (host:grpc:rest) or by the command that starts it."""
    address = re.fullmatch(r"([\w.-]+):(\d+):(\d+)", server)
    if not address:
        build(scenarios())
        return replay_all(scenarios(), server)
    chosen = [scenario for scenario in scenarios() if without_history(scenario)]
    build(chosen)
    names = {name: getattr(replay.subprocess, name) for name in ("DEVNULL", "TimeoutExpired", "run")}
    monkeypatch.setattr(replay, "subprocess", SimpleNamespace(Popen=Adopted, **names))
    ports = int(address[2]), int(address[3])
    return replay_all(chosen, f"{address[1]}:{address[2]} {{config}}", ports=ports, jobs=1)


@pytest.mark.real_server
@pytest.mark.timeout(1800)
def test_a_real_server_answers_as_recorded(record_property: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = os.environ.get("HALDANE_MODEL_SERVER")
    if not server:
        pytest.skip("HALDANE_MODEL_SERVER is not set: no real tensorflow_model_server to compare with")
    result = against(server, monkeypatch)
    record_property("summary", result.summary("the real server"))
    assert result.share("strict", "loose") >= 0.97


@pytest.mark.timeout(600)
def test_a_server_that_already_runs_can_be_compared(
    forkserver: ForkServer, tmp_path: Path, record_property: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models.config").write_text("model_config_list {}")
    port, rest_port = replay.free_ports(2)
    flags = [f"--port={port}", f"--rest_api_port={rest_port}", f"--model_config_file={tmp_path}/models.config"]
    sandbox = forkserver.spawn(flags, tmp_path / "log")
    try:
        until_open(port, rest_port)
        result = against(f"127.0.0.1:{port}:{rest_port}", monkeypatch)
    finally:
        sandbox.kill()
    record_property("summary", result.summary("a sandbox that was already running"))
    assert result.total.total() > 100
    assert result.total["mismatch"] == 0


def until_open(*ports: int) -> None:
    for port in ports:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
