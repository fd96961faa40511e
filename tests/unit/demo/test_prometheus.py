"""The demo's Prometheus: a config that Prometheus takes, and words when something is not installed."""

import subprocess

import httpx
import pytest

from haldane.demo import performance, prometheus
from haldane.demo.prometheus import alerts_page, config, scraping
from haldane.demo.visitor import wait_until


def a_config(**more):
    given = {"agent": "http://127.0.0.1:1", "replicas": ["127.0.0.1:2"], "alertmanager": "http://127.0.0.1:3"}
    return config(**{**given, **more})


def asked(url, what):
    return httpx.get(f"{url}/api/v1/{what}", trust_env=False).json()["data"]


def test_promtool_takes_the_config_and_finds_the_rules(need_binary, tmp_path):
    (tmp_path / "prometheus.yml").write_text(a_config())
    command = [need_binary("promtool"), "check", "config", tmp_path / "prometheus.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


def test_it_runs_with_these_targets_and_this_alertmanager(need_binary, tmp_path):
    need_binary("prometheus")
    with scraping(tmp_path, a_config()) as url:
        targets = wait_until(lambda: asked(url, "targets")["activeTargets"], 30, "targets")
        groups = asked(url, "rules")["groups"]
        page = httpx.get(alerts_page(url), trust_env=False)
    assert {target["scrapeUrl"] for target in targets} == {
        "http://127.0.0.1:1/metrics",
        "http://127.0.0.1:2/monitoring/prometheus/metrics",
    }
    assert groups
    assert (page.status_code, "alerts" in page.text.lower()) == (200, True)


def test_one_that_does_not_start_ends_the_demo_with_its_last_words(need_binary, tmp_path):
    need_binary("prometheus")
    with pytest.raises(RuntimeError, match="Prometheus ended"), scraping(tmp_path, "no_such_key: 1"):
        pass


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ((), "Prometheus and Alertmanager on the PATH"),
        (("prometheus",), "needs Alertmanager on the PATH"),
        (("prometheus", "alertmanager"), ""),
    ],
)
def test_what_is_not_installed_is_named_before_anything_starts(monkeypatch, there, says):
    monkeypatch.setattr(prometheus.shutil, "which", lambda name: f"/usr/bin/{name}" if name in there else None)
    assert says in prometheus.missing()
    assert bool(prometheus.missing()) == bool(says)
    if says:
        assert performance.run(performance.Wishes(prometheus=True)) == performance.USAGE


def test_an_installation_without_the_rules_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setattr(prometheus.shutil, "which", lambda name: name)
    monkeypatch.setattr(prometheus, "RULES", tmp_path / "haldane.yml")
    assert "needs a checkout" in prometheus.missing()
