"""Rules and boards use only series that someone exports, and every alert has its runbook."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from tools.boards.queries import BOARDS, load, queries, variables

from haldane.judge.conditions import Name
from haldane.sandbox import metric_families
from haldane.sandbox.metrics import page_name
from haldane.telemetry import TapTelemetry, Telemetry

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted(path for path in (ROOT / "rules").glob("*.yml") if not path.stem.endswith("_test"))
FROM_PROMETHEUS = {"up"}
ON_NO_BOARD = {
    "haldane_tap_build_info": "whether a tap answers is haldane_tap_up; its version is of use when something is wrong",
    "process_virtual_memory_bytes": "says nothing of a process that maps files; what is resident is shown",
}
WORDS = {"and", "or", "unless", "by", "on", "without", "ignoring", "group_left", "group_right", "offset", "bool"}


def exported_names() -> set[str]:
    """What the pages of agent and tap may show."""
    registry = CollectorRegistry()
    Telemetry.on(registry)
    TapTelemetry.on(registry)
    return {
        name + ("_total" if family.type == "counter" else "")
        for family in registry.collect()
        for name in (family.name.removesuffix("_total"),)
    }


def serving_names() -> set[str]:
    """What TensorFlow Serving's page may show."""
    plain = {page_name(name) for name in (*metric_families.COUNTERS, *metric_families.GAUGES)}
    histograms = {page_name(name) for name in metric_families.HISTOGRAMS}
    return plain | {name + suffix for name in histograms for suffix in ("_bucket", "_sum", "_count")}


def recorded_names() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def series_in(expression: str) -> set[str]:
    """The names of all series in a PromQL expression."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\boffset\s+\w+", "", bare)
    names = re.findall(r"(?<![\w.])([a-zA-Z_:][\w:]*)(?!\w|\s*\()", bare)
    return {name for name in names if name not in WORDS}


def test_series_are_found_in_an_expression():
    assert series_in('sum by (a) (rate(:x:y_bucket{m="up"}[5m] offset 1m)) / on (b) up > time() and absent(z)') == {
        ":x:y_bucket",
        "up",
        "z",
    }


@pytest.mark.parametrize("rule", list(rules()), ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_use_only_series_that_someone_exports(rule):
    known = exported_names() | serving_names() | recorded_names() | FROM_PROMETHEUS
    assert series_in(rule["expr"]), "no series found"
    assert series_in(rule["expr"]) <= known


def shown(path: Path) -> set[str]:
    """The names of all series that a board asks for."""
    board = load(path)
    asked = [*(query for query, _ in queries(board)), *(variable.series for variable in variables(board).values())]
    return set().union(*(series_in(expression) for expression in asked))


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.name)
def test_boards_use_only_series_that_someone_exports(path):
    known = exported_names() | serving_names() | recorded_names()
    assert shown(path)
    assert shown(path) <= known


def test_every_series_of_ours_is_on_a_board_or_left_out_for_a_reason():
    used = set().union(*(shown(path) for path in BOARDS))
    assert exported_names() - used == ON_NO_BOARD.keys()


def test_no_rule_or_board_takes_a_sum_of_serving():
    """Pages write numbers with six digits, so a sum of microseconds that has grown hides what was added to it."""
    used = set().union(*(shown(path) for path in BOARDS), *(series_in(rule["expr"]) for rule in rules()))
    assert any(name.endswith("_bucket") for name in used)
    assert [name for name in used & serving_names() if name.endswith("_sum")] == []


def test_every_alert_says_how_bad_it_is_and_where_its_runbook_lies():
    for rule in rules():
        if "alert" not in rule:
            continue
        assert rule["labels"]["severity"] in ("page", "ticket", "info")
        assert {"summary", "description", "runbook_url"} <= set(rule["annotations"])
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
        assert (ROOT / rule["annotations"]["runbook_url"]).is_file()


def test_every_condition_has_an_alert_and_every_alert_a_condition_that_exists():
    asked = {name for rule in rules() for name in re.findall(r'condition="(\w+)"', rule["expr"])}
    # haldane_server_up names the server; phase, its age and stable_failing are also for those that only hold a while.
    by_another_series = {Name.SERVER_UNSEEN, Name.ROLLOUT_STUCK, Name.ROLLBACK_SLOW, Name.STABLE_FAILING}
    assert asked == {str(name) for name in Name} - by_another_series


def test_every_runbook_belongs_to_an_alert():
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} - {"README"} == alerts


def test_every_alert_fires_in_the_rule_tests():
    tested = (ROOT / "rules" / "haldane_test.yml").read_text()
    assert [rule["alert"] for rule in rules() if "alert" in rule and rule["alert"] not in tested] == []


def test_prometheus_accepts_the_rules_and_they_fire_when_they_should(need_binary):
    promtool = need_binary("promtool")
    for words in (["check", "rules", *RULES], ["test", "rules", ROOT / "rules" / "haldane_test.yml"]):
        done = subprocess.run([promtool, *words], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
