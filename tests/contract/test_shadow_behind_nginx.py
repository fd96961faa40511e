"""Shadow pairs through a real nginx, which allows few streams at once and wants a new connection now and then."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from itertools import chain
from pathlib import Path

from haldane import wire
from haldane.domain.fleet import ModelName, Server, ServerName
from haldane.domain.traffic import Api, Request, Status
from haldane.serving.legs import Legs
from haldane.testing.fake_serving import FakeServing, serving
from haldane.testing.sandboxes import free_port

MODEL, REQUEST = ModelName("m"), Request(id="r", api=Api.PREDICT, body=b"")
CONFIG = """
daemon off; master_process off; pid {place}/nginx.pid; error_log {place}/error.log;
events {{}}
http {{
    log_format asked "$http_host|$request_uri|$http_te|$content_type|$http_user_agent|$status|$connection_requests";
    access_log {place}/asked.log asked;
    http2_max_concurrent_streams 128; keepalive_requests {requests};
    client_body_temp_path {place}/t0; proxy_temp_path {place}/t1; fastcgi_temp_path {place}/t2;
    uwsgi_temp_path {place}/t3; scgi_temp_path {place}/t4;
    server {{ listen 127.0.0.1:{port} http2; location / {{ grpc_pass grpc://{behind}; }} }}
}}
"""


@contextmanager
def nginx(program: str, place: Path, behind: str, requests: int) -> Iterator[Server]:
    port = free_port()
    (place / "nginx.conf").write_text(CONFIG.format(place=place, behind=behind, requests=requests, port=port))
    process = subprocess.Popen(
        [program, "-p", str(place), "-e", str(place / "error.log"), "-c", str(place / "nginx.conf")]
    )
    try:
        yield Server(ServerName("r0"), f"127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()


async def pairs(legs: Legs, number: int, at_once: int) -> list[Status]:
    turn = asyncio.Semaphore(at_once)

    async def pair() -> list[Status]:
        async with turn:
            found = await legs.both(MODEL, REQUEST, 1, 2, asyncio.get_running_loop().time() + 60)
            return [outcome.status for outcome in found]

    return list(chain.from_iterable(await asyncio.gather(*(pair() for _ in range(number)))))


async def accepts(legs: Legs) -> None:
    async with asyncio.timeout(30):
        while Status.UNAVAILABLE in await pairs(legs, 1, 1):  # noqa: ASYNC110 - nginx tells nobody that it is up
            await asyncio.sleep(0.05)


@asynccontextmanager
async def behind_nginx(program: str, place: Path) -> AsyncIterator[tuple[FakeServing, Server, Legs]]:
    """A server, the nginx before it, which wants a new connection every 10 calls, and legs that go through it."""
    fake = FakeServing()
    async with serving(fake) as server:
        with nginx(program, place, server.address, 10) as proxied, closing(Legs(proxied, None)) as legs:
            await accepts(legs)
            yield fake, proxied, legs


async def test_pairs_pass_and_connections_that_nginx_ends_are_replaced(
    tmp_path: Path, need_binary: Callable[[str], str]
) -> None:
    async with behind_nginx(need_binary("nginx"), tmp_path) as (fake, proxied, legs):
        before = fake.calls[wire.PREDICT.path]
        assert set(await pairs(legs, 100, 1)) == {Status.OK}
        assert fake.calls[wire.PREDICT.path] - before == 200
    asked = [line.split("|") for line in (tmp_path / "asked.log").read_text().splitlines()]
    assert {tuple(line[:5]) for line in asked} == {
        (proxied.address, wire.PREDICT.path, "trailers", "application/grpc", "haldane")
    }
    assert sum(line[6] == "1" for line in asked) >= 20  # so many connections


async def test_calls_that_were_out_when_nginx_went_away_are_not_repeated(
    tmp_path: Path, need_binary: Callable[[str], str]
) -> None:
    async with behind_nginx(need_binary("nginx"), tmp_path) as (fake, _, legs):
        before = fake.calls[wire.PREDICT.path]
        found = Counter(await pairs(legs, 100, 20))
        assert set(found) == {Status.OK, Status.UNAVAILABLE}  # as gRPC's own client has it without its retries
        assert found[Status.OK] <= fake.calls[wire.PREDICT.path] - before <= 200
        assert set(await pairs(legs, 3, 1)) == {Status.OK}


async def test_a_server_that_is_away_behind_nginx_is_unavailable_and_back_when_it_is(
    tmp_path: Path, need_binary: Callable[[str], str]
) -> None:
    port = free_port()
    with (
        nginx(need_binary("nginx"), tmp_path, f"127.0.0.1:{port}", 1000) as proxied,
        closing(Legs(proxied, None)) as legs,
    ):
        assert set(await pairs(legs, 1, 1)) == {Status.UNAVAILABLE}
        assert set(await pairs(legs, 40, 40)) == {Status.UNAVAILABLE}
