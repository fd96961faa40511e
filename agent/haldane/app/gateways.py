"""Gateways: opened from the config, and asked before a rollout begins whether they can carry its steps."""

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack

from haldane.adapters.envoy import open_envoy
from haldane.adapters.haproxy import HAProxy
from haldane.config import Config
from haldane.config.gateways import GatewaySection
from haldane.domain.fleet import ModelName
from haldane.domain.rollout import Plan, Rollout
from haldane.engine.desk import Desk
from haldane.ports import PortError, Refused, Router
from haldane.rollout.ramp import percent


async def open_routers(config: Config, desk: Desk, stack: AsyncExitStack) -> dict[str, Router]:
    """A Router for each gateway of the config, closed with the stack; one that is down now is no error yet."""
    return {gateway.called: await _router(gateway, desk, stack) for gateway in config.gateways}


async def _router(gateway: GatewaySection, desk: Desk, stack: AsyncExitStack) -> Router:
    seconds = gateway.timeout.total_seconds()
    if gateway.envoy is not None:
        opened = open_envoy(gateway.envoy, gateway.runtime_key, name=gateway.called, timeout_seconds=seconds)
        return await stack.enter_async_context(opened)
    assert gateway.haproxy is not None
    return HAProxy(
        gateway.haproxy,
        gateway.backend,
        servers=lambda: {name: server.dedicated_canary for name, server in desk.servers.items()},
        name=gateway.called,
        timeout_seconds=seconds,
    )


async def check_gateways(model: ModelName, plan: Plan, routers: Mapping[str, Router], live: Iterable[Rollout]) -> None:
    """Refused, with the way out, when the gateways cannot carry this plan's steps now; nothing is changed."""
    if not plan.traffic_steps:
        return
    for other in live:
        if other.plan.traffic_steps:
            why = f"rollout {other.id} goes by steps of traffic through the same gateways; wait for its end"
            raise Refused(model, why)
    for name, router in routers.items():
        try:
            await router.check(plan.traffic_steps)
            share = await router.share()
        except PortError as error:
            raise Refused(model, f"gateway {name}: {error.detail}") from error
        if share:
            raise Refused(
                model,
                f"gateway {name} sends {percent(share)} of the calls to the canary's servers already;"
                " at rest that must be 0",
            )
