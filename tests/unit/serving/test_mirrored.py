"""A mirrored call as a request message, and everything that is none."""

import gzip
import json
from typing import Any

import numpy as np
import pytest

from haldane import wire
from haldane.domain.fleet import ModelName
from haldane.domain.traffic import Api
from haldane.serving.intake import Mirrored
from haldane.serving.mirrored import NotUsable, request_of
from haldane.tensors import Signature, TensorSpec, decode, encode

CREDIT = ModelName("credit")
SIGNATURES = {
    "serving_default": Signature("serving_default", "tensorflow/serving/predict", {"x": TensorSpec("x", 1, (-1,))}, {}),
    "rate": Signature("rate", "tensorflow/serving/regress", {"inputs": TensorSpec("inputs", 7, (-1,))}, {}),
}


def rest(body: Any, api: Api = Api.PREDICT, *, packed: bool = False) -> Mirrored:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Mirrored(CREDIT, api, gzip.compress(data) if packed else data, rest=True, gzip=packed)


def read(call: Mirrored, largest: int = 10_000) -> Any:
    return request_of(call, SIGNATURES, largest=largest)


@pytest.mark.parametrize("packed", [False, True])
def test_a_rest_body_becomes_the_request_that_serving_makes_of_it(packed):
    request = read(rest({"instances": [1.5, 2.5]}, packed=packed))
    assert decode(request.inputs["x"]).tolist() == [1.5, 2.5]
    assert (request.model_spec.name, request.model_spec.signature_name) == ("credit", "serving_default")


def test_a_regress_body():
    request = read(rest({"signature_name": "rate", "examples": [{"age": 41}]}, Api.REGRESS))
    assert request.input.example_list.examples[0].features.feature["age"].int64_list.value == [41]


def test_a_grpc_body_stays_as_it_is():
    sent = wire.PredictRequest()
    sent.model_spec.name = "credit"
    sent.inputs["x"].CopyFrom(encode(np.array([1.0], np.float32), 1))
    assert read(Mirrored(CREDIT, Api.PREDICT, sent.SerializeToString())) == sent


def test_a_user_cannot_bring_a_right_answer_along():
    assert (
        read(rest({"instances": [1.0], "truth": 1, "id": "mine", "fields": {"country": "DE"}})).inputs["x"].dtype == 1
    )


@pytest.mark.parametrize(("call", "why"), [
    (rest(b"{"), "Expecting"),
    (rest(b'{"a": "\xff"}'), "decode"),
    (rest(b"[" * 100_000), "deep|Expecting"),
    (rest([1.0]), "JSON object"),
    (rest({}), "exactly one"),
    (rest({"instances": ["text"]}), "must be float"),
    (rest({"instances": [1.0], "signature_name": "none"}), "no signature"),
    (rest({"instances": [1.0]}, Api.REGRESS), "Predict request, the path says Regress"),
    (Mirrored(CREDIT, Api.PREDICT, b"no gzip", rest=True, gzip=True), "broken gzip"),
    (Mirrored(CREDIT, Api.PREDICT, gzip.compress(b"{}")[:-4], rest=True, gzip=True), "cut off"),
    (rest(b" " * 50_000, packed=True), "more than the largest"),
    (Mirrored(CREDIT, Api.PREDICT, b"\xff\xff"), "not a Predict request"),
    (Mirrored(CREDIT, Api.PREDICT, b""), "without inputs"),
    (Mirrored(CREDIT, Api.CLASSIFY, b""), "without input"),
])  # fmt: skip
def test_what_is_no_request_says_why(call, why):
    with pytest.raises(NotUsable, match=why):
        read(call)
