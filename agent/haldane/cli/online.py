"""`check config --online`: does the world look as the config says? Looks only, changes nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial

from haldane.adapters.dask import open_workers
from haldane.app.access import tls_of
from haldane.app.golden import open_golden
from haldane.app.lists import open_list
from haldane.app.meters import Sources, open_sources
from haldane.app.people import with_certificates
from haldane.app.sources import answered_by, first_request, open_source, signatures_of
from haldane.cli.neighbours import Finding, neighbours
from haldane.config import Config, ModelSection
from haldane.domain.fleet import ModelName, ReplicaView, Server, ServerName
from haldane.domain.rollout import Mode
from haldane.engine.readings import fill_in
from haldane.judge.gauges import Gauge
from haldane.ports import PortError
from haldane.rollout.wanted import STABLE
from haldane.serving.client import ServingClient, open_client
from haldane.serving.foreign import foreign_models

_UPDATE = "if a rollout has promoted another, write that one into model_config_file"


async def findings(config: Config) -> list[Finding]:
    """What was found, server by server, then model by model."""
    async with AsyncExitStack() as stack:
        servers, found = await _fleet(config)
        clients = [await stack.enter_async_context(open_client(server, tls_of(config))) for server in servers]
        pairs = zip(servers, clients, strict=True)
        looks = await asyncio.gather(*(_server(config, server, client) for server, client in pairs))
        found += [finding for _, told in looks for finding in told]
        views = {view.server: view for view, _ in looks if view is not None}
        for name in config.models:
            found += await _model(config, name, views, clients)
        if config.shadow.dask is not None:
            found.append(await _senders(config.shadow.dask))
        if config.proxy is not None and config.proxy.whole:
            found.append(_certificates(config))
        found += await _gauges(config, await open_sources(config, stack))
        found += await neighbours(config)
    return found


def _certificates(config: Config) -> Finding:
    """Whether certificates can be read."""
    try:
        with_certificates(config)
    except PortError as error:
        return False, str(error)
    return True, "proxy.gives: certificates can be read here"


async def _senders(scheduler: str) -> Finding:
    """Whether there are workers that can send the pairs."""
    try:
        async with open_workers(scheduler) as workers:
            return True, f"shadow.dask: workers that can be used at {scheduler}: {len(await workers.names())}"
    except PortError as error:
        return False, str(error)


async def _fleet(config: Config) -> tuple[list[Server], list[Finding]]:
    """The servers of the config and of its lists, each list read once, and what was found of the lists."""
    servers, found = list(config.fleet), list[Finding]()
    for section in config.discover:
        try:
            listed = await open_list(section).read()
        except PortError as error:
            found.append((False, f"discover: {error}"))
            continue
        names, addresses = {one.name for one in servers}, {one.address for one in servers}
        for server in listed:
            if server.name in names or server.address in addresses:
                found.append((False, f"discover: {section.title}: {server.name} is listed twice; list it once"))
                continue
            names.add(server.name)
            addresses.add(server.address)
            servers.append(server)
        found.append((True, f"discover: {section.title}: {', '.join(one.name for one in listed)}"))
    return servers, found


async def _server(config: Config, server: Server, client: ServingClient) -> tuple[ReplicaView | None, list[Finding]]:
    """What one server holds of the models of the config."""
    known = {entry.name for entry in config.base.models} if config.base else set()
    names = sorted(known | {ModelName(name) for name in config.models})
    try:
        view = await client.look({name: (STABLE,) if name in config.models else () for name in names}, {})
    except PortError as error:
        return None, [(False, f"{error}; is servers[].address right, and the server up?")]
    held = [f"{name} {_versions(view, name)}" for name in names if name in view.models]
    found = [(True, f"{server.name} at {server.address}: {'; '.join(held) or 'no model of the config'}")]
    if config.base is not None:
        reason = await foreign_models(config.base, server, client)
        # Only a server that may be changed must be known wholly; observing needs less.
        if reason:
            found.append((config.mode is Mode.OBSERVE, reason))
    return view, found


async def _gauges(config: Config, sources: Sources) -> list[Finding]:
    """What each gauge that is read by a clock gives now; before a rollout there is no canary to ask about."""
    asked = dict(_questions(config, sources))
    answers = await asyncio.gather(*(question() for question in asked.values()), return_exceptions=True)
    return [_reading(what, answer) for what, answer in zip(asked, answers, strict=True)]


def _questions(config: Config, sources: Sources) -> Iterator[tuple[str, Callable[[], Awaitable[float]]]]:
    """What is asked, in words, and how."""
    for name in config.models:
        stable = stable_version(config, name)
        for rule in config.rules_of(name).gauges:
            match rule.kind:
                case Gauge.QUERY if sources.prometheus is not None and stable is not None:
                    for server in [one.name for one in config.fleet] if "$server" in rule.query else [None]:
                        query = fill_in(rule.query, ModelName(name), stable, "stable", server)
                        yield f"{name}: {rule.name} of stable, {query}", partial(sources.prometheus.ask, query)
                case Gauge.CPU:
                    for server, meter in sources.processes.items():
                        yield f"{server}: CPU seconds of its process", meter.cpu_seconds
                case Gauge.MEMORY | Gauge.GROWTH:
                    for server, meter in sources.processes.items():
                        yield f"{server}: resident bytes of its process", meter.resident_bytes


def _reading(what: str, answer: float | BaseException) -> Finding:
    if isinstance(answer, PortError):
        return False, f"{what}: {answer.detail}"
    if isinstance(answer, BaseException):
        raise answer
    return True, f"{what}: {answer:.6g}"


def stable_version(config: Config, name: str) -> int | None:
    """What the config says users get; None when it does not."""
    return config.models[name].at_rest(config.base.entry(ModelName(name)) if config.base else None)


def _versions(view: ReplicaView, name: ModelName) -> str:
    loaded = view.models[name].loaded
    return ", ".join(map(str, loaded)) if loaded else "none loaded"


async def _model(
    config: Config, name: str, views: Mapping[ServerName, ReplicaView], clients: list[ServingClient]
) -> list[Finding]:
    """Whether the stable version is served, and the traffic of the model can be read."""
    section, model = config.models[name], ModelName(name)
    stable = stable_version(config, name)
    if section.stable == "none":
        return [(True, f"{name}: no version is stable yet; the first is judged on absolute limits alone")]
    if stable is None:
        return [(False, f"{name}: which version is stable is not said; give models.{name}.stable")]
    found = [
        (False, f"{name}: version {stable}, stable by the config, is not available on {server}; {_UPDATE}")
        for server, view in views.items()
        if model not in view.models or not view.models[model].available(stable)
    ]
    try:
        fields = config.fields_of(name)
        source = await open_source(
            model,
            section,
            stable,
            clients,
            fields=fields,
            base_path=config.base_path(name),
            tap_socket=config.tap_socket,
        )
        if source is None:
            return [*found, (True, f"{name}: no traffic is given, so a rollout can only be inconclusive")]
        request = await first_request(source, answered_by(model, stable, clients))
    except PortError as error:
        return [*found, (False, f"{name}: traffic: {error}")]
    if section.golden is not None:
        found.append(await _golden(model, section, stable, clients, config.analysis_of(name).fields))
    truth = f", first right answer {request.truth!r}" if request.truth is not None else ""
    truth += "".join(f", first {field} {request.fields.get(field, 'not given')}" for field in sorted(fields))
    return [*found, (True, f"{name}: {source.name} can be read as {request.api} requests{truth}")]


async def _golden(
    model: ModelName, section: ModelSection, stable: int, clients: list[ServingClient], fields: frozenset[str]
) -> Finding:
    """Whether every row of the golden set can be sent and has its right answer."""
    try:
        golden = await open_golden(model, section, await signatures_of(model, stable, clients), fields=fields)
    except PortError as error:
        return False, str(error)
    assert golden is not None
    return True, f"{model}: golden set {golden.name} holds {golden.length:,} rows of known answer"
