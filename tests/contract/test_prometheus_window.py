"""A past window of a real Prometheus, backfilled by its own tool, judged by `haldane backtest`."""

import json
import math
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner

from haldane.adapters.promql import open_range, query_range
from haldane.cli import main
from haldane.ports import NoData, Refused

STEP = 15
START = 1_760_000_400  # a whole hour, so that blocks need not be cut
POINTS = 4 * 60 * 60 // STEP
END = START + (POINTS - 1) * STEP


def openmetrics() -> str:
    """Two pods whose heap wanders together, each with a noise of its own; one of `leaky` holds 40 % more."""
    draw = np.random.default_rng(11)
    shared = 2e8 * np.exp(np.cumsum(draw.normal(0, 0.01, POINTS)))
    series = {
        'heap_bytes{track="stable"}': shared * draw.lognormal(0, 0.05, POINTS),
        'heap_bytes{track="canary"}': shared * draw.lognormal(0, 0.05, POINTS),
        'heap_bytes{track="leaky"}': 1.4 * shared * draw.lognormal(0, 0.05, POINTS),
    }
    lines = ["# TYPE heap_bytes gauge"]
    for name, values in series.items():
        lines += [f"{name} {value:.1f} {START + index * STEP}" for index, value in enumerate(values)]
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def prometheus(
    need_binary: Callable[[str], str], free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Its URL, with the window in its store."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "window.om").write_text(openmetrics())
    (folder / "prometheus.yml").write_text("global: {}\n")
    backfill = [need_binary("promtool"), "tsdb", "create-blocks-from", "openmetrics", "window.om", "data"]
    subprocess.run(backfill, cwd=folder, check=True, capture_output=True, timeout=120)
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        need_binary("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until_ready(url, process, folder / "log")
        yield url
    finally:
        process.terminate()
        process.wait(20)


def until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            if httpx.get(f"{url}/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"not ready:\n{log.read_text()[-2000:]}")


def backtest(url: str, canary: str, *more: str, stable: str = "stable") -> tuple[int, dict[str, Any]]:
    sides = ["--stable", f'heap_bytes{{track="{stable}"}}', "--canary", f'heap_bytes{{track="{canary}"}}']
    where = ["--config", url] if url.endswith(".yaml") else ["--prometheus", url]
    window = [*where, "--last", "4h", "--end", str(END), "--step", f"{STEP}s"]
    result = CliRunner().invoke(main, ["backtest", *window, *sides, "--streams", "20", "-o", "json", *more])
    return result.exit_code, json.loads(result.stdout) if result.exit_code in (0, 1) else {"says": result.output}


def test_the_whole_window_comes_back(prometheus: str) -> None:
    with open_range(prometheus, timeout_seconds=10.0) as http:
        found = query_range(http, 'heap_bytes{track="stable"}', start=START, end=END, step=STEP)
    assert len(found.at) == POINTS
    assert (found.at[0], found.at[-1]) == (START, END)
    assert math.isclose(float(np.median(found.values)), 2e8, rel_tol=0.9)


def test_a_query_that_cannot_run_is_refused_in_prometheus_own_words(prometheus: str) -> None:
    with open_range(prometheus, timeout_seconds=10.0) as http:
        with pytest.raises(Refused, match="parse error"):
            query_range(http, "heap_bytes{", start=START, end=END, step=STEP)
        with pytest.raises(NoData, match="gives 3 series"):
            query_range(http, "heap_bytes", start=START, end=END, step=STEP)


def test_two_alike_would_have_passed_and_the_least_harm_found_is_told(prometheus: str) -> None:
    code, found = backtest(prometheus, "canary")
    assert code == 0, found
    assert found["evidence"][0]["decided"]["verdict"] == "pass"
    assert found["alike"]["rollback"]["hits"] == 0
    (metric,) = found["metrics"]
    assert metric["metric"] == "canary/stable"
    assert 0.10 < metric["found"] < 0.20
    assert metric["edge"]["rollback"]["hits"] <= 1


def test_the_agents_own_config_says_where_and_by_which_rules(prometheus: str, tmp_path: Path) -> None:
    config = tmp_path / "haldane.yaml"
    config.write_text(f"servers: [127.0.0.1:1]\nprometheus: {{url: {prometheus}}}\nanalysis: {{alpha: 1.0e-30}}\n")
    code, found = backtest(str(config), "leaky")
    assert (code, found["alpha"]) == (0, 1e-30)
    assert found["evidence"][0]["decided"]["pairs"] > 200  # it takes longer to be so sure


def test_a_canary_that_holds_more_would_have_been_withdrawn(prometheus: str) -> None:
    code, found = backtest(prometheus, "leaky")
    assert code == 0, found
    decided = found["evidence"][0]["decided"]
    assert decided["verdict"] == "fail"
    assert decided["findings"][0]["estimate"] == pytest.approx(0.4, abs=0.05)
    assert decided["seconds"] < 3600


def test_where_less_is_worse_the_sides_change_places(prometheus: str) -> None:
    code, found = backtest(prometheus, "stable", "--worse", "lower", stable="leaky")
    assert code == 0, found
    assert found["evidence"][0]["decided"]["verdict"] == "fail"
    assert found["metrics"][0]["metric"] == "stable/canary"
    code, found = backtest(prometheus, "leaky", "--worse", "lower")
    assert found["evidence"][0]["decided"]["verdict"] == "pass"


def test_a_window_without_readings_is_no_data(prometheus: str) -> None:
    code, found = backtest(prometheus, "nobody")
    assert code == 3
    assert 'heap_bytes{track="nobody"}: no number in the whole window' in found["says"]
