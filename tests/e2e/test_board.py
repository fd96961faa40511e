"""Every query of every board gives something in a real Prometheus that watches a fleet at work and in trouble.

After such a day the agent's page has no more series than docs/reference/metrics.md says.
"""

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.fleet import MODEL, AgentProcess, Fleet
from tests.prometheus import Prometheus
from tools.boards.queries import BOARDS, filled, load, queries, variables

from haldane.testing.sandboxes import METRICS_PATH

MORE = """
  - job_name: tensorflow-serving
    metrics_path: {path}
    static_configs: [{{targets: {targets}}}]
rule_files: [{rules}]
"""
# One in a unit of its own, and one that is never there.
GAUGES = {
    "load": {"kind": "load_time", "limit": "60s"},
    "queue": {"query": 'no_such_series{version="$version"}', "margin": "+10%", "every": "1s", "role": "info"},
}
NEVER_HERE = re.compile(
    'verdict="inconclusive"'  # takes a whole budget; the marks of other verdicts differ in this word only
    "|haldane_pairs_dropped"  # a matter of chance
    # of parts that this fleet does not have
    "|haldane_(gateway|listed_servers|server_list|releases|tap|boot_config|shadow_senders)_?"
    # nobody is refused; storage is well; labels show no harm
    "|haldane_(denied|callers_refused|storage_errors|promotions_taken_back)_"
)


def asked(prometheus: Prometheus, board: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """The board's queries, once for each value that their variables have in this Prometheus, or once for all values."""
    values, choices = {"__rate_interval": "10s"}, {}
    for name, variable in variables(board).items():
        query = f"group by ({variable.label}) ({filled(variable.series, values)})"
        found = sorted(one["metric"][variable.label] for one in answer(prometheus, query, now=False))
        assert found, f"${name} of {board['uid']} has no value"
        values[name], choices[name] = variable.all or found[0], [variable.all] if variable.all else found
    for expression, now in queries(board):
        used = [name for name in choices if re.search(rf"\${name}\b", expression)]
        for chosen in product(*(choices[name] for name in used)):
            yield filled(expression, {**values, **dict(zip(used, chosen, strict=True))}), now


def answer(prometheus: Prometheus, query: str, *, now: bool) -> list[Any]:
    """The series it gives now, or in the last ten minutes."""
    end = time.time()
    what, when = ("query", {}) if now else ("query_range", {"start": end - 600, "end": end, "step": 1})
    reply = httpx.get(f"{prometheus.url}/api/v1/{what}", params={"query": query, **when}, trust_env=False).json()
    assert reply["status"] == "success", (query, reply)
    found: list[Any] = reply["data"]["result"]
    return found


def scraped(prometheus: Prometheus) -> None:
    """Waits until the agent's page as it is now has been read: the next step may end what it shows."""
    now, up = time.time(), 'up{job="haldane"}'
    prometheus.wait(lambda: prometheus.series(f"({up} == 1) and timestamp({up}) > {now}") == 1)


def a_day(fleet: Fleet, agent: AgentProcess, prometheus: Prometheus) -> None:
    """A good version, one on trial while a server is in trouble, a broken and a wrong one; then a server restarts."""
    fleet.add(2)
    agent.wait_phase(agent.begin(2), "SUCCEEDED")
    fleet.add(3)
    trial = agent.begin(3)
    agent.wait_phase(trial, "SHADOWING")
    headers, label = {"Authorization": f"Bearer {agent.token}"}, {"request": "nobody", "label": 1.0}
    httpx.post(f"{agent.url}/v1/labels?model={MODEL}", json=[label], headers=headers).raise_for_status()
    for series, fault in (
        ("pairs_set_aside", {"code": "INVALID_ARGUMENT", "share": 0.5}),
        ("shadow_shed", {"share": 0.5}),
    ):
        fleet.break_(0, kind="fail", **fault)
        agent.wait(lambda name=series: f"haldane_{name}_total{{" in agent.get("/metrics").text, series)
        scraped(prometheus)
        fleet.mend(0)
    agent.post(f"/v1/rollouts/{trial}/commands", kind="abort").raise_for_status()
    agent.wait_phase(trial, "ROLLED_BACK")
    fleet.add(4, "corrupt_pb")
    agent.wait_phase(agent.begin(4), "ROLLED_BACK")
    scraped(prometheus)
    fleet.add(5, k=20.0)
    agent.wait_phase(agent.begin(5), "ROLLED_BACK")
    scraped(prometheus)
    fleet.restart(1)


def beyond_what_is_told(root: Path, page: str) -> dict[str, int]:
    """How many series too many there are, by name."""
    samples = [one for family in text_string_to_metric_families(page) for one in family.samples]
    checks = {one.labels["metric"] for one in samples if one.name == "haldane_check_info"} | GAUGES.keys()
    sizes = {"M": 1, "S": 2, "L": 2, "V": 5, "C": len(checks)}  # no gateways, lists and other parts with a letter

    def most(told: str) -> int:
        sized = [
            [int(word) if word.isdigit() else sizes.get(word, 0) for word in part.split()] for part in told.split(" + ")
        ]
        return sum(math.prod(part) for part in sized)

    rows = re.findall(r"^\| `(\w+)` \| \w+ \| [^|]+ \| ([^|]+) \|", _reference(root), re.MULTILINE)
    limits = {name: most(told.strip()) for name, told in rows}
    counted = Counter(one.name for one in samples if not one.name.endswith("_created"))
    ours = {name: count for name, count in counted.items() if not name.startswith("process_")}
    assert len(ours) > 25
    return {name: count - limits.get(name, 0) for name, count in ours.items() if count > limits.get(name, 0)}


def _reference(root: Path) -> str:
    return (root / "docs" / "reference" / "metrics.md").read_text()


@pytest.mark.timeout(600)  # a whole day
def test_every_query_of_every_board_gives_something_and_no_series_is_more_than_told(
    fleet: Fleet, root: Path, need_binary: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path
) -> None:
    port = free_port()
    rows = tmp_path / "flawed.csv"
    rows.write_text(fleet.rows().read_text().replace("\n", "\n1.0,\n", 1))  # a record that cannot be used
    agent = fleet.run_agent(
        models={
            MODEL: {"clients": "label", "traffic": {"labelled": str(rows), "label": "truth"}, "labels": {"wait": "5s"}}
        },
        analysis={**fleet.config()["analysis"], "gauges": GAUGES},
        prometheus={"url": f"http://127.0.0.1:{port}"},
        alertmanager=f"http://127.0.0.1:{free_port()}",  # nobody is there
    )
    page = urlparse(agent.url).port
    assert page is not None
    serving = [f"127.0.0.1:{sandbox.rest_port}" for sandbox in fleet.sandboxes]
    more = MORE.format(path=METRICS_PATH, targets=serving, rules=root / "rules" / "haldane.yml")
    with closing(Prometheus(need_binary("prometheus"), tmp_path, port, {"haldane": page}, more=more)) as prometheus:
        prometheus.start()
        prometheus.wait(lambda: prometheus.series("up == 1") == 3)
        a_day(fleet, agent, prometheus)
        due = {one for path in BOARDS for one in asked(prometheus, load(path)) if not NEVER_HERE.search(one[0])}
        assert len(due) > 60
        deadline = time.monotonic() + 60
        while due := {(query, now) for query, now in due if not answer(prometheus, query, now=now)}:
            assert time.monotonic() < deadline, "no data for\n" + "\n".join(query for query, _ in sorted(due))
            time.sleep(0.5)
    assert beyond_what_is_told(root, agent.get("/metrics").text) == {}
