"""What is asked answers badly: it is counted, it is said, and neither a rollback nor a promotion comes from it.

Prometheus, Alertmanager and the servers are real processes; so are the agent and what it meets.
"""

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.alertmanager import PAGES_QUICKLY, Process
from tests.fleet import HALDANE, MODEL, AgentProcess, Fleet
from tests.prometheus import Prometheus

from haldane import wire
from haldane.domain.fleet import ModelName, ServerConfig
from haldane.serving import modelconfig
from haldane.serving.client import open_client
from haldane.testing.sandboxes import Sandbox

RSS = 'process_resident_memory_bytes{job="$side"}'
# What Prometheus answers -> the reason under which it is counted.
ANSWERS = {
    f"{RSS} * (0 / 0)": "no_data",  # NaN
    'no_such_series{job="$side"}': "no_data",  # an empty vector
    f"{RSS}[1m]": "no_data",  # a matrix, the wrong type
    f"{RSS} or vector(1)": "no_data",  # two series
    f"sum({RSS}": "refused",  # no query at all
}
NEWLINE = "other\nteam"
PAGE_BYTES = 50 * 1000 * 1000


def judged_by(fleet: Fleet, prometheus: Prometheus, role: str, queries: list[str]) -> AgentProcess:
    fleet.add(2)
    timing = {"margin": "+20%", "role": role, "every": "500ms", "block": "2s", "warmup": "1s"}
    gauges = {f"g{i}": {"query": query, **timing} for i, query in enumerate(queries)}
    analysis: dict[str, Any] = {**fleet.config()["analysis"], "budget": "15s", "gauges": gauges}
    return fleet.run_agent(prometheus={"url": prometheus.url, "timeout": "1s"}, analysis=analysis)


