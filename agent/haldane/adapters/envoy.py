"""Shares of traffic through Envoy: one runtime fraction on a route, set and read back over the admin page.

Owns: the calls, and finding the route that goes by the runtime key. Envoy takes
a value for any key, used or not, so a key that no route uses is refused at the
start. Source: Envoy, "Administration interface" and config.core.v3.RuntimeFractionalPercent.
"""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx

from haldane.ports import Malformed, Refused, Router, Unavailable

_PARTS = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}
# What an answer in the wrong shape may raise while it is read.
_MISSHAPEN = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_FIT = ("HEALTHY", "DEGRADED", "UNKNOWN")  # without health checks hosts are HEALTHY or UNKNOWN


class Envoy:
    """A Router over one runtime key. `name` is what errors call it."""

    def __init__(self, http: httpx.AsyncClient, runtime_key: str, *, name: str = "envoy") -> None:
        self._http, self._key, self._name = http, runtime_key, name

    async def share(self) -> float:
        """The part of the calls that the canary route gets now, 0 to 1.

        Unavailable: no answer, or no server behind the canary route is fit.
        Refused: no route goes by the key. Malformed: a value that is no whole
        percentage, or not this API.
        """
        with self._reading():
            return await self._share()

    async def _share(self) -> float:
        route = await self._route()
        await self._check_fit(route)
        entry = (await self._json("/runtime")).get("entries", {}).get(self._key)
        if entry is None:
            return _default(route)
        value = str(entry.get("final_value", ""))
        if not value.isdecimal() or int(value) > 100:
            raise Malformed(self._name, f"runtime key {self._key} is {value!r}, not a whole percentage")
        return int(value) / 100

    async def set_share(self, share: float) -> None:
        """Set the key, for every worker at once. It proves nothing: read it back. Refused: not a whole percentage."""
        percent = self._percent(share)
        reply = await self._call("POST", "/runtime_modify", {self._key: str(percent)})
        if reply.text.strip() != "OK":
            raise Refused(self._name, reply.text.strip()[:200] or f"status {reply.status_code}")

    async def check(self, shares: Sequence[float]) -> None:
        """Refused when one of these shares could not be set, or would move nobody; no call goes another way for it."""
        with self._reading():
            await self._check_fit(await self._route())
            layers = (await self._json("/runtime")).get("layers", [])
        for share in shares:
            self._percent(share)
        if "admin" not in layers:
            lacking = "layered_runtime: {layers: [{name: admin, admin_layer: {}}]}"
            raise Refused(
                self._name, f"it has no runtime layer named admin, so nothing can be changed; give it {lacking}"
            )

    def _percent(self, share: float) -> int:
        percent = round(share * 100)
        if abs(percent - share * 100) > 1e-6:
            raise Refused(self._name, f"{share:.4%}: a runtime value counts in whole percent; leave that step out")
        return percent

    async def _route(self) -> dict[str, Any]:
        """The route whose runtime_fraction goes by the key."""
        dump = await self._json("/config_dump")
        found = [route for route in _routes(dump) if _fraction(route).get("runtime_key") == self._key]
        if not found:
            raise Refused(self._name, f"no route has runtime_fraction: {{runtime_key: {self._key}}}")
        return found[0]

    async def _check_fit(self, route: dict[str, Any]) -> None:
        """Calls sent to a cluster without a fit host fail."""
        cluster = route.get("route", {}).get("cluster")
        states = (await self._json("/clusters")).get("cluster_statuses", [])
        hosts = [host for state in states if state.get("name") == cluster for host in state.get("host_statuses", [])]
        if not any(_fit(host.get("health_status", {})) for host in hosts):
            raise Unavailable(self._name, f"no server of cluster {cluster} takes calls")

    async def _json(self, path: str) -> dict[str, Any]:
        reply = await self._call("GET", path, {"format": "json"} if path != "/config_dump" else {})
        answer: dict[str, Any] = json.loads(reply.content)
        return answer

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except _MISSHAPEN as error:
            raise Malformed(self._name, "not an answer of the admin page; is the URL right?") from error

    async def _call(self, method: str, path: str, query: dict[str, str]) -> httpx.Response:
        try:
            reply = await self._http.request(method, path, params=query)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(self._name, str(error) or type(error).__name__) from error
        if reply.is_server_error:
            raise Unavailable(self._name, f"status {reply.status_code}: {reply.text.strip()[:200]}")
        if not reply.is_success:
            raise Refused(self._name, f"status {reply.status_code}: {reply.text.strip()[:200]}")
        return reply


def _routes(part: Any) -> Iterator[dict[str, Any]]:
    """Every object of a dump that has a `match`, wherever it lies: static, dynamic or scoped routes, or a listener."""
    if isinstance(part, dict):
        if isinstance(part.get("match"), dict):
            yield part
        for value in part.values():
            yield from _routes(value)
    elif isinstance(part, list):
        for value in part:
            yield from _routes(value)


def _fraction(route: dict[str, Any]) -> dict[str, Any]:
    found = route["match"].get("runtime_fraction", {})
    return found if isinstance(found, dict) else {}


def _default(route: dict[str, Any]) -> float:
    """What holds while nobody has set the key."""
    value = _fraction(route).get("default_value", {})
    return float(value.get("numerator", 0)) / _PARTS[value.get("denominator", "HUNDRED")]


def _fit(health: dict[str, Any]) -> bool:
    failed = any(value is True for key, value in health.items() if key.startswith("failed"))
    return not failed and health.get("eds_health_status", "UNKNOWN") in _FIT


@asynccontextmanager
async def open_envoy(admin: str, runtime_key: str, *, name: str, timeout_seconds: float = 2.0) -> AsyncIterator[Router]:
    """A Router for the Envoy with that admin page; one that is down now is no error yet."""
    # Proxies of the environment are for the outside world.
    async with httpx.AsyncClient(base_url=admin.rstrip("/"), timeout=timeout_seconds, trust_env=False) as http:
        yield Envoy(http, runtime_key, name=name)
