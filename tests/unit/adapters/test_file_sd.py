"""Prometheus's own file format: what is read of it, and what is said when it cannot be used."""

import json
from pathlib import Path

import pytest

from haldane.adapters.file_sd import FileList
from haldane.adapters.listing import Form
from haldane.domain.fleet import Server
from haldane.ports import Malformed, NoData, PortError, Unavailable

GROUPS = """
- targets: ["10.0.0.1:8500", "serving-b:8500"]
  labels: {env: prod}
- targets: ["[::1]:8500"]
  labels: {instance: local, __metrics_path__: /page}
"""


async def servers(path: Path, **form) -> list[tuple[str, str, str | None]]:
    found = await FileList("list", path, Form(**form)).read()
    return [(one.name, one.address, one.metrics_url) for one in found]


@pytest.mark.parametrize("name", ["targets.yml", "targets.json"])
async def test_both_forms_name_the_same_servers(tmp_path, name):
    file = tmp_path / name
    groups = [{"targets": ["a:8500", "b:8500"], "labels": {"job": "serving"}}, {"targets": ["c:8501"]}]
    file.write_text(json.dumps(groups) if name.endswith("json") else "- targets: [a:8500, b:8500]\n- targets: [c:8501]")
    assert [address for _, address, _ in await servers(file)] == ["a:8500", "b:8500", "c:8501"]


async def test_the_metrics_page_is_on_a_port_of_its_own(tmp_path):
    file = tmp_path / "targets.yml"
    file.write_text(GROUPS)
    assert await servers(file, metrics_port=8501) == [
        ("10.0.0.1:8500", "10.0.0.1:8500", "http://10.0.0.1:8501/monitoring/prometheus/metrics"),
        ("serving-b:8500", "serving-b:8500", "http://serving-b:8501/monitoring/prometheus/metrics"),
        ("local", "[::1]:8500", "http://[::1]:8501/page"),
    ]
    assert {page for _, _, page in await servers(file)} == {None}


async def test_a_file_shared_with_prometheus_names_the_pages_and_port_says_where_grpc_is(tmp_path):
    file = tmp_path / "targets.yml"
    file.write_text("- targets: [a:8501]\n  labels: {__scheme__: https}")
    page = "https://a:8501/monitoring/prometheus/metrics"
    assert await servers(file, port=8500) == [("a:8500", "a:8500", page)]


async def test_a_label_may_give_the_whole_url_of_a_page(tmp_path):
    file = tmp_path / "targets.yml"
    file.write_text("- targets: [a:8500]\n  labels: {__metrics_url__: 'http://b:9/page'}")
    assert await servers(file) == [("a:8500", "a:8500", "http://b:9/page")]


async def test_every_file_that_a_glob_matches_now_is_read_and_a_canary_list_gives_canary_servers(tmp_path):
    pattern = tmp_path / "*.yml"
    source = FileList("list", pattern, Form(canary=True))
    with pytest.raises(NoData, match="no file matches"):
        await source.read()
    (tmp_path / "b.yml").write_text("- targets: [b:1]")
    (tmp_path / "a.yml").write_text("- targets: [a:1]")
    (tmp_path / "c.json").write_text("[]")
    assert list(await source.read()) == [Server(name, name, None, True) for name in ("a:1", "b:1")]


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("targets: [a:1]", 1, "must be a list"),
        ("- targets: [a:1]\n  port: 8500", 1, "nothing else"),
        ("- targets: a:1", 1, "list of HOST:PORT"),
        ("- targets:\n  - a:1\n  - b", 3, "got 'b'"),
        ("- targets: [8500]", 1, "got 8500"),
        ("- targets: ['http://a:8501']", 1, "HOST:PORT"),
        ("- targets: ['a:99999']", 1, "a:99999"),
        ("- targets: [a:1]\n  labels: [x]", 2, "map of words"),
        ("- targets: [a:1]\n  labels: {shard: 3}", 2, "quotes"),
        ("- targets: [a:1, b:1]\n  labels: {instance: r0}", 2, "a group for each"),
        ("- targets: [a:1\n", 2, "not YAML"),
        ("- {targets: [a:1], targets: [b:1]}", 1, "given twice"),
    ],
)
async def test_a_file_that_is_wrong_says_where_and_what_would_be_right(tmp_path, text, line, word):
    file = tmp_path / "targets.yml"
    file.write_text(text)
    with pytest.raises(Malformed) as caught:
        await servers(file)
    assert f"{file}:{line}" in caught.value.detail and word in caught.value.detail


@pytest.mark.parametrize("text", ["", "[]", "- targets: []", "# nobody yet"])
async def test_a_file_that_names_nobody_has_no_data(tmp_path, text):
    file = tmp_path / "targets.yml"
    file.write_text(text)
    with pytest.raises(NoData):
        await servers(file)


async def test_what_cannot_be_read_is_told_apart(tmp_path):
    with pytest.raises(Unavailable, match="cannot read"):
        await servers(tmp_path / "gone.yml")
    (tmp_path / "raw.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PortError, match="UTF-8"):
        await servers(tmp_path / "raw.yml")