def counted(agent: AgentProcess, series: str) -> float:
    """The value of a series of the agent's page, labels in the order of their names; 0 when it is not there."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", agent.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_no_answer_of_prometheus_but_a_number_passes_or_fails_an_objective(
    fleet: Fleet, prometheus: Prometheus
) -> None:
    agent = judged_by(fleet, prometheus, "objective", list(ANSWERS))
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD", seconds=90)
    assert (over["phase"], over["verdict"]) == ("HELD", "inconclusive"), over["why"]
    for i, reason in enumerate(ANSWERS.values()):
        assert f"g{i}" in over["why"]
        assert counted(agent, f'haldane_reading_errors_total{{metric="g{i}",model="{MODEL}",reason="{reason}"}}') > 0
    said = {record["data"]["metric"] for record in agent.records(name) if record["kind"] == "readings_missing"}
    assert said == {f"g{i}" for i in range(len(ANSWERS))}


def test_a_prometheus_that_answers_nothing_holds_up_no_pair_and_passes_no_objective(
    fleet: Fleet, prometheus: Prometheus
) -> None:
    agent = judged_by(fleet, prometheus, "objective", [RSS])
    prometheus.freeze()
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD", seconds=90)
    assert (over["phase"], over["verdict"]) == ("HELD", "inconclusive"), over["why"]
    assert agent.get(f"/v1/rollouts/{name}").json()["ruling"]["pairs"] > 200
    assert counted(agent, f'haldane_reading_errors_total{{metric="g0",model="{MODEL}",reason="unavailable"}}') > 0


def test_an_alertmanager_that_refuses_is_counted_and_holds_up_no_rollout(
    fleet: Fleet, need_binary: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path
) -> None:
    config = PAGES_QUICKLY.format(port=free_port())
    elsewhere = ("--web.route-prefix=/alerts",)  # so it says 404 to where it is looked for
    alertmanager = Process(need_binary("alertmanager"), tmp_path, free_port(), config, *elsewhere)
    alertmanager.url += "/alerts"
    alertmanager.start()
    try:
        fleet.add(2)
        fleet.add(5, "corrupt_pb")
        agent = fleet.run_agent(alertmanager=alertmanager.url.removesuffix("/alerts"))
        agent.wait_phase(agent.begin(5), "ROLLED_BACK")
        refused = 'haldane_notifications_total{notifier="alertmanager",result="refused"}'
        agent.wait(lambda: counted(agent, refused) > 0, "refused")
        assert agent.wait_phase(agent.begin(2), "SUCCEEDED")["verdict"] == "pass"
    finally:
        alertmanager.stop()
    assert "observing_failed" in agent.log.read_text()


def bloat(sandbox: Sandbox) -> None:
    """Make its metrics page 50 MB, as any client of Serving can: by the names of models that it asks for."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(sandbox.server.address, options=options) as channel:
        ask = channel.unary_unary(wire.PREDICT.path)
        for i in range(PAGE_BYTES // 3_000_000 + 1):
            request = wire.PredictRequest()
            request.model_spec.name = f"{i}" + "x" * 3_000_000
            with pytest.raises(grpc.RpcError):
                ask(request.SerializeToString(), timeout=30)


def test_a_page_of_50_mb_is_counted_and_the_rollout_goes_by_its_pairs(fleet: Fleet) -> None:
    fleet.add(2)
    agent = fleet.run_agent()
    name = agent.begin(2)
    agent.wait_phase(name, "SHADOWING")
    bloat(fleet.first)
    assert agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD")["verdict"] == "pass"
    agent.wait(
        lambda: counted(agent, 'haldane_scrape_errors_total{reason="malformed",server="r0"}') > 0, "counted", 60.0
    )


def test_a_server_whose_page_is_50_mb_from_the_start_is_not_changed_and_it_is_said_why(fleet: Fleet) -> None:
    fleet.add(2)
    bloat(fleet.first)
    agent = fleet.run_agent()
    words = ["rollout", "start", MODEL, "2", "--why", "test", "--config", str(agent.config_file)]
    done = subprocess.run([HALDANE, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "r0: its models could not be checked before the first reload: metrics page: more than" in done.stderr
    assert agent.labels()["r0"] == {}  # not even the label that is wanted at rest


@pytest.fixture
def garbled() -> Iterator[str]:
    """The URL of a page that says it is packed, and is not."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"no gzip")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    server.shutdown()
    server.server_close()


def test_a_page_that_cannot_be_unpacked_ends_nothing(fleet: Fleet, garbled: str) -> None:
    servers = [{**server, "metrics_url": garbled} for server in fleet.config()["servers"]]
    agent = fleet.run_agent(servers=servers)
    agent.wait(lambda: counted(agent, 'haldane_scrape_errors_total{reason="unavailable",server="r0"}') > 0, "counted")
    assert agent.get("/-/healthy").status_code == 200
    assert agent.labels() == {"r0": {}, "r1": {}}  # a reload could unload what is not seen


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Fleet]:
    """Servers that also serve a model of another team, whose name holds a newline."""
    fleet = Fleet(tmp_path)
    fleet.add(1)
    fleet.add(2)
    fleet.first.add("other", 1)
    try:
        for sandbox in fleet.sandboxes:
            sandbox.start(both(fleet), rest=True)
        yield fleet
    finally:
        fleet.close()


def both(fleet: Fleet) -> ServerConfig:
    other = replace(fleet.first.entry("other", 1), name=ModelName(NEWLINE))
    return fleet.first.config(fleet.first.entry(MODEL, 1), other)


async def still_serves(fleet: Fleet) -> bool:
    """Whether the other team's model answers on every server."""
    for sandbox in fleet.sandboxes:
        async with open_client(sandbox.server) as client:
            view = await client.look({ModelName(NEWLINE): ()}, {})
        if not view.models[ModelName(NEWLINE)].available(1):
            return False
    return True


async def test_a_model_whose_name_holds_a_newline_is_kept_where_the_config_has_it(shared: Fleet) -> None:
    base = shared.directory / "both.config"
    base.write_text(modelconfig.render(both(shared)))
    agent = shared.run_agent(model_config_file=str(base))
    over = agent.wait_phase(agent.begin(2), "SUCCEEDED", "ROLLED_BACK", "HELD")
    assert (over["phase"], over["verdict"]) == ("SUCCEEDED", "pass"), over["why"]
    assert await still_serves(shared)
    assert list(text_string_to_metric_families(agent.get("/metrics").text))  # the page can be read
    assert NEWLINE in agent.get("/v1/status").json()["seen"]["r0"]["models"]


async def test_a_model_whose_name_holds_a_newline_is_not_unloaded_where_the_config_lacks_it(shared: Fleet) -> None:
    agent = shared.run_agent()  # its base config has the one model only
    answer = agent.post("/v1/rollouts", model=MODEL, version=2)
    assert answer.status_code == 409
    assert "which no model of the config has as base path" in answer.json()["error"]
    assert await still_serves(shared)
