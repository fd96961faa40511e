"""The scrape benchmark reads what it says it reads."""

import subprocess
import sys

from haldane.serving import exposition


def test_it_reads_the_recorded_pages_and_a_fleet_of_pages(root):
    command = [sys.executable, root / "benchmarks" / "scrape.py", "--models", "2", "--replicas", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, cwd=root)
    assert "times as fast as prometheus_client.parser" in done.stdout.splitlines()[0], done.stderr
    assert "2 models on 2 servers" in done.stdout


def test_a_fleet_page_has_every_model_and_no_broken_line(root, monkeypatch):
    monkeypatch.syspath_prepend(root / "benchmarks")
    import scrape

    page = exposition.parse(scrape.with_other_numbers(scrape.fleet_page(30), 0))
    assert page.corrupt == 0
    assert {f"model{number}" for number in range(30)} <= exposition.models_seen(page)
    assert any(path.base_path.endswith("model29") for path in exposition.loads(page, "success"))
