"""One TF Serving process over gRPC: look, reload, predict, scrape.

Owns: the channel, the way of shadow pairs, deadlines, the cap on our own calls, what has been proven on
this process. Leaves to `rollout.planner` what to change, to `engine.converge`
when, to `serving.shadow` pairing. It reports what was said and never repeats a
call of itself: a reload that got no answer may yet be applied, so the caller
looks again.

Source: recorded transcripts of TF Serving 2.20; model_service_impl.cc, server_core.cc.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import grpc
import grpc.aio
import httpx
from google.protobuf.message import DecodeError

from haldane import wire
from haldane.domain.fleet import (
    ModelEntry,
    ModelName,
    ModelView,
    ReplicaView,
    Server,
    ServerConfig,
    VersionStatus,
)
from haldane.domain.traffic import Choice, Outcome, Request, Status
from haldane.ports import Malformed, Refused, Unavailable
from haldane.serving import modelconfig, splice
from haldane.serving.answers import PASSING, look_failed, reload_failed, status_of, version_statuses, words_of
from haldane.serving.calls import Calls
from haldane.serving.channel import Tls, open_channel
from haldane.serving.legs import Legs
from haldane.serving.proofs import Proofs
from haldane.tensors import Signature, difference, signatures

_METADATA_BODY: bytes = wire.GetModelMetadataRequest(metadata_field=["signature_def"]).SerializeToString()
_PAGE_BYTES = 32 * 1024 * 1024  # one of 200 models has 6 MB; clients make a page as large as they like by made-up names


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long each call may take, and how many of ours may be on a server at once."""

    status_seconds: float = 5.0
    golden_seconds: float = 15.0  # the first inference of a version may build its graph
    reload_seconds: float = 15.0  # it only waits for new names: a second one, which loads what serves already
    scrape_seconds: float = 5.0
    calls_at_once: int = 2  # besides shadow traffic; a call that finds no server thread is refused at once
    jam_seconds: tuple[float, float] = (2.0, 30.0)  # pause after a reload got no answer: first, longest


