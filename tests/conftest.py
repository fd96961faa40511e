"""Fixtures every suite shares: free ports, real programs, and where tests may run side by side."""

import faulthandler
import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from haldane.testing import sandboxes

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"
# Where distributions keep programs that are not on PATH.
ELSEWHERE = {
    "postgres": "/usr/lib/postgresql/*/bin/postgres",
    "initdb": "/usr/lib/postgresql/*/bin/initdb",
    "pg_ctl": "/usr/lib/postgresql/*/bin/pg_ctl",
    # It brings so much along that it has an environment of its own.
    "mlflow": str(ROOT / ".mlflow/bin/mlflow"),
}
# The same program under the names that distributions give it.
ALSO_CALLED = {
    "alertmanager": ("prometheus-alertmanager",),
    "chromium": ("chromium-browser", "google-chrome"),
    "prometheus-process-exporter": ("process-exporter",),
}


def find_binary(name: str) -> str | None:
    """The path of a program, under any of its names, or None."""
    for known in (name, *ALSO_CALLED.get(name, ())):
        if found := shutil.which(known):
            return found
    pattern = name if "*" in name else ELSEWHERE.get(name)
    found_elsewhere = sorted(Path("/").glob(pattern.lstrip("/"))) if pattern else []
    return str(found_elsewhere[-1]) if found_elsewhere else None


@pytest.fixture(scope="session")
def need_binary() -> Callable[[str], str]:
    """The path of a program; without it the test skips, loudly, and with CI=true it fails."""

    def need(name: str) -> str:
        if found := find_binary(name):
            return found
        message = f"{name} is not installed; `make parts` installs it where apt can"
        if IN_CI:
            pytest.fail(message)
        pytest.skip(message)

    return need


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A function that gives a loopback port nobody listened on a moment ago."""
    return sandboxes.free_port


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the checkout."""
    return ROOT


REAL_SERVER = os.environ.get("HALDANE_MODEL_SERVER", "")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One file stays on one worker, so that its servers start once; suites may name another group themselves.

    Tests against a real server are left out, not skipped, unless one is given; the summary says so.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(str(item.path.relative_to(ROOT))))
    if not REAL_SERVER:
        left_out = [item for item in items if item.get_closest_marker("real_server")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


WATCHDOG_LOG = pytest.StashKey[int]()


def pytest_sessionstart(session: pytest.Session) -> None:
    # While a test runs, standard error is pytest's own: the watchdog writes to a copy from before.
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        session.config.stash[WATCHDOG_LOG] = os.dup(2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that outlives its time-out, in C code or while it is torn down, ends the process.

    pytest-timeout interrupts a test once; one that then waits on, for a thread that never ends say, would wait for
    ever. The time left after the time-out is for fixtures that end slowly.
    """
    marker = item.get_closest_marker("timeout")
    seconds = float(marker.args[0] if marker else item.config.getini("timeout"))
    faulthandler.dump_traceback_later(seconds + 60, exit=True, file=item.config.stash[WATCHDOG_LOG])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in (*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])):
        for name, text in report.user_properties:
            if name == "summary":  # figures that a test wants read: record_property("summary", ...)
                terminalreporter.write_line(str(text))
    skipped = len(terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.section(f"{skipped} tests SKIPPED: something they need is missing, see the reasons above")
    if not REAL_SERVER:
        terminalreporter.section("NOT RUN: tests against a real tensorflow_model_server; give HALDANE_MODEL_SERVER")
