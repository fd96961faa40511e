"""Alerts arrive, at the real Alertmanager and at the stand-in alike."""

import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from haldane.demo import pager
from haldane.demo.visitor import wait_until


@pytest.fixture(params=["real", "stand-in"])
def paged(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pager.Pager]:
    if request.param == "stand-in":
        monkeypatch.setenv("PATH", "")
    else:
        assert any(map(shutil.which, pager.NAMES)), "install prometheus-alertmanager (make parts)"
    with contextlib.ExitStack() as running:
        one = running.enter_context(pager.paging(tmp_path))
        wait_until(lambda: answers(one.url), 30, "the pager does not answer")
        yield one


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/api/v2/alerts").is_success
    return False


def post(url: str, *, ends_in_seconds: float, **labels: str) -> None:
    ends = (datetime.now(UTC) + timedelta(seconds=ends_in_seconds)).isoformat()
    httpx.post(f"{url}/api/v2/alerts", json=[{"labels": labels, "annotations": {}, "endsAt": ends}]).raise_for_status()


def test_a_failed_load_is_found_by_model_and_version(paged: pager.Pager) -> None:
    post(paged.url, ends_in_seconds=60, alertname=pager.FAILED_LOAD, model="credit", version="5")
    found = wait_until(lambda: paged.failed_load("credit", 5), 10, "no alert")
    assert found["labels"]["version"] == "5"
    assert paged.failed_load("credit", 6) is None
    assert paged.failed_load("other", 5) is None


def test_another_alert_about_that_version_is_no_failed_load(paged: pager.Pager) -> None:
    post(paged.url, ends_in_seconds=60, alertname="HaldaneLoadStuck", model="credit", version="5")
    wait_until(paged.alerts, 10, "no alert")
    assert paged.failed_load("credit", 5) is None


def test_an_alert_that_has_ended_is_gone(paged: pager.Pager) -> None:
    post(paged.url, ends_in_seconds=60, alertname=pager.FAILED_LOAD, model="credit", version="5")
    wait_until(lambda: paged.failed_load("credit", 5), 10, "no alert")
    post(paged.url, ends_in_seconds=0, alertname=pager.FAILED_LOAD, model="credit", version="5")
    wait_until(lambda: paged.failed_load("credit", 5) is None, 10, "the alert still fires")


def test_the_stand_in_refuses_what_is_no_list_of_alerts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pager.paging(tmp_path) as one:
        assert httpx.post(f"{one.url}/api/v2/alerts", content=b"{").status_code == 400
        assert one.alerts() == []
