"""Shadow pairs over TLS: who is trusted is what gRPC's own client trusts."""

import asyncio
import ssl
from contextlib import closing
from pathlib import Path

import pytest
from tests.frames import answering, well
from tests.pki import server_credentials

from haldane import wire
from haldane.domain.fleet import ModelName, Server, ServerName
from haldane.domain.traffic import Api, Outcome, Request, Status
from haldane.ports import Refused
from haldane.serving.channel import Tls
from haldane.serving.legs import Legs
from haldane.testing.fake_serving import FakeServing, serving

REQUEST = Request(id="r", api=Api.PREDICT, body=b"")
ANSWER = wire.PredictResponse(model_spec=wire.ModelSpec(name="m", version={"value": 1})).SerializeToString()


async def ask(server: Server, tls: Tls | None) -> tuple[Outcome, Outcome]:
    with closing(Legs(server, tls)) as legs:
        return await legs.both(ModelName("m"), REQUEST, 1, 2, asyncio.get_running_loop().time() + 30)


def named(pki: Path, *, certificate: bool = False, ca: str | None = "ca.crt", name: str = "replica.test") -> Tls:
    own = {"cert": pki / "client.crt", "key": pki / "client.key"} if certificate else {}
    return Tls(ca=pki / ca if ca else None, server_name=name, **own)


@pytest.mark.parametrize("client_verify", [False, True])
async def test_a_server_of_another_name_than_its_address_is_trusted_when_it_is_expected(
    pki: Path, client_verify: bool
) -> None:
    async with serving(FakeServing(), credentials=server_credentials(pki, client_verify=client_verify)) as server:
        first, second = await ask(server, named(pki, certificate=client_verify))
    assert (first.status, first.version, second.version) == (Status.OK, 1, 2)


async def test_without_an_authority_of_its_own_it_is_the_systems_that_counts(
    pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(FakeServing(), credentials=server_credentials(pki, client_verify=False)) as server:
        unknown, _ = await ask(server, named(pki, ca=None))
        monkeypatch.setenv("SSL_CERT_FILE", str(pki / "ca.crt"))
        known, _ = await ask(server, named(pki, ca=None))
    assert unknown.status is Status.UNAVAILABLE
    assert "certificate" in unknown.detail
    assert known.status is Status.OK


async def test_others_are_unavailable(pki: Path) -> None:
    fake = FakeServing()
    async with serving(fake, credentials=server_credentials(pki, client_verify=True)) as server:
        for tls in (
            None,  # no TLS at all
            named(pki),  # no certificate of ours
            named(pki, certificate=True, name="other.test"),
            named(pki, certificate=True, ca=None),  # the system's roots do not know it
            Tls(ca=pki / "ca.crt", cert=pki / "client.crt", key=pki / "client.key"),  # its address is not in it
            named(pki, certificate=True, ca="ca.key"),  # no certificate in it
        ):
            first, second = await ask(server, tls)
            assert (first.status, second.status) == (Status.UNAVAILABLE, Status.UNAVAILABLE), tls
            assert first.detail
    assert not fake.calls


async def test_a_server_without_tls_is_unavailable_over_it(pki: Path) -> None:
    async with serving(FakeServing()) as server:
        first, _ = await ask(server, named(pki))
    assert first.status is Status.UNAVAILABLE


async def test_http2_is_asked_for_and_the_server_is_told_the_name_that_is_expected(pki: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pki / "server.crt", pki / "server.key")
    context.set_alpn_protocols(["http/1.1", "h2"])
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    async with answering(lambda stream, _: well(stream, ANSWER), context=context) as (server, frames):
        first, _ = await ask(server, named(pki))
        assert first.status is Status.OK, first
        assert frames.agreed == {"h2"}
    assert names == ["replica.test"]


async def test_a_web_server_is_no_server_of_ours(pki: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ngrpc-status: 0\r\n\r\nOK")
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pki / "server.crt", pki / "server.key")
    web = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    async with web:
        first, _ = await ask(Server(ServerName("r0"), f"127.0.0.1:{web.sockets[0].getsockname()[1]}"), named(pki))
    assert first.status is Status.UNAVAILABLE


async def test_a_tls_file_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"r0: cannot read TLS file .*nowhere\.crt: No such file"):
        Legs(Server(ServerName("r0"), "127.0.0.1:1"), Tls(ca=tmp_path / "nowhere.crt"))
