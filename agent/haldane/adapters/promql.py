"""One number from a Prometheus-compatible server (Prometheus, Thanos, Mimir, VictoriaMetrics): its instant query API.

Owns: the call, and telling apart why there is no number. A query that gives
anything but one finite number has not answered; what that means is the
judge's affair. Source: Prometheus, HTTP API, "Instant queries".
"""

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from haldane.ports import Malformed, MetricSource, NoData, Refused, Unavailable

_PATH = "/api/v1/query"
_MOST_BYTES = 1 << 20  # one number takes a hundred; a query that selects thousands of series is a mistake
_LATER = (408, 429)
# What an answer in the wrong shape may raise while it is read: huge numbers and deep nesting among it.
_MISSHAPEN = (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError)


class Prometheus:
    """A MetricSource. `name` is what errors call it; its URL and token are never shown."""

    def __init__(self, http: httpx.AsyncClient, *, name: str = "prometheus", timeout_seconds: float) -> None:
        self._http, self._name, self._timeout = http, name, timeout_seconds

    async def ask(self, query: str) -> float:
        """The one finite number that this query gives now.

        Unavailable: no answer in time. Refused: a query it cannot run, or a
        token it does not take. Malformed: no answer of this API. NoData: no
        series, several, or not a finite number.
        """
        status, body = await self._post(query)
        if status in _LATER or status >= 500:
            raise Unavailable(self._name, f"status {status}{_error(body)}")
        if status >= 400:
            raise Refused(self._name, f"status {status}{_error(body)}")
        return self._number(body)

    async def _post(self, query: str) -> tuple[int, bytes]:
        form = {"query": query, "timeout": f"{self._timeout:g}s"}
        try:
            async with self._http.stream("POST", _PATH, data=form) as reply:
                body = bytearray()
                async for chunk in reply.aiter_bytes():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        raise NoData(self._name, "the query gives far too many series; it must give one number")
                return reply.status_code, bytes(body)
        except httpx.TimeoutException as error:
            raise Unavailable(self._name, f"no answer within {self._timeout:g} s") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Unavailable(self._name, type(error).__name__) from error

    def _number(self, body: bytes) -> float:
        try:
            answer = json.loads(body)
            if answer["status"] != "success":
                raise Refused(self._name, f"status {answer['status']}{_error(body)}")
            kind, result = answer["data"]["resultType"], answer["data"]["result"]
            value = self._one(kind, result)
        except _MISSHAPEN as error:
            raise Malformed(self._name, "not an answer of the query API; is prometheus.url right?") from error
        if not math.isfinite(value):
            raise NoData(self._name, f"the query gives {value}, which is no reading")
        return value

    def _one(self, kind: str, result: Any) -> float:
        if kind == "scalar":
            return float(result[1])
        if kind != "vector":
            raise NoData(self._name, f"the query gives a {kind}; it must give one number")
        if len(result) != 1:
            found = "no series" if not result else f"{len(result)} series; sum() or avg() makes one of them"
            raise NoData(self._name, f"the query gives {found}")
        return float(result[0]["value"][1])


def _error(body: bytes) -> str:
    """What the server says is wrong, shortened; "" when it says nothing that can be read."""
    try:
        answer = json.loads(body)
        return f": {str(answer['error'])[:200]}"
    except _MISSHAPEN:
        return ""


@asynccontextmanager
async def open_prometheus(
    url: str, *, timeout_seconds: float = 5.0, token: str | None = None, ca: str | None = None
) -> AsyncIterator[MetricSource]:
    """A source for the server at that base URL; one that is down now is no error yet."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    http = httpx.AsyncClient(
        base_url=url.rstrip("/"), timeout=timeout_seconds, headers=headers, trust_env=False, verify=ca or True
    )
    async with http:
        yield Prometheus(http, timeout_seconds=timeout_seconds)
