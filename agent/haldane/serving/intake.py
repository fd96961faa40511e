"""What becomes of mirrored calls: looked at, drawn, and queued for each use of them, or dropped and counted.

A mirror must never wait for us, so `Intake` only reads a call's head and puts
its bytes in a queue that is bounded; what finds no room is dropped. Parsing,
sending on and writing is done by whoever takes from the queues.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from google.protobuf.message import DecodeError

from haldane.domain.fleet import ModelName
from haldane.domain.traffic import Api
from haldane.serving import splice
from haldane.telemetry import TapTelemetry

Headers = Iterable[tuple[str | bytes, str | bytes]]
_LONGEST_ID = 256  # characters; longer ones are no ids
NOBODY = ""  # the model of a call that is of none of ours


class Use(StrEnum):
    """What a copy of a mirrored call is for."""

    SHADOW = "shadow"
    RECORD = "record"


class Received(StrEnum):
    """What a mirrored call was; each call counts once. A closed set, for it becomes a Prometheus label."""

    OK = "ok"
    TOO_LARGE = "too_large"
    OTHER_MODEL = "other_model"  # no use is made of that model's calls
    OTHER_METHOD = "other_method"  # not Predict, Classify or Regress
    UNREADABLE = "unreadable"  # no protobuf message, or it names no model
    FULL = "full"  # too much is being received at once


class Fate(StrEnum):
    """What became of a copy that was drawn for a use; each counts once, when it is known."""

    GIVEN = "given"  # handed to the agent, or written
    FULL = "full"  # no room to wait
    UNREADABLE = "unreadable"  # not what the model takes
    NO_SIGNATURE = "no_signature"  # a REST body, while no server could say what the model takes
    LEFT = "left"  # the agent stopped asking while it waited
    DISK = "disk"  # could not be written
    STOPPED = "stopped"  # the tap was told to stop, and there was no time left for it


@dataclass(frozen=True, slots=True)
class Mirrored:
    """One mirrored call as it came: a serialized request, or the JSON body of a REST call (`rest`).

    `id` is what its header says, "" when it has none.
    """

    model: ModelName
    api: Api
    body: bytes
    rest: bool = False
    gzip: bool = False
    id: str = ""


def _id(headers: Headers, name: str) -> str:
    """What that header says; "" where there is none, or what it says is no id."""
    wanted = name.lower()
    for key, value in headers:
        if (key.decode("latin-1") if isinstance(key, bytes) else key).lower() == wanted:
            text = value.decode(errors="replace") if isinstance(value, bytes) else value
            return text if len(text) <= _LONGEST_ID else ""
    return ""


class Tally:
    """Everything counted, for our metrics page and for whoever asks."""

    def __init__(self, telemetry: TapTelemetry) -> None:
        self.received: Counter[tuple[str, Received]] = Counter()
        self.fates: Counter[tuple[ModelName, Use, Fate]] = Counter()
        self._telemetry = telemetry

    def receive(self, model: str, result: Received) -> None:
        self.received[model, result] += 1
        self._telemetry.received.labels(model, result).inc()

    def settle(self, model: ModelName, use: Use, fate: Fate, count: int = 1) -> None:
        if count:
            self.fates[model, use, fate] += count
            self._telemetry.copies.labels(model, use, fate).inc(count)

    def as_json(self) -> dict[str, dict[str, int]]:
        """Model ("" for calls of none of ours) -> "ok", "shadow given", ... -> count."""
        told: dict[str, dict[str, int]] = {}
        for (model, result), count in self.received.items():
            told.setdefault(model, {})[str(result)] = count
        for (name, use, fate), count in self.fates.items():
            told.setdefault(str(name), {})[f"{use} {fate}"] = count
        return told


class Waiting:
    """Calls between the listener and one use of them, bounded in bytes."""

    _OVERHEAD = 200  # bytes that Python needs for a call beside its body

    def __init__(self, most_bytes: int) -> None:
        self._most, self._held = most_bytes, 0
        self._calls: deque[Mirrored] = deque()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._calls)

    def offer(self, call: Mirrored) -> bool:
        """Whether it found room."""
        size = len(call.body) + self._OVERHEAD
        if self._held + size > self._most:
            return False
        self._held += size
        self._calls.append(call)
        self._some.set()
        return True

    async def take(self, most: int) -> list[Mirrored]:
        """The oldest ones; waits until there is one."""
        while not self._calls:
            self._some.clear()
            await self._some.wait()
        taken = [self._calls.popleft() for _ in range(min(most, len(self._calls)))]
        self._held -= sum(len(call.body) + self._OVERHEAD for call in taken)
        return taken


@dataclass(frozen=True, slots=True)
class Shares:
    """Which share of a model's calls is drawn for each use (0: none), and which header holds a call's id."""

    shadow: float = 0.0
    record: float = 0.0
    id_header: str = ""


class Intake:
    """Every mirrored call of every model. Nothing here waits."""

    def __init__(self, models: Mapping[ModelName, Shares], waiting_bytes: int, tally: Tally) -> None:
        uses = sum((shares.shadow > 0) + (shares.record > 0) for shares in models.values())
        self._room = waiting_bytes // max(1, uses)
        self._models, self.tally = models, tally
        self._chance = random.Random()
        self._readers: dict[ModelName, Waiting] = {}  # while the agent asks for them
        self.recorded = {name: Waiting(self._room) for name, shares in models.items() if shares.record > 0}
        self._newest: dict[ModelName, Mirrored] = {}
        self._came = asyncio.Event()

    def grpc(self, api: Api, body: bytes, headers: Headers = ()) -> None:
        try:
            name = str(splice.asked_of(body).name)
        except DecodeError:
            name = ""
        if not name:
            self.tally.receive(NOBODY, Received.UNREADABLE)
            return
        self._receive(Mirrored(ModelName(name), api, body), headers)

    def rest(self, model: str, api: Api, body: bytes, headers: Headers = ()) -> None:
        gzip = any(key == b"content-encoding" and value.lower() == b"gzip" for key, value in headers)
        self._receive(Mirrored(ModelName(model), api, body, rest=True, gzip=gzip), headers)

    def refuse(self, why: Received) -> None:
        """A call that was not taken, of whatever model."""
        self.tally.receive(NOBODY, why)

    def _receive(self, call: Mirrored, headers: Headers) -> None:
        shares = self._models.get(call.model)
        if shares is None:
            self.tally.receive(NOBODY, Received.OTHER_MODEL)
            return
        self.tally.receive(call.model, Received.OK)
        if shares.shadow and self._chance.random() < shares.shadow:
            call = replace(call, id=_id(headers, shares.id_header)) if shares.id_header else call
            self._newest[call.model] = call
            self._came.set()
            self._offer(call, Use.SHADOW, self._readers.get(call.model))
        if shares.record and self._chance.random() < shares.record:
            self._offer(call, Use.RECORD, self.recorded[call.model])

    def _offer(self, call: Mirrored, use: Use, waiting: Waiting | None) -> None:
        if waiting is not None and not waiting.offer(call):
            self.tally.settle(call.model, use, Fate.FULL)

    # --- the agent's side ----------------------------------------------------

    def handed_on(self, model: ModelName) -> bool:
        """Whether this model's calls are for the agent to shadow."""
        return model in self._models and self._models[model].shadow > 0

    def start_reading(self, model: ModelName) -> Waiting:
        """Calls to shadow from now on; one reader per model, the newest."""
        self._readers[model] = Waiting(self._room)
        return self._readers[model]

    def stop_reading(self, model: ModelName, reader: Waiting) -> None:
        self.tally.settle(model, Use.SHADOW, Fate.LEFT, len(reader))
        if self._readers.get(model) is reader:
            del self._readers[model]

    async def newest(self, model: ModelName) -> Mirrored:
        """The last call of the model; waits for the first."""
        while model not in self._newest:
            self._came.clear()
            await self._came.wait()
        return self._newest[model]

    def forget(self, call: Mirrored) -> None:
        """The newest one could not be used: the next is waited for."""
        if self._newest.get(call.model) is call:
            del self._newest[call.model]
