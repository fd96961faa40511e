"""Servers by DNS, asked of a server on loopback that is none of our own."""

import socket

import pytest
from dnslib import AAAA, QTYPE, RCODE, RR, SRV, A
from dnslib.server import BaseResolver, DNSLogger, DNSServer

from haldane.adapters.dns_list import DnsList
from haldane.adapters.listing import Form
from haldane.ports import Malformed, NoData, Unavailable
from haldane.testing.sandboxes import free_port

NAME, SERVICE = "serving.test", "_grpc._tcp.serving.test"


class Zone(BaseResolver):
    """Answers from `records`; an unknown name is NXDOMAIN, and `broken` makes it fail."""

    def __init__(self):
        self.records, self.broken = [], False

    def resolve(self, request, handler):
        reply = request.reply()
        if self.broken:
            reply.header.rcode = RCODE.SERVFAIL
            return reply
        mine = [record for record in self.records if record.rname == request.q.qname]
        reply.add_answer(*(record for record in mine if record.rtype == request.q.qtype))
        reply.header.rcode = RCODE.NOERROR if mine else RCODE.NXDOMAIN
        return reply


@pytest.fixture
def zone():
    made, made.port = Zone(), free_port()
    running = [
        DNSServer(
            made, address="127.0.0.1", port=made.port, tcp=tcp, logger=DNSLogger(log="-request,-reply,-truncated")
        )
        for tcp in (False, True)
    ]
    for server in running:
        server.start_thread()
    yield made
    for server in running:
        server.stop()
        server.server.server_close()


def record(data, name=NAME):
    return RR(name, getattr(QTYPE, type(data).__name__), rdata=data)


def asked(zone, host=NAME, kind="A", **form):
    return DnsList("list", host, kind, Form(**form), resolver=("127.0.0.1", zone.port))


async def addresses(source):
    return [server.address for server in await source.read()]


async def test_every_address_of_a_name_is_a_server_and_they_come_and_go(zone):
    source = asked(zone, port=8500, metrics_port=8501)
    zone.records = [record(A("10.0.0.2")), record(A("10.0.0.1")), record(AAAA("fd00::1"))]
    assert await addresses(source) == ["10.0.0.1:8500", "10.0.0.2:8500"]
    zone.records = [record(A("10.0.0.3"))]
    (server,) = await source.read()
    assert server.metrics_url == "http://10.0.0.3:8501/monitoring/prometheus/metrics"
    zone.records = [record(AAAA("fd00::1"))]
    assert await addresses(asked(zone, kind="AAAA", port=8500)) == ["[fd00::1]:8500"]


async def test_a_service_gives_host_and_port_of_each_server(zone):
    zone.records = [
        record(SRV(10, 1, port, f"pod-{number}.serving.test"), SERVICE) for number, port in ((1, 8510), (0, 8500))
    ]
    found = await asked(zone, SERVICE, "SRV", metrics_port=8501).read()
    assert [(server.name, server.address) for server in found] == [
        (f"{name}:{port}", f"{name}:{port}")
        for name, port in (("pod-0.serving.test", 8500), ("pod-1.serving.test", 8510))
    ]


async def test_an_answer_too_long_for_a_datagram_is_read_whole(zone):
    zone.records = [record(A(f"10.0.{number // 250}.{number % 250 + 1}")) for number in range(300)]
    assert len(await addresses(asked(zone, port=8500))) == 300


async def test_no_such_name_and_no_such_record_are_an_empty_list(zone):
    with pytest.raises(NoData, match="no name"):
        await asked(zone, port=8500).read()
    zone.records = [record(AAAA("fd00::1")), record(SRV(0, 0, 0, "."), SERVICE)]
    with pytest.raises(NoData, match="no A record"):
        await asked(zone, port=8500).read()
    with pytest.raises(NoData, match="no such service"):
        await asked(zone, SERVICE, "SRV").read()


async def test_a_server_that_fails_and_one_that_is_silent_are_no_empty_list(zone, monkeypatch):
    zone.broken = True
    with pytest.raises(Unavailable):
        await asked(zone, port=8500).read()
    monkeypatch.setattr("haldane.adapters.dns_list._SECONDS", 0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        mute = DnsList("list", NAME, "A", Form(port=1), resolver=("127.0.0.1", silent.getsockname()[1]))
        with pytest.raises(Unavailable, match=r"within 0\.3 s"):
            await mute.read()


async def test_what_is_no_name_or_no_port_is_refused(zone):
    zone.records = [record(SRV(0, 0, 0, "pod.serving.test"), SERVICE)]
    with pytest.raises(Malformed, match="port 0"):
        await asked(zone, SERVICE, "SRV").read()
    with pytest.raises(Unavailable):
        await asked(zone, "a..b", port=8500).read()


async def test_each_server_has_as_many_threads_as_is_said_of_all(zone):
    zone.records = [record(A("10.0.0.1"))]
    [server] = await asked(zone, port=8500, grpc_threads=16).read()
    assert server.grpc_threads == 16


async def test_where_the_process_of_each_server_is_measured(zone):
    zone.records = [record(A("10.0.0.1"))]
    [server] = await asked(zone, port=8500, process_port=9256, process_group="serving").read()
    assert (server.process_url, server.process_group) == ("http://10.0.0.1:9256/metrics", "serving")
    [server] = await asked(zone, port=8500).read()
    assert server.process_url is None
