"""Shadow pairs over libcurl say of every answer, and of none, what gRPC's own client says; nothing is sent twice."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import grpc
import grpc.aio
import pycurl
import pytest
from tests.frames import Script, answering, begun, goaway, headers, message, reset, well

from haldane import wire
from haldane.domain.fleet import ModelName, Server, ServerName
from haldane.domain.traffic import Api, Outcome, Request, Status
from haldane.ports import Refused
from haldane.serving.client import open_client
from haldane.serving.handles import Handles
from haldane.serving.legs import Legs
from haldane.testing.fake_serving import FakeServing, serving

Code = grpc.StatusCode
M = ModelName("m")
REQUEST = Request(id="r", api=Api.PREDICT, body=b"")
OK = (Status.OK, Status.OK)
ANSWER = wire.PredictResponse(model_spec=wire.ModelSpec(name="m", version={"value": 1})).SerializeToString()


@asynccontextmanager
async def legs_to(server: Server) -> AsyncIterator[Legs]:
    with closing(Legs(server, None)) as legs:
        yield legs


async def ask(
    legs: Legs, first: int | str = 1, second: int | str = 2, *, request: Request = REQUEST, seconds: float = 30.0
) -> tuple[Outcome, Outcome]:
    return await legs.both(M, request, first, second, asyncio.get_running_loop().time() + seconds)


def statuses(outcomes: tuple[Outcome, Outcome]) -> tuple[Status, Status]:
    return outcomes[0].status, outcomes[1].status


async def test_both_versions_answer_and_are_read_from_their_answers() -> None:
    fake = FakeServing()
    async with serving(fake) as server, legs_to(server) as legs:
        first, second = await ask(legs, 2, 1)
        assert (first.status, first.version, second.status, second.version) == (Status.OK, 2, Status.OK, 1)
        assert min(first.seconds, second.seconds) > 0
        await ask(legs, "stable", "canary")
    assert [one.model_spec.version_label for one in fake.requests[2:]] == ["stable", "canary"]  # in that order


@pytest.mark.parametrize("api", list(Api))
async def test_each_kind_of_request_goes_to_its_method(api: Api) -> None:
    fake = FakeServing()
    async with serving(fake) as server, legs_to(server) as legs:
        for _ in range(2):
            assert statuses(await ask(legs, request=Request(id="", api=api, body=b""))) == OK
    assert fake.calls == {f"/tensorflow.serving.PredictionService/{api.value}": 4}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        *((code, "why") for code in Code if code is not Code.OK),
        (Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted"),
        (Code.NOT_FOUND, "Servable not found for request: Specific(m, 9)"),
        (Code.INTERNAL, "100 % größer: 漢字\nand a second line"),
        (Code.INTERNAL, ""),
        (Code.INTERNAL, 3000 * "x"),
    ],
)
async def test_what_a_server_refuses_is_told_as_grpcs_own_client_tells_it(code: grpc.StatusCode, words: str) -> None:
    fake = FakeServing()
    fake.fail(wire.PREDICT, code, words)
    async with serving(fake) as server, open_client(server) as client:
        deadline = asyncio.get_running_loop().time() + 30
        theirs = await client.predict(M, REQUEST, version=1, deadline=deadline)
        ours, _ = await client.predict_both(M, REQUEST, first=1, second=2, deadline=deadline)
    assert ours._replace(seconds=0.0) == theirs._replace(seconds=0.0)
    assert fake.calls[wire.PREDICT.path] == 3  # none again


# Frames on a stream, and what gRPC's own client makes of them; each is tried on it, too.
ODD: dict[str, Script] = {
    "trailers only": lambda s, _: headers(s, {":status": "200", "grpc-status": "5", "grpc-message": "gone"}, last=True),
    "a status we do not know": lambda s, _: headers(s, {":status": "200", "grpc-status": "77"}, last=True),
    "a gateway without a server": lambda s, _: headers(s, {":status": "503"}, last=True),
    "a gateway that asks who we are": lambda s, _: headers(s, {":status": "401"}, last=True),
    "a gateway that says no": lambda s, _: headers(s, {":status": "403"}, last=True),
    "no such path": lambda s, _: headers(s, {":status": "404"}, last=True),
    "too many": lambda s, _: headers(s, {":status": "429"}, last=True),
    "an error of the gateway's": lambda s, _: headers(s, {":status": "500"}, last=True),
    "reset: internal": lambda s, _: reset(s, 2),
    "reset: refused": lambda s, _: reset(s, 7),
    "reset: cancelled": lambda s, _: reset(s, 8),
    "reset: calm": lambda s, _: reset(s, 11),
    "reset: security": lambda s, _: reset(s, 12),
    "reset in the middle": lambda s, _: begun(s) + message(s, b"half", claimed=400) + reset(s, 2),
    "status, then a reset": lambda s, _: headers(s, {":status": "200", "grpc-status": "8"}, last=True) + reset(s, 0),
    "half a message, and all is well": lambda s, _: (
        begun(s) + message(s, b"half", claimed=400) + headers(s, {"grpc-status": "0"}, last=True)
    ),
    "compressed, unasked": lambda s, _: (
        begun(s) + message(s, b"zzz", compressed=True) + headers(s, {"grpc-status": "0"}, last=True)
    ),
    "no message, and all is well": lambda s, _: begun(s) + headers(s, {"grpc-status": "0"}, last=True),
    "hung up": lambda s, _: None,
    "going away, this one not taken": lambda s, _: goaway(0),
}


@pytest.mark.parametrize("script", ODD.values(), ids=ODD.keys())
async def test_an_odd_answer_is_what_grpcs_own_client_says_it_is(script: Script) -> None:
    async with answering(script) as (server, frames), open_client(server) as client:
        deadline = asyncio.get_running_loop().time() + 10
        theirs = await client.predict(M, REQUEST, version=1, deadline=deadline)
        before = frames.asked
        ours, other = await client.predict_both(M, REQUEST, first=1, second=2, deadline=deadline)
    assert (ours.status, other.status) == (theirs.status, theirs.status), (ours, theirs)
    assert ours.answer is None
    assert frames.asked - before <= 2  # one each, and none again


async def test_a_call_on_a_connection_that_breaks_is_not_repeated() -> None:
    """libcurl would: the connection had been used before, so it takes a loss to be the fault of its age."""

    def breaks(stream: int, before: int) -> bytes | None:
        return well(stream, ANSWER) if before < 2 else None

    async with answering(breaks) as (server, frames), legs_to(server) as legs:
        assert statuses(await ask(legs)) == OK
        assert statuses(await ask(legs)) == (Status.UNAVAILABLE, Status.UNAVAILABLE)
        assert frames.asked <= 4


async def test_a_refused_stream_is_not_repeated_and_the_next_call_is_none_the_worse() -> None:
    def refuses(stream: int, before: int) -> bytes:
        return reset(stream, 7) if before in (2, 3) else well(stream, ANSWER)

    async with answering(refuses) as (server, frames), legs_to(server) as legs:
        assert statuses(await ask(legs)) == OK
        assert statuses(await ask(legs)) == (Status.UNAVAILABLE, Status.UNAVAILABLE)
        assert frames.asked == 4
        assert statuses(await ask(legs)) == OK


async def test_a_server_that_goes_away_after_each_pair_answers_them_all() -> None:
    def politely(stream: int, before: int) -> bytes:
        return well(stream, ANSWER) if before % 2 == 0 else goaway(stream) + well(stream, ANSWER)

    async with answering(politely) as (server, frames), legs_to(server) as legs:
        for _ in range(10):
            assert statuses(await ask(legs)) == OK
        assert frames.asked == 20


async def test_a_server_that_speaks_no_http2_is_unavailable() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    other = await asyncio.start_server(talk, "127.0.0.1", 0)
    server = Server(ServerName("r0"), f"127.0.0.1:{other.sockets[0].getsockname()[1]}")
    async with other, legs_to(server) as legs:
        assert statuses(await ask(legs)) == (Status.UNAVAILABLE, Status.UNAVAILABLE)


async def test_a_connection_on_which_nothing_comes_back_is_given_up() -> None:
    """Behind a relay nobody resets it; libcurl 8.13 to 8.15 would not even make another."""
    silent = True

    def later(stream: int, _: int) -> bytes:
        return b"" if silent else well(stream, ANSWER)

    async with answering(later) as (server, frames):
        with closing(Legs(server, None, silent_seconds=0.2)) as legs:
            while frames.connections < 2:
                assert set(statuses(await ask(legs, seconds=0.05))) <= {Status.TIMEOUT, Status.UNAVAILABLE}
            silent = False
            assert statuses(await ask(legs)) == OK
            assert frames.connections <= 3


async def test_a_server_that_is_gone_is_unavailable_and_one_that_is_back_answers() -> None:
    fake = FakeServing()
    async with serving(fake) as server, legs_to(server) as legs:
        assert statuses(await ask(legs)) == OK
        port = int(server.address.rpartition(":")[2])
        async with legs_to(Server(ServerName("r9"), "127.0.0.1:1")) as nowhere:
            first, _ = await ask(nowhere)
            assert (first.status, first.answer) == (Status.UNAVAILABLE, None)
            assert "Could not connect to server" in first.detail
    async with legs_to(server) as legs:
        assert statuses(await ask(legs)) == (Status.UNAVAILABLE, Status.UNAVAILABLE)
        again = grpc.aio.server()
        again.add_generic_rpc_handlers((fake,))
        again.add_insecure_port(f"127.0.0.1:{port}")
        await again.start()
        assert statuses(await ask(legs)) == OK
        await again.stop(None)


async def test_a_hanging_call_times_out_at_its_deadline_and_one_without_time_is_not_sent() -> None:
    fake = FakeServing()
    fake.hang(wire.PREDICT)
    async with serving(fake) as server, legs_to(server) as legs:
        first, second = await ask(legs, seconds=0.1)
        assert (first.status, second.status) == (Status.TIMEOUT, Status.TIMEOUT)
        assert first.detail == "DEADLINE_EXCEEDED: Deadline Exceeded"
        before = fake.calls[wire.PREDICT.path]
        assert statuses(await ask(legs, seconds=-1.0)) == (Status.TIMEOUT, Status.TIMEOUT)
        assert fake.calls[wire.PREDICT.path] == before


async def test_an_answer_that_cannot_be_read_is_malformed_and_its_bytes_are_kept() -> None:
    async with answering(lambda stream, _: well(stream, b"\x0a\xff")) as (server, _), legs_to(server) as legs:
        first, _ = await ask(legs)
        assert (first.status, first.answer) == (Status.MALFORMED, b"\x0a\xff")


class Watching(FakeServing):
    """Notes what grpc's server knows of each call, and which were given up."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, dict[str, str], str]] = []  # seconds left, metadata, from where
        self.given_up = 0

    async def _handle(self, method: wire.Method, body: bytes, context: object) -> bytes:
        self.seen.append((context.time_remaining(), dict(context.invocation_metadata()), context.peer()))  # type: ignore[attr-defined]
        try:
            return await super()._handle(method, body, context)
        except asyncio.CancelledError:
            self.given_up += 1
            raise


