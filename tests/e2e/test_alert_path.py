"""A load that fails on a server reaches a receiver: agent → Prometheus with our rules → Alertmanager → webhook."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from tests.alertmanager import PAGES_QUICKLY, Pager, Process
from tests.fleet import MODEL, Fleet
from tests.prometheus import Prometheus

from haldane.serving import modelconfig

ALERTING = """
rule_files: [{rules}]
alerting:
  alertmanagers:
    - static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""


@pytest.fixture
def latest(tmp_path: Path) -> Iterator[Fleet]:
    """Two servers that load the latest version there is, as many run Serving, and an agent that only watches."""
    fleet = Fleet(tmp_path)
    fleet.add(1)
    everything = fleet.first.config(fleet.first.entry(MODEL))
    config = tmp_path / "latest.config"
    config.write_text(modelconfig.render(everything))
    try:
        for sandbox in fleet.sandboxes:
            sandbox.start(everything, rest=True)
        fleet.run_agent(mode="observe", model_config_file=str(config), models={})
        yield fleet
    finally:
        fleet.close()


@pytest.fixture
def pager(
    latest: Fleet, root: Path, need_binary: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path
) -> Iterator[Pager]:
    """What a real Alertmanager delivers of what a real Prometheus finds on the agent's page."""
    assert latest.agent is not None
    with closing(Pager()) as pager:
        alertmanager = Process(
            need_binary("alertmanager"), tmp_path, port := free_port(), PAGES_QUICKLY.format(port=pager.port)
        )
        page = urlparse(latest.agent.url).port
        assert page is not None
        more = ALERTING.format(rules=root / "rules" / "haldane.yml", port=port)
        prometheus = Prometheus(need_binary("prometheus"), tmp_path, free_port(), {"haldane": page}, more=more)
        alertmanager.start()
        with closing(prometheus):
            try:
                prometheus.start()
                prometheus.wait(lambda: prometheus.series("haldane_server_up == 1") == 2)
                yield pager
            finally:
                alertmanager.stop()


def until(pager: Pager, alert: str, status: str) -> dict[str, Any]:
    """The next page of that alert in that state; those that came before are passed over."""
    while True:
        page: dict[str, Any] = asyncio.run(pager.next())
        if page["commonLabels"]["alertname"] == alert and page["status"] == status:
            return page


def test_a_failed_load_is_one_page_for_all_servers_that_names_the_version_and_is_resolved_when_something_better_serves(
    latest: Fleet, pager: Pager
) -> None:
    asyncio.run(pager.living())  # the chain is alive, and says so
    latest.add(5, "corrupt_pb")
    page = until(pager, "HaldaneLoadFailed", "firing")
    [alert] = page["alerts"]
    assert alert["labels"].items() >= {"model": MODEL, "version": "5", "severity": "page"}.items()
    assert alert["annotations"]["summary"] == f"{MODEL} version 5 failed to load."
    latest.add(6)
    until(pager, "HaldaneLoadFailed", "resolved")
