"""Users of a model all the while: every answer they get is held against what is right."""

import asyncio
import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
import grpc.aio

from haldane import wire
from haldane.testing.sandboxes import affine_request

PREDICT = "/tensorflow.serving.PredictionService/Predict"
PAUSE_SECONDS, DEADLINE_SECONDS = 0.1, 1.0
RIGHT = 10.0  # of x = 1, whichever version answers


@dataclass
class Seen:
    """What users saw: right answers, errors by code, and wrong answers in words.

    NaN is an error of the server's own: who gets it knows that it is none of the answers there could be.
    """

    answers: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Bystanders:
    """One user a server, ten requests a second, by the label `stable` or, with `label` "", by nothing."""

    def __init__(self, model: str, addresses: Sequence[str], *, label: str, allowed: set[int]) -> None:
        self.seen = Seen()
        self._addresses, self._allowed = addresses, allowed
        request = wire.PredictRequest.FromString(affine_request(1.0).body)
        request.model_spec.name = model
        if label:
            request.model_spec.version_label = label
        self._bytes = request.SerializeToString()
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._every()), daemon=True)

    def __enter__(self) -> Seen:
        self._thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    async def _every(self) -> None:
        await asyncio.gather(*(self._user(address) for address in self._addresses))

    async def _user(self, address: str) -> None:
        options = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 100)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            ask = channel.unary_unary(PREDICT)
            while not self._over.is_set():
                try:
                    self._hold(address, await ask(self._bytes, timeout=DEADLINE_SECONDS))
                except grpc.aio.AioRpcError as error:
                    self.seen.errors[error.code().name] += 1
                await asyncio.sleep(PAUSE_SECONDS)

    def _hold(self, address: str, answer: bytes) -> None:
        reply = wire.PredictResponse.FromString(answer)
        version, value = reply.model_spec.version.value, list(reply.outputs["y"].float_val)
        self.seen.answers += 1
        if any(math.isnan(one) for one in value) and version in self._allowed:
            self.seen.errors["NaN"] += 1
        elif value != [RIGHT] or version not in self._allowed:
            self.seen.wrong.append(f"{address}: version {version} said {value}")
