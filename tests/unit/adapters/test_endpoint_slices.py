"""Servers by EndpointSlices, with the official client on one side and the API's documented form on the other."""

import pytest
from tests.kubernetes_api import KubernetesApi, a_pod, a_slice

from haldane.adapters.kubernetes import EndpointSlices
from haldane.adapters.listing import Form
from haldane.ports import Malformed, NoData, Refused, Unavailable


@pytest.fixture
def api(tmp_path, monkeypatch):
    made = KubernetesApi()
    _known(monkeypatch, made.kubeconfig(tmp_path))
    yield made
    made.close()


def _known(monkeypatch, path):
    """The client reads KUBECONFIG when it is imported."""
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))


def asked(port_name=None, **form):
    return EndpointSlices("pods serving/tfs", "serving", "tfs", port_name, Form(**form))


async def test_every_pod_of_the_service_is_a_server_ready_or_not_until_it_is_ended(api):
    api.slices = [
        a_slice(a_pod("tfs-1", "10.0.0.2", ready=False), a_pod("tfs-0", "10.0.0.1"), grpc=8500, rest=8501),
        a_slice(a_pod("tfs-2", "10.0.0.3", terminating=True), grpc=8500, rest=8501),
        a_slice(a_pod("other-0", "10.0.0.9"), service="other", grpc=8500),
    ]
    source = asked("grpc", metrics_port=8501)
    first, second = await source.read()
    assert (first.name, first.address, first.process) == ("tfs-0", "10.0.0.1:8500", "uid-of-tfs-0")
    assert second.metrics_url == "http://10.0.0.2:8501/monitoring/prometheus/metrics"
    api.slices = [a_slice(a_pod("tfs-0", "10.0.0.1", uid="another"), grpc=8500)]
    (again,) = await source.read()
    assert (again.address, again.process) == (first.address, "another")


async def test_the_port_is_the_named_one_the_given_one_or_the_only_one(api):
    api.slices = [a_slice(a_pod("tfs-0", "10.0.0.1"), grpc=8500, rest=8501)]
    for source in (asked("grpc"), asked(port=8500, metrics_port=8501), asked("rest", port=8500)):
        (server,) = await source.read()
        assert server.address == "10.0.0.1:8500"
    assert server.metrics_url == "http://10.0.0.1:8501/monitoring/prometheus/metrics"
    with pytest.raises(Malformed, match="has grpc 8500, rest 8501; name one with port_name"):
        await asked().read()
    with pytest.raises(Malformed, match="no port http; it has grpc 8500, rest 8501"):
        await asked("http").read()
    api.slices = [a_slice(a_pod("tfs-0", "10.0.0.1"), grpc=8510)]
    (server,) = await asked().read()
    assert server.address == "10.0.0.1:8510"


async def test_an_endpoint_in_two_slices_and_a_pod_with_two_kinds_of_address_are_one_server(api):
    pod = a_pod("tfs-0", "10.0.0.1")
    api.slices = [
        a_slice(a_pod("tfs-0", "fd00::1"), family="IPv6", grpc=8500),
        a_slice(pod, grpc=8500),
        a_slice(pod, a_pod("tfs-1", "10.0.0.2"), grpc=8500),
    ]
    assert [server.address for server in await asked().read()] == ["10.0.0.1:8500", "10.0.0.2:8500"]
    api.slices = api.slices[:1]
    assert [server.address for server in await asked().read()] == ["[fd00::1]:8500"]


async def test_endpoints_that_are_no_pods_are_called_by_their_address(api):
    api.slices = [a_slice({"addresses": ["10.0.0.1"]}, {"addresses": []}, grpc=8500)]
    (server,) = await asked().read()
    assert (server.name, server.process) == ("10.0.0.1:8500", "")


async def test_a_service_without_pods_and_no_such_service_are_an_empty_list(api):
    with pytest.raises(NoData, match="no EndpointSlice of a service tfs"):
        await asked().read()
    api.slices = [a_slice()]  # as a cluster says it: endpoints and ports are null
    with pytest.raises(NoData, match="has no pod"):
        await asked().read()


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, Refused, "does not know this token"),
        (403, Refused, "not allowed to list endpointslices.discovery.k8s.io in namespace serving .*Role"),
        (404, Refused, "not found"),
        (429, Unavailable, "asked later"),
        (503, Unavailable, "status 503"),
    ],
)
async def test_a_refusal_says_what_is_missing(api, status, error, says):
    api.status = status
    with pytest.raises(error, match=says):
        await asked().read()
    assert len(api.asked) == 1  # who reads the list asks again by itself


async def test_a_token_that_is_not_known_is_told(api, tmp_path, monkeypatch):
    _known(monkeypatch, api.kubeconfig(tmp_path, token="old"))
    with pytest.raises(Refused, match="does not know this token"):
        await asked().read()


async def test_an_api_server_that_is_away_or_speaks_nonsense_is_no_empty_list(api):
    source = asked()
    for nonsense in (b"<html>", b"[]", b'{"items": [{"endpoints": 3}]}', b'{"items": 7}'):
        api.raw = nonsense
        with pytest.raises(Malformed, match="cannot be read"):
            await source.read()
    api.close()
    with pytest.raises(Unavailable, match="no answer"):
        await source.read()


def test_outside_of_a_cluster_and_without_a_kubeconfig_it_does_not_open(tmp_path, monkeypatch):
    _known(monkeypatch, tmp_path / "none")
    with pytest.raises(Refused, match="no pod with a token"):
        asked()
    (tmp_path / "broken").write_text("{")
    _known(monkeypatch, tmp_path / "broken")
    with pytest.raises(Refused, match="no kubeconfig is right"):
        asked()
