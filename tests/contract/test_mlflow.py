"""What a run says of itself: a real MLflow server, and answers that no such server gives."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from tests.mlflow import Mlflow

from haldane.adapters.mlflow import run_notes
from haldane.adapters.registry import open_registry
from haldane.cli import main
from haldane.cli.neighbours import neighbours
from haldane.config import Config
from haldane.ports import Malformed, PortError, Refused, Unavailable

PREFIX = "/api/2.0/mlflow/"


@pytest.fixture(scope="module")
def tracking(need_binary: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Mlflow(need_binary("mlflow"), tmp_path_factory.mktemp("mlflow")) as server:
        server.wait()
        yield server.url


def a_run(tracking: str, *, status: str = "FINISHED") -> str:
    def post(path: str, **body: Any) -> Any:
        reply = httpx.post(tracking + PREFIX + path, json=body, timeout=60, trust_env=False)
        reply.raise_for_status()
        return reply.json()

    tags = [{"key": "mlflow.user", "value": "ada"}, {"key": "team", "value": "risk"}]
    tags += [{"key": "mlflow.source.git.commit", "value": "0af6b1c"}]
    run = str(post("runs/create", experiment_id="0", run_name="october", tags=tags)["run"]["info"]["run_id"])
    post("runs/log-parameter", run_id=run, key="depth", value="6")
    for key, value in (("auc", 0.81), ("loss", "NaN")):
        post("runs/log-metric", run_id=run, key=key, value=value, timestamp=1, step=0)
    dataset = {"name": "loans", "digest": "5f0c7a", "source_type": "local", "source": "loans.parquet"}
    post("runs/log-inputs", run_id=run, datasets=[{"dataset": dataset}])
    post("runs/update", run_id=run, status=status)
    return run


@pytest.mark.timeout(600)
@pytest.mark.xdist_group("mlflow")
def test_a_real_run_says_parameters_metrics_data_and_who(tracking: str) -> None:
    run = a_run(tracking)
    assert run_notes(tracking, run) == {
        "run": run,
        "status": "FINISHED",
        "name": "october",
        "user": "ada",
        "commit": "0af6b1c",
        "params": {"depth": "6"},
        "metrics": {"auc": 0.81, "loss": None},
        "data": ["loans@5f0c7a"],
        "tags": {"team": "risk"},
    }


@pytest.mark.timeout(600)
@pytest.mark.xdist_group("mlflow")
def test_a_run_that_is_not_there_or_failed_is_refused(tracking: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"status 404: Run .* not found"):
        run_notes(tracking, "0" * 32)
    failed = a_run(tracking, status="FAILED")
    with pytest.raises(Refused, match="is FAILED"):
        run_notes(tracking, failed)
    arguments = ["--model", "m", "--to", str(tmp_path), "--mlflow", tracking, "--mlflow-run", failed]
    result = CliRunner().invoke(main, ["release", "publish", str(tmp_path), *arguments])
    assert result.exit_code == 5
    assert "nothing is released of a run that did not end well" in result.stderr


@pytest.mark.timeout(600)
@pytest.mark.xdist_group("mlflow")
async def test_aliases_of_a_registered_model_are_set_moved_and_dropped(tracking: str) -> None:
    name, runs = "O'Neill's loans", [a_run(tracking), a_run(tracking)]
    async with httpx.AsyncClient(base_url=tracking + PREFIX, timeout=60, trust_env=False) as http:
        (await http.post("registered-models/create", json={"name": name})).raise_for_status()
        for run in (*runs, runs[0]):
            body = {"name": name, "source": f"runs:/{run}/model", "run_id": run}
            (await http.post("model-versions/create", json=body)).raise_for_status()
    async with open_registry(tracking, token=None, timeout_seconds=60) as registry:
        first, second = [await registry.version_of(name, run) for run in runs]
        assert (first, second) == ("3", "2"), "the newest of a run"
        assert await registry.aliases(name) == {}
        await registry.set_alias(name, "champion", "1")
        await registry.set_alias(name, "champion", "2")
        await registry.set_alias(name, "challenger", "3")
        assert await registry.aliases(name) == {"champion": "2", "challenger": "3"}
        await registry.drop_alias(name, "challenger")
        assert await registry.aliases(name) == {"champion": "2"}
        config = {"clients": "label", "registered": name}
        section = {"models": {"loans": config, "cars": {**config, "registered": "cars"}}, "mlflow": {"url": tracking}}
        fine, wrong = await neighbours(Config.model_validate(section))
        assert fine == (True, f"loans: registered as {name}, champion is 2")
        assert (wrong[0], wrong[1].startswith("cars: registered as cars: mlflow: status 404")) == (False, True)
        for unknown in ("0" * 32, "x' or name='loans", ""):
            assert await registry.version_of(name, unknown) is None
        with pytest.raises(Refused, match="status 404"):
            await registry.aliases("nobody")


async def test_a_registry_that_is_away_or_something_else_is_told(other: Callable[[int, bytes], str]) -> None:
    for address, error in (
        ("http://127.0.0.1:1", Unavailable),
        (other(503, b""), Unavailable),
        (other(200, b"<"), Malformed),
    ):
        async with open_registry(address, token="secret", timeout_seconds=5) as registry:
            with pytest.raises(error) as caught:
                await registry.aliases("loans")
            assert "secret" not in str(caught.value)


@pytest.fixture
def other() -> Iterator[Callable[[int, bytes], str]]:
    """A server that gives one answer to everything."""
    servers = []

    def start(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://user:secret@127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"<html>", Malformed),
        (200, b"{}", Malformed),
        (200, b'{"run": {"info": {"run_id": "r"}, "data": {}}}', Malformed),
        (200, b'{"run": {"info": {"run_id": "r", "status": "FINISHED"}, "data": {"metrics": [{}]}}}', Malformed),
        (404, b"nothing here", Malformed),
        (401, b"{}", Refused),
        (429, b"", Unavailable),
        (503, b"", Unavailable),
    ],
)
def test_any_other_answer_is_told_for_what_it_is(
    other: Callable[[int, bytes], str], status: int, body: bytes, error: type[PortError]
) -> None:
    with pytest.raises(error) as caught:
        run_notes(other(status, body), "r")
    assert "secret" not in str(caught.value)


def test_a_run_without_anything_is_still_a_run(other: Callable[[int, bytes], str]) -> None:
    body = b'{"run": {"info": {"run_id": "r", "status": "RUNNING"}, "data": {}}}'
    assert run_notes(other(200, body), "r") == {"run": "r", "status": "RUNNING"}


def test_no_server_is_unavailable() -> None:
    for address in ("http://127.0.0.1:1", "not an address", "databricks"):
        with pytest.raises(Unavailable, match="is that the address of a tracking server"):
            run_notes(address, "r")


def test_a_run_without_an_address_is_wrong_usage(tmp_path: Path) -> None:
    arguments = ["release", "publish", str(tmp_path), "--model", "m", "--to", str(tmp_path), "--mlflow-run", "r"]
    result = CliRunner().invoke(main, arguments, env={"MLFLOW_TRACKING_URI": None})
    assert result.exit_code == 2
    assert "MLFLOW_TRACKING_URI" in result.stderr
