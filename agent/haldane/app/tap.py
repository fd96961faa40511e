"""The tap's process: mirrored calls in, to the agent by a Unix socket, and into files.

A process of its own, because what is mirrored is whatever users send: a flood of
it may fill this one's time, never that of the process that holds the rollback.
It needs no store and no lease, so it may also run, and record, where no agent
does, and goes on while the agent is restarted.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

import structlog
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

import haldane
from haldane.app.access import tls_of, writable
from haldane.app.lists import open_list
from haldane.app.stopping import until_stopped
from haldane.config import Config, RecordSection, TapSection, record_keys
from haldane.domain.fleet import Clients, ModelName, Server
from haldane.ports import PortError, Refused
from haldane.rollout.wanted import STABLE
from haldane.serving.client import open_client
from haldane.serving.intake import Intake, Shares, Tally
from haldane.serving.recorder import Recorder
from haldane.serving.recording import Recording, Terms
from haldane.serving.redact import Redaction
from haldane.serving.tap import RestMirror, grpc_mirror
from haldane.serving.tapfeed import Feed, Reading, open_feed
from haldane.telemetry import TapTelemetry
from haldane.tensors import Signature
from haldane.web.listener import listening, serve

log = structlog.get_logger()
_SIGNATURE_SECONDS = 30.0  # how long what a server said of a model is taken for true
_ASK_AGAIN_SECONDS = 2.0  # after none answered


async def run(config: Config) -> None:
    """Run the tap until it is told to stop (SIGTERM, SIGINT).

    Raises ConfigError when a key cannot be had, Refused when no model's calls are wanted, or a port, the socket or a
    folder cannot be had.
    """
    keys = record_keys(config)
    if config.tap is None or not config.tapped:
        raise Refused("tap", "nothing to do: give the top-level tap: {}, and traffic: {tap: {}} to a model")
    await until_stopped(partial(_run, config, config.tap, keys))


async def _run(config: Config, tap: TapSection, keys: Mapping[str, SecretStr], stack: AsyncExitStack) -> None:
    rest = await stack.enter_async_context(listening(tap.rest, "tap.rest"))
    registry = CollectorRegistry()
    telemetry = TapTelemetry.on(registry)
    telemetry.build.labels(haldane.__version__).set(1)
    intake = Intake(shares(config), tap.waiting, Tally(telemetry))
    reading = Reading(Known(config).of, tap.largest)
    with writable(config):
        config.state_dir.mkdir(parents=True, exist_ok=True)
    servers = [
        grpc_mirror(intake, tap.grpc, largest=tap.largest, held_bytes=tap.waiting),
        open_feed(Feed(intake, reading), config.tap_socket),
    ]
    recorders = [_recorder(config, model, keys, intake, reading) for model in intake.recorded]
    stack.callback(lambda: log.info("tap_ended", counts=intake.tally.as_json()))
    # What takes calls ends first, so that the recorders then see the last of them.
    group = await stack.enter_async_context(asyncio.TaskGroup())
    recording = [group.create_task(recorder.run(), name="recorder") for recorder in recorders]
    stack.callback(lambda: [task.cancel() for task in recording])
    for server in servers:
        await server.start()
        stack.push_async_callback(server.stop, 1.0)
    log.info("tap_started", grpc=tap.grpc, rest=tap.rest, models=sorted(config.tapped), version=haldane.__version__)
    await serve(RestMirror(intake, registry, largest=tap.largest, held_bytes=tap.waiting), rest)


def shares(config: Config) -> dict[ModelName, Shares]:
    """Which share of each model's calls is for what."""
    return {
        name: Shares(
            shadow=traffic.tap.sample if traffic.tap is not None else 0.0,
            record=traffic.record.sample if traffic.record is not None else 0.0,
            id_header=traffic.tap.id_header if traffic.tap is not None else "",
        )
        for name, traffic in config.tapped.items()
    }


def _recorder(
    config: Config, model: ModelName, keys: Mapping[str, SecretStr], intake: Intake, reading: Reading
) -> Recorder:
    section = config.tapped[model].record
    assert section is not None
    recording = Recording(model, _terms(section))
    recording.open()
    key = keys[model].get_secret_value().encode() if model in keys else b""
    return Recorder(model, intake, reading, recording, Redaction(frozenset(section.drop), frozenset(section.hash), key))


def _terms(section: RecordSection) -> Terms:
    return Terms(
        section.directory,
        section.file_size,
        section.file_age.total_seconds(),
        section.keep_size,
        section.keep_age.total_seconds(),
    )


class Known:
    """What the version that users get takes: asked of the first server that answers, and kept for a while."""

    def __init__(self, config: Config) -> None:
        self._config, self._lists = config, [open_list(section) for section in config.discover]
        self._held: dict[ModelName, tuple[float, Mapping[str, Signature] | None]] = {}  # until when, and what
        self._asking = asyncio.Lock()

    async def of(self, model: ModelName) -> Mapping[str, Signature] | None:
        """The signatures by name; None while no server answers."""
        async with self._asking:
            loop = asyncio.get_running_loop()
            until, found = self._held.get(model, (0.0, None))
            if loop.time() >= until:
                found = await self._ask(model)
                wait = _ASK_AGAIN_SECONDS if found is None else _SIGNATURE_SECONDS
                self._held[model] = loop.time() + wait, found
            return found

    async def _ask(self, model: ModelName) -> Mapping[str, Signature] | None:
        asked = STABLE if self._config.models[model].clients is Clients.LABEL else None
        for server in await self._servers():
            async with open_client(server, tls_of(self._config)) as client:
                for version in dict.fromkeys((asked, None)):  # where no label is set, as in observe mode: the latest
                    try:
                        return await client.signatures(model, version)
                    except PortError as error:
                        log.debug("signatures_not_given", model=model, server=server.name, detail=str(error))
        return None

    async def _servers(self) -> list[Server]:
        """All that users may call, so none that has only the canary."""
        found = list(self._config.fleet)
        for listed in self._lists:
            try:
                found += await listed.read()
            except PortError as error:
                log.debug("list_not_read", detail=str(error))
        return [server for server in found if not server.dedicated_canary]
