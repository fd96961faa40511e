"""Requests made up from a signature."""

import numpy as np
import pytest

from haldane import wire
from haldane.domain.traffic import Api, Request
from haldane.judge.outputs import OutputRule
from haldane.ports import Refused
from haldane.serving.madeup import REQUESTS, made_up
from haldane.serving.shadow import Scorer, unscored
from haldane.tensors import Signature, TensorSpec, decode, encode

KINDS = {
    "f": (1, (-1, 3)),
    "text": (7, (-1,)),
    "n": (9, (-1, 2)),
    "flag": (10, (-1,)),
    "free": (2, None),
    "one": (3, ()),
}


def model(method="predict", **inputs):
    specs = {name: TensorSpec(name, dtype, shape) for name, (dtype, shape) in inputs.items()}
    return {"serving_default": Signature("serving_default", f"tensorflow/serving/{method}", specs, {})}


def test_they_fit_the_signature_one_row_each_and_differ():
    requests = list(made_up(model(**KINDS), "serving_default"))
    assert [request.row for request in requests] == list(range(REQUESTS))
    assert len({request.body for request in requests}) == REQUESTS
    protos = wire.PredictRequest.FromString(requests[0].body).inputs
    arrays = {name: decode(proto) for name, proto in protos.items()}
    shapes = {"f": (1, 3), "text": (1,), "n": (1, 2), "flag": (1,), "free": (1,), "one": ()}
    assert {name: array.shape for name, array in arrays.items()} == shapes
    assert {name: protos[name].dtype for name in protos} == {name: dtype for name, (dtype, _) in KINDS.items()}


def test_they_are_the_same_in_every_process():
    first, again = (next(made_up(model(**KINDS), "serving_default")).body for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("signatures", "says"),
    [
        ({}, "no signature 'serving_default'"),
        (model("classify", inputs=(7, (-1,))), "takes Examples"),
        (model(x=(20, (-1,))), "tensor type number 20"),
        (model(x=(1, (-1, 100_000, 1000))), "has 100,000,000 values"),
    ],
)
def test_what_cannot_be_made_up_is_refused(signatures, says):
    with pytest.raises(Refused, match=says):
        next(made_up(signatures, "serving_default"))


def test_answers_to_them_are_read_but_not_compared():
    def answer(value):
        message = wire.PredictResponse()
        message.outputs["y"].CopyFrom(encode(np.array([value], np.float32), 1))
        return message.SerializeToString()

    requests = [Request("a", Api.PREDICT, b"", 0), Request("b", Api.PREDICT, b"", 1)]
    stable, canary = [answer(1.0), answer(1.0)], [answer(2.0), b"\xff"]
    scored = unscored(Scorer(OutputRule()))(requests, stable, canary)
    assert np.isnan(scored.scores.disagrees).all()
    assert scored.canary_unreadable.tolist() == [False, True]
    assert Scorer(OutputRule())(requests, stable, canary).scores.disagrees[0] == 1