class ServingClient:
    """A ModelServer: one channel to one TF Serving process. Use `open_client`."""

    def __init__(
        self,
        server: Server,
        channel: grpc.aio.Channel,
        http: httpx.AsyncClient,
        legs: Legs,
        *,
        limits: Limits,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.server = server
        self._limits = limits
        self._now = now
        self._channel = channel
        self._http = http
        self._cap = asyncio.Semaphore(limits.calls_at_once)
        self._raw: dict[str, Any] = {}  # method path -> call taking and giving bytes
        self._calls, self._legs = Calls(channel), legs
        self._proofs = Proofs()
        self._available: dict[ModelName, frozenset[int]] = {}  # at the last look
        self._jam = _Jam(*limits.jam_seconds)

    # --- looking --------------------------------------------------------------------------------------------------

    async def look(
        self, models: Mapping[ModelName, Sequence[str]], golden: Mapping[ModelName, Sequence[tuple[int, Request]]]
    ) -> ReplicaView:
        """What the process holds now; see `ports.ModelServer.look`.

        A version's golden request is sent until it is answered once, and again
        after the connection was lost or the server's history is shorter than
        it was: it may be another process.
        """
        if not models:  # nothing to ask about; whether it answers at all is still a question
            await self._statuses(ModelName("haldane"))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    name: group.create_task(self._look_at(name, labels, golden.get(name, ())), name=f"look {name}")
                    for name, labels in models.items()
                }
        except ExceptionGroup as errors:  # the first ends the look: a server that hangs is not asked about 200 models
            raise errors.exceptions[0] from None
        return ReplicaView(self.server.name, self._now(), {name: task.result() for name, task in tasks.items()})

    async def _look_at(
        self, model: ModelName, labels: Sequence[str], golden: Sequence[tuple[int, Request]]
    ) -> ModelView:
        statuses = await self._statuses(model)
        resolved = {label: await self._resolve(model, label) for label in labels}
        view = ModelView(
            versions=statuses, labels={label: found.version for label, found in resolved.items() if found.known}
        )
        self._proofs.seen(model, view)
        self._available[model] = frozenset(view.loaded)
        unproven = await self._prove(model, view, golden)
        return ModelView(
            versions=view.versions,
            labels=view.labels,
            unversioned=await self._unversioned(model, view, golden),
            proven=self._proofs.of(model) & self._available[model],
            unproven_because=unproven,
        )

    async def _statuses(self, model: ModelName) -> tuple[VersionStatus, ...]:
        """Every version this process ever had of the model; none when it does not know the model."""
        request = wire.GetModelStatusRequest()
        request.model_spec.name = model  # a label here would be ignored, so none is sent
        try:
            answer = await self._control(wire.GET_MODEL_STATUS, request.SerializeToString())
            parsed = wire.GetModelStatusResponse.FromString(answer)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return ()
            raise look_failed(self.server.name, error) from error
        except DecodeError as error:
            raise Malformed(self.server.name, f"GetModelStatus of {model}: {error}") from error
        return tuple(version_statuses(parsed))

    async def _resolve(self, model: ModelName, label: str | None) -> "_Resolved":
        """Which version a label (or None: naming neither) means to requests now."""
        body = splice.addressed(_METADATA_BODY, model, label)
        try:
            answer = await self._control(wire.GET_MODEL_METADATA, body)
            return _Resolved(True, splice.described(answer))
        except grpc.aio.AioRpcError as error:
            status = status_of(error.code(), error.details() or "")
            if status is not Status.NOT_FOUND:
                raise look_failed(self.server.name, error) from error
            # A label that dangles is NOT_FOUND; one that is not set is INVALID_ARGUMENT.
            return _Resolved(error.code() is grpc.StatusCode.NOT_FOUND, None)
        except DecodeError as error:
            raise Malformed(self.server.name, f"GetModelMetadata of {model}: {error}") from error

    async def signatures(self, model: ModelName, version: int | str | None = None) -> dict[str, Signature]:
        """What the model takes and gives, by signature name; Refused when that version or label is not served."""
        try:
            answer = await self._control(wire.GET_MODEL_METADATA, splice.addressed(_METADATA_BODY, model, version))
            metadata = wire.GetModelMetadataResponse.FromString(answer).metadata
            return signatures(wire.SignatureDefMap.FromString(metadata["signature_def"].value).signature_def)
        except grpc.aio.AioRpcError as error:
            if status_of(error.code(), error.details() or "") is Status.NOT_FOUND:
                raise Refused(self.server.name, f"model {model} is not served there: {words_of(error)}") from error
            raise look_failed(self.server.name, error) from error
        except DecodeError as error:
            raise Malformed(self.server.name, f"GetModelMetadata of {model}: {error}") from error

    # --- proving --------------------------------------------------------------------------------------------------

    async def _prove(self, model: ModelName, view: ModelView, golden: Sequence[tuple[int, Request]]) -> dict[int, str]:
        """Send the golden requests still due; returns why versions could not be proven, when they clearly cannot.

        AVAILABLE does not mean that it answers: a SavedModel without variables
        becomes AVAILABLE and fails every call.
        """
        because: dict[int, str] = {}
        for version, all_of_it in groupby(golden, key=itemgetter(0)):
            if not view.available(version) or version in self._proofs.of(model):
                continue
            life = self._proofs.life
            why = await self._wrong(model, version, [request for _, request in all_of_it])
            if why == "":
                self._proofs.add(model, version, life)
            elif why is not None:
                because[version] = why
        return because

    async def _wrong(self, model: ModelName, version: int, golden: Sequence[Request]) -> str | None:
        """Why a version is not proven by its golden requests: "" when it is, None when that could not be told now."""
        for request in golden:
            outcome = await self._golden(model, request, version)
            if outcome.status is not Status.OK:
                return None if outcome.status in PASSING else outcome.detail
            if outcome.version != version:
                return f"the golden request to version {version} was answered by {outcome.version}"
            if request.recorded is not None and (other := difference(outcome.answer or b"", request.recorded)):
                return f"it does not answer as when it was validated: {other}"
        return ""

    async def _unversioned(
        self, model: ModelName, view: ModelView, golden: Sequence[tuple[int, Request]]
    ) -> int | None:
        """The version that answers requests naming neither, proven by such a request where there is a golden one.

        The proof is sent once per version and process; later looks only ask
        for metadata, which runs no inference and counts in no metric.
        """
        if not view.loaded:
            return None
        version = (await self._resolve(model, None)).version
        requests = dict(golden)
        if version is None or not requests or self._proofs.unversioned.get(model) == version:
            return version
        life = self._proofs.life
        outcome = await self._golden(model, requests.get(version, next(iter(requests.values()))), None)
        if outcome.status is not Status.OK:
            return None
        if outcome.version == version:
            self._proofs.add_unversioned(model, version, life)
        return outcome.version

    async def _golden(self, model: ModelName, request: Request, version: int | None) -> Outcome:
        async with self._cap:
            deadline = asyncio.get_running_loop().time() + self._limits.golden_seconds
            return await self.predict(model, request, version=version, deadline=deadline)

    # --- changing -------------------------------------------------------------------------------------------------

    async def reload(self, config: ServerConfig) -> None:
        """Send the whole config once; see `ports.ModelServer.reload`. Look afterwards, whatever it said.

        Refused without sending when the config could harm (`modelconfig.problems`)
        or labels a version that the last look did not see AVAILABLE. Unavailable
        without sending for a while after a reload got no answer: it may be
        queued in the server, where each waiting reload holds a thread.
        """
        found = modelconfig.problems(config) + [p for entry in config.models for p in self._unloaded_labels(entry)]
        if found:
            raise Refused(self.server.name, "config not sent: " + "; ".join(found))
        if wait := self._jam.remaining(asyncio.get_running_loop().time()):
            raise Unavailable(self.server.name, f"reload not sent: the last got no answer; next try in {wait:.0f} s")
        request = wire.ReloadConfigRequest(config=modelconfig.to_proto(config))
        try:  # not under the cap: behind a page that hangs it would be sent when the lease has ended, if ever
            await self._call(wire.RELOAD_CONFIG.path, request.SerializeToString(), self._limits.reload_seconds)
        except grpc.aio.AioRpcError as error:
            timed_out = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            self._jam.note(asyncio.get_running_loop().time(), timed_out=timed_out)
            raise reload_failed(self.server.name, error) from error
        self._jam.note(asyncio.get_running_loop().time(), timed_out=False)

    def _unloaded_labels(self, entry: ModelEntry) -> Iterable[str]:
        available = self._available.get(entry.name)
        if available is None:
            return  # not a model we look at
        for label, version in sorted(entry.labels.items()):
            if version not in available:
                yield f"model {entry.name}: label {label} needs version {version}, which was not seen AVAILABLE"

    # --- asking ---------------------------------------------------------------------------------------------------

    async def predict(
        self, model: ModelName, request: Request, *, version: int | str | None, deadline: float
    ) -> Outcome:
        """One call, addressed by number, label (str) or neither; `deadline` is absolute, in loop time.

        Not under the cap of our own calls: shadow traffic has limits of its
        own. Never raises for what the server says, or for a server that is
        gone; the answer's bytes are passed on unread.
        """
        return await self._calls.one(model, request, version, deadline)

    def predict_both(
        self, model: ModelName, request: Request, *, first: Choice, second: Choice, deadline: float
    ) -> Awaitable[tuple[Outcome, Outcome]]:
        """Two calls sent together, in that order; see `predict`."""
        return self._legs.both(model, request, first, second, deadline)

    async def scrape(self) -> str | None:
        """Its metrics page; None when it has none (no URL, or monitoring is off there)."""
        if self.server.metrics_url is None:
            return None
        try:
            async with self._cap, asyncio.timeout(self._limits.scrape_seconds):
                try:
                    return await self._page(self.server.metrics_url)
                except httpx.RemoteProtocolError:  # it closed a kept connection just as that was used again
                    return await self._page(self.server.metrics_url)
        except (TimeoutError, httpx.TransportError, httpx.DecodingError) as error:
            raise Unavailable(self.server.name, f"metrics page: {type(error).__name__}") from error

    async def _page(self, url: str) -> str | None:
        async with self._http.stream("GET", url) as reply:
            if reply.status_code == 404:
                return None
            if reply.status_code != 200:
                raise Unavailable(self.server.name, f"metrics page: HTTP status {reply.status_code}")
            page = bytearray()
            async for chunk in reply.aiter_bytes():
                page += chunk
                if len(page) > _PAGE_BYTES:
                    raise Malformed(self.server.name, f"metrics page: more than {_PAGE_BYTES} bytes")
        return page.decode(errors="replace")

    # --- the wire -------------------------------------------------------------------------------------------------

    async def _control(self, method: wire.Method, body: bytes, *, seconds: float | None = None) -> bytes:
        """One of our own calls, under the cap; the deadline counts from when it is sent."""
        async with self._cap:
            return await self._call(method.path, body, seconds or self._limits.status_seconds)

    async def _call(self, path: str, body: bytes, seconds: float) -> bytes:
        call = self._raw.get(path)
        if call is None:
            call = self._raw[path] = self._channel.unary_unary(path, None, None)  # no serializers: bytes in, bytes out
        answer: bytes = await call(body, timeout=seconds)
        return answer

    async def watch_connection(self) -> None:
        """Forget what was proven whenever the connection is lost: the next one may lead to a new process."""
        state = self._channel.get_state()
        while state is not grpc.ChannelConnectivity.SHUTDOWN:
            await self._channel.wait_for_state_change(state)
            if state is grpc.ChannelConnectivity.READY:
                self._proofs.forget()
            state = self._channel.get_state()