async def until(claim: object) -> None:
    async with asyncio.timeout(30):
        while not claim():  # type: ignore[operator]  # noqa: ASYNC110 - it happens in gRPC's threads
            await asyncio.sleep(0.01)


async def test_the_server_is_told_the_deadline_and_nothing_of_the_environment() -> None:
    watching = Watching()
    async with serving(watching) as server, legs_to(server) as legs:
        await ask(legs, seconds=25.0)
        await ask(legs, seconds=12.0)
    assert 12 < watching.seen[0][0] <= 25.1
    assert 0 < watching.seen[2][0] <= 12.1
    assert watching.seen[0][1] == {"user-agent": "haldane"}


async def test_a_pair_that_is_not_waited_for_any_more_is_cancelled_on_the_server() -> None:
    watching = Watching()
    watching.hang(wire.PREDICT)
    async with serving(watching) as server, legs_to(server) as legs:
        tasks = [asyncio.create_task(ask(legs)) for _ in range(5)]
        at_once = asyncio.create_task(ask(legs))
        await asyncio.sleep(0)
        at_once.cancel()  # before anything was sent
        await until(lambda: len(watching.seen) == 10)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, at_once, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended)
        await until(lambda: watching.given_up == 10)
        watching.answers.clear()
        assert statuses(await ask(legs)) == OK


