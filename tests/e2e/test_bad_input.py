"""Bad input gets a clear sentence and the right exit code, and nothing is lost."""

import re
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.fleet import HALDANE, MODEL, AgentProcess, Fleet, free_port

from haldane import wire

OK, FAIL, USAGE, INCONCLUSIVE, INFRASTRUCTURE, REFUSED = range(6)


def haldane(*words: str) -> tuple[int, str]:
    """Exit code and everything said."""
    done = subprocess.run([HALDANE, *words], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def start(agent: AgentProcess, version: int, *more: str) -> tuple[int, str]:
    return haldane("rollout", "start", MODEL, str(version), "--why", "test", "--config", str(agent.config_file), *more)


def check(fleet: Fleet, **more: Any) -> tuple[int, str]:
    """`haldane check config --online` of the fleet's config with these changes."""
    agent = AgentProcess(fleet.directory, fleet.config(**more))
    return haldane("check", "config", str(agent.config_file), "--online")


def source(**traffic: str) -> dict[str, Any]:
    return {MODEL: {"clients": "label", "traffic": traffic}}


def test_a_good_config_is_checked_against_the_servers(fleet: Fleet) -> None:
    code, says = check(fleet)
    assert code == OK, says


def test_a_server_that_cannot_be_reached_is_named(fleet: Fleet) -> None:
    port = free_port()
    server = {"name": "gone", "address": f"127.0.0.1:{port}", "metrics_url": f"http://127.0.0.1:{port}/metrics"}
    code, says = check(fleet, servers=[server])
    assert (code, "gone" in says) == (INFRASTRUCTURE, True), says


def test_unknown_keys_and_models_are_all_told_at_once_with_file_and_line(tmp_path: Path) -> None:
    base = tmp_path / "models.config"
    base.write_text(
        'model_config_list { config { name: "a" base_path: "/models/a" model_platform: "tensorflow"'
        " model_version_policy { specific { versions: 1 } } } }"
    )
    file = tmp_path / "haldane.yaml"
    file.write_text(
        "mode: enforce\n"
        "servers: [127.0.0.1:8500]\n"
        "model_config_file: models.config\n"
        "shadoww: {rate: 3}\n"
        "models:\n"
        "  nope:\n"
        "    clients: label\n"
    )
    code, says = haldane("check", "config", str(file))
    assert code == USAGE
    assert re.search(r"haldane\.yaml:4: .*shadoww.*shadow", says), says
    assert re.search(r"haldane\.yaml:[67]: .*nope", says), says


def test_a_directory_without_saved_model_pb_is_refused_before_anything_is_loaded(fleet: Fleet) -> None:
    fleet.add(2, "empty_dir")
    agent = fleet.run_agent()
    code, says = start(agent, 2)
    assert (code, "saved_model.pb" in says) == (REFUSED, True), says
    assert agent.get("/v1/rollouts").json()["rollouts"] == []


def test_a_version_that_loads_but_cannot_answer_is_withdrawn_with_the_servers_words(fleet: Fleet) -> None:
    fleet.add(2, "missing_variables", k=10.0)
    code, says = start(fleet.run_agent(), 2, "--wait")
    assert (code, "cannot answer" in says) == (FAIL, True), says


def test_a_version_that_never_loads_is_withdrawn_after_its_time(fleet: Fleet) -> None:
    fleet.add(2, "slow_load", k=10.0, seconds=60)
    agent = fleet.run_agent(plan={"load": "2s", "bake": "1s", "change": "20s"})
    code, says = start(agent, 2, "--wait")
    assert (code, "not loaded after 2 seconds" in says) == (FAIL, True), says
    assert agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}


@pytest.mark.parametrize(
    ("name", "content", "traffic", "words"),
    [
        ("log.tfrecord", b"this is no TFRecord file at all", {"prediction_log": "log.tfrecord"}, "log.tfrecord"),
        ("rows2.csv", b"x,good\n1.0,10.0\n", {"labelled": "rows2.csv", "label": "truth"}, "truth"),
        ("lines.jsonl", b'{"instances": [1.0]\n', {"rest_jsonl": "lines.jsonl"}, "lines.jsonl"),
    ],
)
def test_traffic_that_cannot_be_read_is_told_by_check_and_refused_at_the_start(
    fleet: Fleet, name: str, content: bytes, traffic: dict[str, str], words: str
) -> None:
    fleet.add(2)
    (fleet.directory / name).write_bytes(content)
    code, says = check(fleet, models=source(**traffic))
    assert code in (USAGE, INFRASTRUCTURE) and words in says, says
    agent = fleet.run_agent(models=source(**traffic))
    code, says = start(agent, 2)
    assert code in (INFRASTRUCTURE, REFUSED) and words in says, says
    # The label that is wanted at rest may still be on its way: nothing here waits for it before it refuses.
    agent.wait(lambda: agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}, "labelled stable", 20.0)


def test_a_corrupt_line_on_the_metrics_page_is_counted_and_stops_nothing(fleet: Fleet) -> None:
    fleet.add(2)
    request = wire.PredictRequest()
    request.model_spec.name = "bad\nname 1 2 3"  # any client may send it, and it splits a line of the page
    with grpc.insecure_channel(fleet.first.server.address) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(wire.PREDICT.path)(request.SerializeToString(), timeout=5)
    agent = fleet.run_agent()
    code, says = start(agent, 2, "--wait")
    assert code == OK, says
    errors = re.search(
        r'haldane_scrape_errors_total\{reason="corrupt_line",server="r0"\} (\S+)', agent.get("/metrics").text
    )
    assert errors and float(errors[1]) > 0


def test_an_agent_that_does_not_run_is_said_so(tmp_path: Path) -> None:
    code, says = haldane("status", "--agent", f"http://127.0.0.1:{free_port()}")
    assert code == INFRASTRUCTURE
    assert "haldane run" in says, says


def test_a_port_that_is_taken_is_refused_before_anything_is_touched(fleet: Fleet) -> None:
    first = fleet.run_agent()
    second = fleet.directory / "second"
    second.mkdir()
    again = AgentProcess(second, {**first.config, "state_dir": str(second / "state")})
    code, says = haldane("run", "--config", str(again.config_file))
    assert (code, "listen" in says) == (REFUSED, True), says
