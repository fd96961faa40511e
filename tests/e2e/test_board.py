"""Every query of the boards gives something in a real Prometheus that watches a fleet at work."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import httpx
from tests.fleet import Fleet
from tests.prometheus import Prometheus

from haldane.testing.sandboxes import METRICS_PATH

# What only trouble brings: that somebody exports these is held by tests/drift/test_series.py.
EMPTY_WHEN_ALL_IS_WELL = ("set_aside", "shed", "errors:ratio")
MORE = """
  - job_name: tensorflow-serving
    metrics_path: {path}
    static_configs: [{{targets: {targets}}}]
rule_files: [{rules}]
"""


def queries(board: Any) -> Iterator[str]:
    """Every PromQL expression of a board, with its variables filled in."""
    if isinstance(board, dict):
        if isinstance(expression := board.get("expr"), str):
            yield expression.replace("$__rate_interval", "10s").replace("$model", ".*")
        board = list(board.values())
    for part in board if isinstance(board, list) else ():
        yield from queries(part)


def answer(prometheus: Prometheus, query: str) -> list[Any]:
    reply = httpx.get(f"{prometheus.url}/api/v1/query", params={"query": query}, trust_env=False).json()
    assert reply["status"] == "success", (query, reply)
    found: list[Any] = reply["data"]["result"]
    return found


def test_every_query_of_every_board_gives_something(
    fleet: Fleet, root: Path, need_binary: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path
) -> None:
    agent = fleet.run_agent()
    page = urlparse(agent.url).port
    assert page is not None
    serving = [f"127.0.0.1:{sandbox.rest_port}" for sandbox in fleet.sandboxes]
    more = MORE.format(path=METRICS_PATH, targets=serving, rules=root / "rules" / "haldane.yml")
    with closing(
        Prometheus(need_binary("prometheus"), tmp_path, free_port(), {"haldane": page}, more=more)
    ) as prometheus:
        prometheus.start()
        prometheus.wait(lambda: prometheus.series("up == 1") == 3)
        fleet.add(2)
        agent.wait_phase(agent.begin(2), "SUCCEEDED")
        fleet.add(3, "corrupt_pb")
        agent.wait_phase(agent.begin(3), "ROLLED_BACK")
        boards = sorted((root / "dashboards").glob("*.json"))
        asked = {query for board in boards for query in queries(json.loads(board.read_text()))}
        assert len(asked) > 10
        due = {query for query in asked if not any(word in query for word in EMPTY_WHEN_ALL_IS_WELL)}
        deadline = time.monotonic() + 30
        while empty := [query for query in asked if not answer(prometheus, query) and query in due]:
            assert time.monotonic() < deadline, f"no data for {empty}"
            time.sleep(0.5)
