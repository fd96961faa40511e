"""What a server's process has used: CPU seconds and resident bytes, from a page or from Prometheus.

Serving exports neither, so something beside it must: a process exporter, or
any page with the standard process metrics. Source: Prometheus client library
guidelines, "Process metrics"; ncabatoff/process-exporter (its group metrics).
"""

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from string import Template

import httpx
from prometheus_client.parser import text_string_to_metric_families

from haldane.ports import Malformed, MetricSource, NoData, Unavailable

_CPU, _MEMORY = "process_cpu_seconds_total", "process_resident_memory_bytes"
_GROUP_CPU, _GROUP_MEMORY = "namedprocess_namegroup_cpu_seconds_total", "namedprocess_namegroup_memory_bytes"
_MOST_BYTES = 4 << 20


class ProcessPage:
    """A ProcessMeter that reads a metrics page. `group` names the process group of a process exporter."""

    def __init__(self, http: httpx.AsyncClient, *, server: str, url: str, group: str = "") -> None:
        self._http, self._server, self._url, self._group = http, server, url, group

    async def cpu_seconds(self) -> float:
        if self._group:
            return self._sum(await self._page(), _GROUP_CPU, {"groupname": self._group})
        return self._sum(await self._page(), _CPU, {})

    async def resident_bytes(self) -> float:
        if self._group:
            labels = {"groupname": self._group, "memtype": "resident"}
            return self._sum(await self._page(), _GROUP_MEMORY, labels)
        return self._sum(await self._page(), _MEMORY, {})

    async def _page(self) -> str:
        try:
            async with self._http.stream("GET", self._url) as reply:
                if reply.status_code != 200:
                    raise Unavailable(self._server, f"process page: HTTP status {reply.status_code}")
                page = bytearray()
                async for chunk in reply.aiter_bytes():
                    page += chunk
                    if len(page) > _MOST_BYTES:
                        raise Malformed(self._server, f"process page: more than {_MOST_BYTES} bytes")
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Unavailable(self._server, f"process page: {type(error).__name__}") from error
        return page.decode(errors="replace")

    def _sum(self, page: str, name: str, labels: Mapping[str, str]) -> float:
        """Over all series of that name with these labels: user and system time, several processes of a group."""
        wanted = [line for line in page.splitlines() if line.startswith(name)]  # a page may hold thousands of others
        try:
            found = [
                sample.value
                for family in text_string_to_metric_families("\n".join(wanted) + "\n")
                for sample in family.samples
                if sample.name == name and labels.items() <= sample.labels.items()
            ]
        except (ValueError, IndexError, KeyError) as error:
            raise Malformed(self._server, f"process page: {name} cannot be read") from error
        if not found:
            where = f' with groupname="{self._group}"' if self._group else ""
            raise NoData(self._server, f"its process page has no {name}{where}")
        if not math.isfinite(total := float(sum(found))):
            raise NoData(self._server, f"its process page says {total} for {name}")
        return total


class PromqlMeter:
    """A ProcessMeter that asks a MetricSource; `$server` in a query stands for the server's name."""

    def __init__(self, source: MetricSource, *, server: str, cpu: str | None, memory: str | None) -> None:
        self._source, self._server, self._cpu, self._memory = source, server, cpu, memory

    async def cpu_seconds(self) -> float:
        return await self._ask(self._cpu, "cpu")

    async def resident_bytes(self) -> float:
        return await self._ask(self._memory, "memory")

    async def _ask(self, query: str | None, what: str) -> float:
        if query is None:
            raise NoData(self._server, f"no process_url and no prometheus.{what} is given")
        return await self._source.ask(Template(query).safe_substitute(server=self._server))


@asynccontextmanager
async def open_process_page(
    server: str, url: str, *, group: str = "", timeout_seconds: float = 5.0
) -> AsyncIterator[ProcessPage]:
    """A meter for the page at that URL; one that is down now is no error yet."""
    async with httpx.AsyncClient(timeout=timeout_seconds, trust_env=False) as http:
        yield ProcessPage(http, server=server, url=url, group=group)