@dataclass(frozen=True, slots=True)
class _Resolved:
    """What a label probe said: is the label set, and which version answers."""

    known: bool
    version: int | None


class _Jam:
    """The pause after a reload got no answer in time, doubling while that goes on. Loop time."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._pause = 0.0
        self._until = 0.0

    def remaining(self, now: float) -> float:
        return max(0.0, self._until - now)

    def note(self, now: float, *, timed_out: bool) -> None:
        self._pause = min(self._longest, max(self._first, 2 * self._pause)) if timed_out else 0.0
        self._until = now + self._pause


@asynccontextmanager
async def open_client(
    server: Server,
    tls: Tls | None = None,
    *,
    limits: Limits | None = None,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[ServingClient]:
    """A client to one server, for as long as the block lasts. A server that is down now is no error yet.

    Refused when a TLS file cannot be read. The metrics page is plain HTTP:
    Serving has no TLS there.
    """
    limits = limits or Limits()
    async with (
        httpx.AsyncClient(timeout=limits.scrape_seconds, trust_env=False) as http,
        open_channel(server, tls) as raw,
    ):
        with closing(Legs(server, tls)) as legs:
            client = ServingClient(server, raw, http, legs, limits=limits, now=now)
            watching = asyncio.create_task(client.watch_connection(), name=f"watch channel {server.name}")
            try:
                yield client
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
