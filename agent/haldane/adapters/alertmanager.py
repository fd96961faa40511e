"""Conditions → Alertmanager's v2 API, for teams without alert rules of their own.

Alertmanager forgets an alert whose `endsAt` has passed, so each telling renews
it and a dead agent's alerts end by themselves. Nothing is lost while
Alertmanager is away: the next telling says the whole state again, and what
ended meanwhile is resolved then. A dead man's switch goes with each telling.
Owns: the alert's form and its life. Leaves to `engine.observe` when to tell.

Source: prometheus/alertmanager api/v2/openapi.yaml (postAlerts).
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import httpx

from haldane.domain.fleet import Condition
from haldane.judge.alerts import alert_of, runbook, summary, watching
from haldane.ports import Refused, Unavailable

_PATH = "/api/v2/alerts"
Identity = tuple[str, str, int | None]


class Alertmanager:
    """An AlertSink. `keep_seconds` is how long an alert outlives the last telling; tell more often than that."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        name: str,
        now: Callable[[], float],
        keep_seconds: float,
        labels: Mapping[str, str],
        link: str | None,
    ) -> None:
        self._http, self._name, self._now = http, name, now
        self._keep_seconds, self._labels, self._link = keep_seconds, labels, link
        self._told: dict[Identity, Condition] = {}  # what Alertmanager may still hold as firing
        self._watching = watching(now())

    async def tell(self, firing: Sequence[Condition]) -> None:
        """Say the whole state: renew what fires, end what no longer does.

        Unavailable when Alertmanager does not take it now: tell again, the
        same state is said in full. Refused when it will never take it.
        """
        now = self._now()
        holds = {_identity(condition): condition for condition in firing}
        ended = [condition for identity, condition in self._told.items() if identity not in holds]
        self._told |= holds  # before sending: an answer that is lost may have been taken
        alerts = [self._alert(one, now + self._keep_seconds) for one in (self._watching, *holds.values())]
        alerts += [self._alert(condition, now) for condition in ended]
        await self._post(alerts)
        self._told = holds

    async def _post(self, alerts: list[dict[str, Any]]) -> None:
        try:
            reply = await self._http.post(_PATH, json=alerts)
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Unavailable(self._name, f"Alertmanager: {type(error).__name__}") from error
        if reply.status_code == 429 or reply.is_server_error:
            raise Unavailable(self._name, f"Alertmanager: status {reply.status_code}")
        if not reply.is_success:
            raise Refused(self._name, f"Alertmanager: status {reply.status_code}: {reply.text[:300]}")

    def _alert(self, condition: Condition, ends_at: float) -> dict[str, Any]:
        alert: dict[str, Any] = {
            "labels": {**self._labels, **labels_of(condition)},
            "annotations": annotations_of(condition),
            "startsAt": _time(min(condition.since, ends_at)),
            "endsAt": _time(ends_at),
        }
        return alert | ({"generatorURL": self._link} if self._link else {})


def labels_of(condition: Condition) -> dict[str, str]:
    """What makes the alert itself: never a server, so that many servers are one page."""
    alert, severity = alert_of(condition.name)
    labels = {"alertname": alert, "severity": severity}
    if condition.model:
        labels["model"] = condition.model
    if condition.version is not None:
        labels["version"] = str(condition.version)
    return labels


def annotations_of(condition: Condition) -> dict[str, str]:
    """What a person reads at three in the morning."""
    servers = ", ".join(condition.servers)
    where = f"On {servers}: " if servers else ""
    return {
        "summary": summary(condition),
        "summary_zh": summary(condition, "zh"),
        "description": where + condition.detail,
        "servers": servers,
        "runbook_url": runbook(condition.name),
    }


def _identity(condition: Condition) -> Identity:
    return condition.name, condition.model, condition.version


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@asynccontextmanager
async def open_alertmanager(
    url: str,
    *,
    now: Callable[[], float],
    name: str = "alertmanager",
    keep_seconds: float = 180.0,
    timeout_seconds: float = 5.0,
    labels: Mapping[str, str] = MappingProxyType({}),
    link: str | None = None,
) -> AsyncIterator[Alertmanager]:
    """A sink for the Alertmanager at that base URL; one that is down now is no error yet.

    `labels` go on every alert, e.g. a team. `link` is where a person can read
    more. Credentials may stand in the URL; they are never shown.
    """
    async with httpx.AsyncClient(base_url=url.rstrip("/"), timeout=timeout_seconds, trust_env=False) as http:
        yield Alertmanager(http, name=name, now=now, keep_seconds=keep_seconds, labels=labels, link=link)
