"""Two serialized answers to one request, read and scored.

Owns what the bytes of a Predict, Classify or Regress answer mean as arrays.
How arrays are compared is `judge.scoring`; when requests are sent is
`engine.pairing`, which is handed a `Scorer`.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from haldane import wire
from haldane.domain.traffic import Api, Request
from haldane.judge.outputs import Answer, OutputRule, Scored, Scores, Stack, stacked
from haldane.judge.scoring import score
from haldane.serving.stacks import read_alike
from haldane.tensors import UnsupportedType, decode

Score = Callable[[Sequence[Request], Sequence[bytes | None], Sequence[bytes | None]], Scored]


class Unreadable(ValueError):
    """Bytes that are no answer to that call."""


def read_answer(api: Api, data: bytes, wanted: str = "") -> Answer:
    """The answer's arrays by output name; with `wanted`, that output alone if it is there.

    Classify gives "scores" (rows, classes) and "classes", the names in bytes; Regress
    gives "outputs" (rows,). Raises Unreadable.
    """
    try:
        return _READERS[api](data, wanted)
    except (DecodeError, UnsupportedType, ValueError) as error:
        raise Unreadable(f"{api} answer: {error}") from error


def _predict(data: bytes, wanted: str) -> Answer:
    outputs = wire.PredictResponse.FromString(data).outputs
    if wanted:
        return {wanted: decode(outputs[wanted])} if wanted in outputs else {}
    return {name: decode(proto) for name, proto in outputs.items()}


def _classify(data: bytes, wanted: str) -> Answer:
    rows = wire.ClassificationResponse.FromString(data).result.classifications
    sizes = {len(row.classes) for row in rows}
    if len(sizes) > 1:
        raise ValueError("rows of different numbers of classes")
    shape = (len(rows), sizes.pop() if sizes else 0)
    scores = np.array([item.score for row in rows for item in row.classes], np.float32).reshape(shape)
    names = np.empty(scores.size, object)
    names[:] = [item.label.encode() for row in rows for item in row.classes]
    if not any(names):
        return {"scores": scores}
    return {"scores": scores, "classes": names.reshape(shape)}


def _regress(data: bytes, wanted: str) -> Answer:
    rows = wire.RegressionResponse.FromString(data).result.regressions
    return {"outputs": np.array([row.value for row in rows], np.float32)}


_READERS: dict[Api, Callable[[bytes, str], Answer]] = {
    Api.PREDICT: _predict,
    Api.CLASSIFY: _classify,
    Api.REGRESS: _regress,
}


@dataclass(frozen=True, slots=True)
class Answers:
    """One side of n pairs, and which of its answers could not be read: bool (n,)."""

    stacks: Sequence[Stack]
    unreadable: NDArray[np.bool_]


def read_answers(apis: Sequence[Api], data: Sequence[bytes | None], wanted: str = "") -> Answers:
    """One side of many pairs, as `read_answer` reads each; None is a side that gave no answer."""
    alike: dict[int, list[int]] = defaultdict(list)
    rest: list[int] = []
    for place, (api, raw) in enumerate(zip(apis, data, strict=True)):
        if raw is not None:
            (alike[len(raw)] if api is Api.PREDICT else rest).append(place)
    stacks: list[Stack] = []
    for places in alike.values():
        found, others = read_alike([data[place] or b"" for place in places], np.array(places), wanted)
        stacks += found
        rest += others.tolist()
    answers: list[Answer | None] = [None] * len(data)
    unreadable = np.zeros(len(data), bool)
    for place in rest:
        try:
            answers[place] = read_answer(apis[place], data[place] or b"", wanted)
        except Unreadable:
            unreadable[place] = True
    return Answers([*stacks, *stacked(answers)], unreadable)


def _cut_predict(data: bytes, rule: OutputRule) -> bytes:
    answer = wire.PredictResponse.FromString(data)
    name = rule.name_in({name: np.empty(0) for name in answer.outputs})
    small = wire.PredictResponse()
    if name is not None:
        small.outputs[name].CopyFrom(answer.outputs[name])
    return bytes(small.SerializeToString())


def _cut_result(message: Any) -> Callable[[bytes, OutputRule], bytes]:
    """Of a Classify or Regress answer everything but the model's name and version."""

    def cut(data: bytes, _: OutputRule) -> bytes:
        return bytes(message(result=message.FromString(data).result).SerializeToString())

    return cut


_CUT: dict[Api, Callable[[bytes, OutputRule], bytes]] = {
    Api.PREDICT: _cut_predict,
    Api.CLASSIFY: _cut_result(wire.ClassificationResponse),
    Api.REGRESS: _cut_result(wire.RegressionResponse),
}


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores pairs by one rule; called with many at once, since comparing is cheap only in bulk."""

    rule: OutputRule

    def __call__(
        self, requests: Sequence[Request], stable: Sequence[bytes | None], canary: Sequence[bytes | None]
    ) -> Scored:
        """None is a side that gave no answer. An answer that cannot be read counts as none, and is marked."""
        apis = [request.api for request in requests]
        old, new = (read_answers(apis, side, self.rule.output) for side in (stable, canary))
        scores = score(old.stacks, new.stacks, [request.truth for request in requests], self.rule)
        return Scored(scores, old.unreadable, new.unreadable)

    def kept(self, api: Api, data: bytes | None) -> bytes | None:
        """What of an answer is needed to score it later: the judged output in Serving's own form. None: no answer."""
        try:
            return None if data is None else _CUT[api](data, self.rule)
        except (DecodeError, ValueError):
            return None


def unscored(score: Score) -> Score:
    """The same, but that answers are only read, never compared: for requests that mean nothing."""

    def read(requests: Sequence[Request], stable: Sequence[bytes | None], canary: Sequence[bytes | None]) -> Scored:
        return replace(score(requests, stable, canary), scores=Scores.unknown(len(requests)))

    return read
