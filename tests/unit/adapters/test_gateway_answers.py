"""What HAProxy and Envoy might say instead of an answer: a PortError, never a share and never a crash."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from haldane.adapters.envoy import Envoy
from haldane.adapters.haproxy import HAProxy
from haldane.ports import Malformed, PortError, Refused, Unavailable

COLUMNS = "# be_id srv_name srv_op_state srv_admin_state srv_uweight srv_iweight"


@asynccontextmanager
async def saying(answer: bytes) -> AsyncIterator[HAProxy]:
    """A runtime API that gives this one answer to whatever it is asked."""

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(tell, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield HAProxy(f"{host}:{port}", "serving", servers=lambda: {"a": False, "c": True})
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", Unavailable),
        (b"\xff\xfe\x00", Malformed),
        (b"Permission denied\n\n", Malformed),
        (b"2\n" + COLUMNS.encode() + b"\n", Malformed),
        (f"1\n{COLUMNS}\n3 c 2 0 many 100\n".encode(), Malformed),
        (f"1\n{COLUMNS}\n3 c 2\n".encode(), Malformed),
        (f"1\n{COLUMNS}\n\n".encode(), Unavailable),
        (f"1\n{COLUMNS}\n3 a 0 0 100 100\n3 c 2 1 100 100\n".encode(), Unavailable),
        (b"Can't find backend.\n\n", Refused),
    ],
)
async def test_what_is_no_share_is_an_error(answer: bytes, kind: type[PortError]) -> None:
    async with saying(answer) as router:
        with pytest.raises(kind):
            await router.share()


async def test_a_server_whose_weight_still_grows_counts_for_nothing() -> None:
    async with saying(f"1\n{COLUMNS}\n3 a 2 0 100 100\n3 c 1 0 100 100\n".encode()) as router:
        assert await router.share() == 0.0


ROUTE = {"match": {"runtime_fraction": {"runtime_key": "k", "default_value": {}}}, "route": {"cluster": "canary"}}


def pages(**changed: Any) -> Envoy:
    """An admin page with a sound answer everywhere but where it is changed."""
    host = {"health_status": {"eds_health_status": "HEALTHY"}}
    sound: dict[str, Any] = {
        "config_dump": {"configs": [{"static_route_configs": [ROUTE]}]},
        "clusters": {"cluster_statuses": [{"name": "canary", "host_statuses": [host]}]},
        "runtime": {"layers": ["admin"], "entries": {"k": {"final_value": "25"}}},
    }

    def answer(request: httpx.Request) -> httpx.Response:
        page = {**sound, **changed}[request.url.path.strip("/")]
        return httpx.Response(200, content=page if isinstance(page, bytes) else json.dumps(page).encode())

    return Envoy(httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://envoy"), "k")


async def test_a_sound_page_gives_the_share() -> None:
    assert await pages().share() == 0.25


@pytest.mark.parametrize(("denominator", "share"), [("HUNDRED", 0.5), ("TEN_THOUSAND", 0.005), ("MILLION", 0.00005)])
async def test_while_nobody_has_set_the_key_the_routes_own_value_holds(denominator: str, share: float) -> None:
    fraction = {"runtime_key": "k", "default_value": {"numerator": 50, "denominator": denominator}}
    dump = {"configs": [{"match": {"runtime_fraction": fraction}, "route": {"cluster": "canary"}}]}
    assert await pages(config_dump=dump, runtime={}).share() == share


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"runtime": b"<html>"}, Malformed),
        ({"runtime": []}, Malformed),
        ({"runtime": {"entries": {"k": {}}}}, Malformed),
        ({"runtime": {"entries": 3}}, Malformed),
        ({"config_dump": {}}, Refused),
        ({"config_dump": {"match": {"runtime_fraction": 3}}}, Refused),
        ({"clusters": {}}, Unavailable),
        ({"clusters": {"cluster_statuses": 3}}, Malformed),
        ({"clusters": {"cluster_statuses": [{"name": "canary", "host_statuses": []}]}}, Unavailable),
    ],
)
async def test_a_page_that_says_something_else_is_an_error(changed: dict[str, Any], kind: type[PortError]) -> None:
    with pytest.raises(kind):
        await pages(**changed).share()


@pytest.mark.parametrize("health", [{"failed_active_health_check": True}, {"eds_health_status": "DRAINING"}])
async def test_a_canary_that_is_not_fit_gets_no_share(health: dict[str, Any]) -> None:
    clusters = {"cluster_statuses": [{"name": "canary", "host_statuses": [{"health_status": health}]}]}
    with pytest.raises(Unavailable, match="no server of cluster canary takes calls"):
        await pages(clusters=clusters).share()
