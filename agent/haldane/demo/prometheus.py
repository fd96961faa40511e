"""A real Prometheus beside the demo: scrapes the agent and the replicas, evaluates rules/, tells the Alertmanager.

Owns its config and its process. Leaves the Alertmanager to `pager`.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import yaml

from haldane.demo.pager import NAMES
from haldane.demo.processes import last_lines, running
from haldane.demo.visitor import wait_until
from haldane.sandbox.freeport import free_port

RULES = Path(__file__).resolve().parents[3] / "rules" / "haldane.yml"  # of the checkout; a wheel has none
SERVING_PATH = "/monitoring/prometheus/metrics"
READY_SECONDS = 30.0


def missing() -> str:
    """What is not there for it, and what to do, in one sentence; "" when all is."""
    wanted = {"Prometheus": ("prometheus",), "Alertmanager": NAMES}
    lacking = [name for name, programs in wanted.items() if not any(map(shutil.which, programs))]
    if lacking:
        names = " and ".join(lacking)
        return f"--with-prometheus needs {names} on the PATH: apt-get install prometheus prometheus-alertmanager"
    return "" if RULES.is_file() else f"--with-prometheus needs a checkout of Haldane: there is no {RULES}"


def config(*, agent: str, replicas: Sequence[str], alertmanager: str, rules: Path = RULES) -> str:
    """Prometheus' own config. `agent` and `alertmanager` are URLs, `replicas` host:port of their REST listeners."""

    def at(*targets: str) -> list[Mapping[str, list[str]]]:
        return [{"targets": list(targets)}]

    text: str = yaml.safe_dump(
        {
            "global": {"scrape_interval": "2s", "evaluation_interval": "2s"},
            "rule_files": [str(rules)],
            "alerting": {"alertmanagers": [{"static_configs": at(urlsplit(alertmanager).netloc)}]},
            "scrape_configs": [
                {"job_name": "haldane", "static_configs": at(urlsplit(agent).netloc)},
                {
                    "job_name": "tensorflow-serving",
                    "metrics_path": SERVING_PATH,
                    "static_configs": at(*replicas),
                },
            ],
        }
    )
    return text


@contextlib.contextmanager
def scraping(directory: Path, text: str) -> Iterator[str]:
    """The URL of a Prometheus with that config, ready, for as long as the block runs.

    RuntimeError with its last words when it does not get ready.
    """
    file, log = directory / "prometheus.yml", directory / "prometheus.log"
    file.write_text(text)
    port = free_port()
    command = [
        shutil.which("prometheus") or "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, log) as process:
        wait_until(
            lambda: _answers(f"{url}/-/ready") or process.poll() is not None, READY_SECONDS, "Prometheus is not ready"
        )
        if process.poll() is not None:
            raise RuntimeError(f"Prometheus ended:\n{last_lines(log)}")
        yield url


def alerts_page(url: str) -> str:
    """Where people look at its alerts: Debian's Prometheus has the older pages only."""
    return next((url + path for path in ("/alerts", "/classic/alerts") if _answers(url + path)), url)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
