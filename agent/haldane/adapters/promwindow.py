"""A past window of one series from a Prometheus-compatible server: its range query API.

Owns the calls and telling apart why there is no series. What the numbers mean
is the judge's affair. Source: Prometheus, HTTP API, "Range queries".
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from haldane.ports import Malformed, Refused, Unavailable

MOST_POINTS = 10_000  # a server refuses more than 11,000 in one answer
_PATH = "/api/v1/query_range"


@dataclass(frozen=True, slots=True)
class Window:
    """One series on a grid of times: seconds since the epoch and values, shape (n,) each, both finite."""

    at: NDArray[np.float64]
    values: NDArray[np.float64]


def query_range(
    url: str, query: str, *, start: float, end: float, step: float, timeout_seconds: float = 30.0
) -> Window:
    """The one series of that query from `start` to `end` (seconds since the epoch), every `step` seconds.

    Steps without a finite number are left out; no series at all is an empty
    Window. Unavailable: no answer in time. Refused: a query it cannot run, or
    one that gives several series. Malformed: no answer of this API.
    """
    found: dict[float, float] = {}
    steps = math.floor((end - start) / step)
    with httpx.Client(base_url=url.rstrip("/"), timeout=timeout_seconds, trust_env=False) as http:
        for first in range(0, steps + 1, MOST_POINTS):
            last = min(first + MOST_POINTS - 1, steps)
            form = {"query": query, "start": start + first * step, "end": start + last * step, "step": step}
            found |= _points(query, *_post(http, form))
    at = sorted(time for time, value in found.items() if math.isfinite(value))
    return Window(np.array(at, np.float64), np.array([found[time] for time in at], np.float64))


def _post(http: httpx.Client, form: dict[str, Any]) -> tuple[int, bytes]:
    try:
        reply = http.post(_PATH, data=form)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable("prometheus", f"no answer from {http.base_url}: {error or type(error).__name__}") from error
    return reply.status_code, reply.content


def _points(query: str, status: int, content: bytes) -> dict[float, float]:
    try:
        answer = json.loads(content)
        if status >= 500:
            raise Unavailable("prometheus", f"status {status}: {answer.get('error', '')}")
        if status >= 400 or answer["status"] != "success":
            raise Refused("prometheus", f"{query}: {answer.get('error', f'status {status}')}")
        series = answer["data"]["result"]
        if answer["data"]["resultType"] != "matrix":
            raise Malformed("prometheus", f"a {answer['data']['resultType']} instead of a matrix")
        if len(series) > 1:
            detail = f"{query}: gives {len(series)} series; sum() or avg() makes one of them"
            raise Refused("prometheus", detail)
        return {float(time): float(value) for one in series for time, value in one["values"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Malformed("prometheus", f"status {status}, not an answer of the query API; is the URL right?") from error
