"""Gauges in the config: what they become, and what a mistake says."""

from pathlib import Path

import pytest

from haldane.config import ConfigError, load_config
from haldane.domain.evidence import Role
from haldane.judge.gauges import Gauge, GaugeRule

BASE = """\
servers: [{{address: "h:1"{server}}}]
{prometheus}
models: {{m: {{clients: label, stable: 1}}}}
analysis:
  gauges:
    {gauges}
"""
PROMETHEUS = "prometheus: {url: 'http://p:9090'%s}"
QUERY = "queue: {query: 'avg(depth{version=\"$version\"})', margin: +10%}"


def write(folder: Path, gauges: str, *, prometheus: str = PROMETHEUS % "", server: str = "") -> Path:
    path = folder / "haldane.yaml"
    path.write_text(BASE.format(server=server, prometheus=prometheus, gauges=gauges))
    return path


def gauge(folder: Path, text: str, **more: str) -> GaugeRule:
    return load_config(write(folder, text, **more)).rules_of("m").gauges[0]


def says(folder: Path, text: str, **more: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text, **more))
    return {problem.key: problem.says for problem in caught.value.problems}


def test_a_query_becomes_a_rule(tmp_path: Path) -> None:
    rule = gauge(tmp_path, QUERY)
    assert (rule.name, rule.kind, rule.margin, rule.role) == ("queue", Gauge.QUERY, 0.1, Role.GUARDRAIL)
    assert (rule.every_seconds, rule.block_seconds, rule.warmup_seconds) == (5.0, 60.0, 120.0)


@pytest.mark.parametrize(
    ("text", "margin", "limit"),
    [
        ("hits: {query: 'h{v=\"$version\"}', direction: higher, margin: -5%}", 0.05, None),
        ("cpu: {kind: cpu, margin: +20%}", 0.2, None),
        ("mem: {kind: memory, limit: 500MB}", 0.0, 5e8),
        ("mem: {kind: memory, limit: 2GiB, margin: 50%}", 0.5, 2 * 1024**3),
        ("leak: {kind: memory_growth, limit: 100MB/h}", 0.0, 1e8),
        ("load: {kind: load_time, limit: 30s}", 0.0, 30.0),
    ],
)
def test_margins_and_limits_have_units(tmp_path: Path, text: str, margin: float, limit: float | None) -> None:
    rule = gauge(tmp_path, text, server=', process_url: "http://h:9256/metrics"')
    assert (rule.margin, rule.limit) == (margin, limit)


def test_a_fact_takes_next_to_no_share_of_alpha(tmp_path: Path) -> None:
    server = ', process_url: "http://h:9256/metrics"'
    assert gauge(tmp_path, QUERY).weight == 0.1
    assert gauge(tmp_path, "mem: {kind: memory, limit: 500MB}", server=server).weight == 0.001
    assert gauge(tmp_path, "mem: {kind: memory, limit: 500MB, weight: 2}", server=server).weight == 2.0


def test_a_gauge_has_a_name(tmp_path: Path) -> None:
    assert says(tmp_path, QUERY.replace("queue", "' '"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("q: {query: 'up{v=\"$version\"}', margin: 10}", "quotes"),
        ("q: {query: 'up{v=\"$version\"}', margin: '10'}", 'for example "+10%"'),
        ("q: {query: 'up{v=\"$version\"}', margin: -10%}", "ask for an improvement"),
        ("q: {query: 'up{v=\"$version\"}', margin: 0%}", "zero"),
        ("q: {query: 'up{v=\"$version\"}'}", "margin relative to stable"),
        ("q: {query: up, margin: +10%}", "must tell them apart"),
        ('q: {query: \'up{v="$version",x="$pod"}\', margin: +10%}', "nothing is filled in for $pod"),
        ("q: {query: 'up{v=~\"$version$\"}', margin: +10%}", "$$"),
        ("q: {margin: +10%}", "needs query"),
        ("q: {kind: cpu, margin: +10%, role: objective}", "make it a guardrail"),
        ("q: {kind: memory, limit: 500}", "quotes"),
        ("q: {kind: memory, limit: '500'}", '"500MB"'),
        ("q: {kind: memory, limit: 100MB/h}", '"500MB"'),
        ("q: {kind: memory_growth, limit: 100MB}", '"100MB/h"'),
        ("q: {kind: memory_growth, margin: +10%}", "give a limit"),
        ("q: {kind: load_time, limit: 30}", "quotes"),
        ("q: {kind: load_time, limit: 30GB}", '"30s"'),
        ("q: {kind: cpu, margin: +10%, limit: 3s}", "takes no limit"),
        ("q: {kind: disk, margin: +10%}", "memory_growth"),
        ("q: {kind: cpu, margin: +10%, every: 2m}", "longer than a block"),
    ],
)
def test_a_mistake_says_what_would_be_right(tmp_path: Path, text: str, word: str) -> None:
    found = says(tmp_path, text, server=', process_url: "http://h:9256/metrics"')
    assert any(word in told for key, told in found.items() if key.startswith("analysis.gauges.q")), found


def test_a_gauge_is_not_called_like_a_metric(tmp_path: Path) -> None:
    assert "latency is a metric's name" in says(tmp_path, QUERY.replace("queue", "latency"))["analysis.gauges"]


def test_one_schedule_of_blocks_is_enough(tmp_path: Path) -> None:
    two = "a: {kind: cpu, margin: +10%}\n    b: {kind: cpu, margin: +20%}"
    assert "only one gauge" in says(tmp_path, two)["analysis.gauges"]


def test_every_gauge_has_somewhere_to_be_read(tmp_path: Path) -> None:
    assert "give prometheus" in says(tmp_path, QUERY, prometheus="")["analysis.gauges.queue"]
    assert "process_url" in says(tmp_path, "cpu: {kind: cpu, margin: +10%}")["analysis.gauges.cpu"]
    listed = PROMETHEUS % "" + "\ndiscover: [{dns: serving.test, port: 8500, process_port: 9256}]"
    assert gauge(tmp_path, "cpu: {kind: cpu, margin: +10%}", prometheus=listed).kind is Gauge.CPU
    by_query = PROMETHEUS % ", cpu: 'cpu{pod=\"$server\"}'"
    assert gauge(tmp_path, "cpu: {kind: cpu, margin: +10%}", prometheus=by_query).kind is Gauge.CPU
    assert (
        "prometheus.memory" in says(tmp_path, "m: {kind: memory, limit: 1GB}", prometheus=by_query)["analysis.gauges.m"]
    )


def test_the_token_comes_by_reference_and_cannot_be_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALDANE_TEST_PROM", "s3cret")
    config = load_config(write(tmp_path, QUERY, prometheus=PROMETHEUS % ", token_env: HALDANE_TEST_PROM"))
    assert config.prometheus_token is not None
    assert config.prometheus_token.get_secret_value() == "s3cret"
    assert "s3cret" not in f"{config!r} {config.model_dump()}"
    missing = says(tmp_path, QUERY, prometheus=PROMETHEUS % ", token_file: gone")
    assert "cannot read" in missing["prometheus.token_file"]
