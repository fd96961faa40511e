"""What a request may be sliced by that stands in its own body."""

import numpy as np
import pytest

from haldane import wire
from haldane.domain.traffic import Api, Request
from haldane.ports import Malformed
from haldane.serving.fields import fields_of, with_fields
from haldane.tensors import encode, predict_body

FLOAT, STRING, INT64 = 1, 7, 9


def body() -> bytes:
    text = np.empty((1, 1), object)
    text[0, 0] = b"DE"
    inputs = {
        "country": encode(text, STRING),
        "age": encode(np.array([30], np.int64), INT64),
        "score": encode(np.array([0.5], np.float32), FLOAT),
        "xs": encode(np.array([[1.0, 2.0]], np.float32), FLOAT),
    }
    return predict_body("serving_default", inputs)


def test_inputs_with_one_value_are_fields() -> None:
    found = fields_of(Api.PREDICT, body(), {"country", "age", "score", "xs", "absent"})
    assert found == {"country": "DE", "age": "30", "score": "0.5"}


def test_a_tensor_of_an_exotic_type_is_left_out() -> None:
    request = wire.PredictRequest.FromString(body())
    request.inputs["age"].dtype = 21
    assert fields_of(Api.PREDICT, request.SerializeToString(), {"age", "country"}) == {"country": "DE"}


@pytest.mark.parametrize("api", [Api.CLASSIFY, Api.REGRESS])
def test_features_of_a_single_example_are_fields_and_so_is_its_context(api: Api) -> None:
    request = wire.ClassificationRequest() if api is Api.CLASSIFY else wire.RegressionRequest()
    listed = request.input.example_list_with_context
    listed.context.features.feature["country"].bytes_list.value.append(b"FR")
    example = listed.examples.add()
    example.features.feature["age"].int64_list.value.append(41)
    example.features.feature["xs"].float_list.value.extend([1.0, 2.0])
    wanted = {"country", "age", "xs"}
    assert fields_of(api, request.SerializeToString(), wanted) == {"country": "FR", "age": "41"}
    listed.examples.add()
    assert fields_of(api, request.SerializeToString(), wanted) == {}


def test_what_a_reader_found_comes_first_and_bad_records_pass_through() -> None:
    bad = Malformed("rows", "torn")
    given = Request("a", Api.PREDICT, body(), fields={"country": "AT"})
    (request, same) = with_fields([given, bad], {"country", "age"})
    assert isinstance(request, Request)
    assert request.fields == {"country": "AT", "age": "30"}
    assert same is bad