async def test_all_calls_share_one_connection_and_no_more_streams_than_the_server_allows() -> None:
    async with answering(lambda s, _: well(s, ANSWER), most_streams=6) as (server, frames), legs_to(server) as legs:
        assert statuses(await ask(legs)) == OK  # brings the server's limit
        found = await asyncio.gather(*(ask(legs) for _ in range(40)))
    assert {statuses(one) for one in found} == {OK}
    assert (frames.busiest, frames.connections, frames.asked) == (6, 1, 82)


@pytest.mark.parametrize("size", [600_000, 64 << 20])
async def test_requests_and_answers_of_any_size_pass(size: int) -> None:
    fake = FakeServing()

    async def mirrored(request: object) -> object:
        reply = wire.PredictResponse()
        reply.model_spec.version.value = request.model_spec.version.value  # type: ignore[attr-defined]
        reply.outputs["y"].CopyFrom(request.inputs["x"])  # type: ignore[attr-defined]
        return reply

    fake.answers[wire.PREDICT.path] = mirrored
    body = wire.PredictRequest()
    body.inputs["x"].tensor_content = os.urandom(1000) * (size // 1000)
    request = Request(id="", api=Api.PREDICT, body=body.SerializeToString())
    async with serving(fake) as server, legs_to(server) as legs:
        for _ in range(2):
            found = await ask(legs, request=request)
            assert [one.version for one in found] == [1, 2]
            for one in found:
                content = wire.PredictResponse.FromString(one.answer).outputs["y"].tensor_content
                assert content == body.inputs["x"].tensor_content


@pytest.mark.parametrize("address", ["[::1]", "localhost"])
async def test_servers_are_reached_by_ipv6_and_by_name(address: str) -> None:
    fake = FakeServing()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((fake,))
    port = server.add_insecure_port(f"{address}:0")
    await server.start()
    async with legs_to(Server(ServerName("r0"), f"{address}:{port}")) as legs:
        assert statuses(await ask(legs)) == OK
    await server.stop(None)


async def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    async with serving(FakeServing()) as server, legs_to(server) as legs:
        assert statuses(await ask(legs)) == OK


async def test_closing_ends_what_is_under_way_and_leaves_nothing_open() -> None:
    fake = FakeServing()
    async with serving(fake) as server:
        assert statuses(await pair_and_close(server)) == OK
        await until(lambda: open_connections(server) == 0)
        fake.hang(wire.PREDICT)
        fake.busiest = 0  # of those before
        with closing(Legs(server, None)) as legs:
            task = asyncio.create_task(ask(legs))
            await until(lambda: fake.busiest == 2)
        assert statuses(await task) == (Status.UNAVAILABLE, Status.UNAVAILABLE)
        await until(lambda: open_connections(server) == 0)


async def test_a_pair_that_begins_after_closing_ends_at_once() -> None:
    """Whoever sends pairs may learn a moment late that the server has left; waiting for ever would hold up its end."""
    async with serving(FakeServing()) as server:
        with closing(Legs(server, None)) as legs:
            assert statuses(await ask(legs)) == OK
        async with asyncio.timeout(30):
            assert statuses(await ask(legs)) == (Status.UNAVAILABLE, Status.UNAVAILABLE)


async def pair_and_close(server: Server) -> tuple[Outcome, Outcome]:
    async with legs_to(server) as legs:
        return await ask(legs)


def open_connections(server: Server) -> int:
    """Those to its port, as the kernel has them: what else this process opens meanwhile is not looked at."""
    port = f":{int(server.address.rpartition(':')[2]):04X}"
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(remote.endswith(port) and state == "01" for _, _, remote, state, *_ in lines)


@pytest.mark.parametrize(("number", "features"), [(0x080D00, pycurl.VERSION_HTTP2), (0x081700, 0)])
def test_a_libcurl_that_is_not_fit_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, number: int, features: int
) -> None:
    """One from the system, where pycurl was built here instead of installed from its wheel."""
    monkeypatch.setattr(pycurl, "version_info", lambda: (11, "8.13.0", number, "Linux", features))
    with pytest.raises(Refused, match=r"r0: needs libcurl 8\.23 or later with HTTP/2"):
        Handles(Server(ServerName("r0"), "127.0.0.1:1"), None)
