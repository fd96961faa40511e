"""Numbers from a Prometheus-compatible server (Prometheus, Thanos, Mimir, VictoriaMetrics): one now, or a past window.

Owns: the calls, and telling apart why there is no number. A query that gives
anything but one finite number, or one series, has not answered; what that
means is the judge's affair. Source: Prometheus, HTTP API, "Instant queries"
and "Range queries".

Not by prometheus-api-client: it is synchronous, brings requests and dateparser
along for the two calls made here, and tells a refusal from an outage in the text
of one error only, where a gauge must know why it has no number.
"""

import json
import math
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from haldane.ports import Malformed, MetricSource, NoData, Refused, Unavailable

_PATH = "/api/v1/query"
_RANGE_PATH = "/api/v1/query_range"
MOST_POINTS = 10_000  # in one answer; a server refuses more than 11,000
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


@dataclass(frozen=True, slots=True)
class Window:
    """One series on a grid of times: seconds since the epoch and values, shape (n,) each, all finite."""

    at: NDArray[np.float64]
    values: NDArray[np.float64]


def query_range(
    http: httpx.Client, query: str, *, start: float, end: float, step: float, name: str = "prometheus"
) -> Window:
    """The one series of that query from `start` to `end` (seconds since the epoch), every `step` seconds.

    Steps without a finite number are left out. NoData: no series, or several.
    Unavailable, Refused and Malformed as for `Prometheus.ask`.
    """
    found: dict[float, float] = {}
    steps = math.floor((end - start) / step)
    for first in range(0, steps + 1, MOST_POINTS):
        last = min(first + MOST_POINTS - 1, steps)
        form = {"query": query, "start": start + first * step, "end": start + last * step, "step": step}
        try:
            reply = http.post(_RANGE_PATH, data=form)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(name, str(error) or type(error).__name__) from error
        if reply.status_code in _LATER or reply.status_code >= 500:
            raise Unavailable(name, f"status {reply.status_code}{_error(reply.content)}")
        found |= _points(reply.content, query, name)
    at = sorted(moment for moment, value in found.items() if math.isfinite(value))
    if not at:
        raise NoData(name, f"{query}: no number in the whole window")
    return Window(np.array(at, np.float64), np.array([found[moment] for moment in at], np.float64))


def _points(body: bytes, query: str, name: str) -> dict[float, float]:
    try:
        answer = json.loads(body)
        if answer["status"] != "success":
            raise Refused(name, f"{query}{_error(body)}")
        kind, series = answer["data"]["resultType"], answer["data"]["result"]
        if kind != "matrix":
            raise Malformed(name, f"{query}: a {kind} instead of a matrix")
        if len(series) > 1:
            raise NoData(name, f"{query}: gives {len(series)} series; sum() or avg() makes one of them")
        return {float(moment): float(value) for one in series for moment, value in one["values"]}
    except _MISSHAPEN as error:
        raise Malformed(name, "not an answer of the query API; is the URL right?") from error


@contextmanager
def open_range(
    url: str, *, timeout_seconds: float, token: str | None = None, ca: str | None = None
) -> Iterator[httpx.Client]:
    """What `query_range` asks through. Unavailable when the URL or the file of the authority cannot be used."""
    try:
        http = httpx.Client(timeout=timeout_seconds, **_settings(url, token, ca))
    except (OSError, httpx.InvalidURL) as error:
        raise Unavailable("prometheus", f"cannot be asked at all: {error}") from error
    with http:
        yield http


def _settings(url: str, token: str | None, ca: str | None) -> dict[str, Any]:
    # Proxies of the environment are for the outside world.
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    verify = ssl.create_default_context(cafile=ca) if ca else True
    return {"base_url": url.rstrip("/"), "headers": headers, "trust_env": False, "verify": verify}


@asynccontextmanager
async def open_prometheus(
    url: str, *, timeout_seconds: float = 5.0, token: str | None = None, ca: str | None = None
) -> AsyncIterator[MetricSource]:
    """A source for the server at that base URL; one that is down now is no error yet."""
    async with httpx.AsyncClient(timeout=timeout_seconds, **_settings(url, token, ca)) as http:
        yield Prometheus(http, timeout_seconds=timeout_seconds)
