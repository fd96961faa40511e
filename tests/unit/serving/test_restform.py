import json

import numpy as np
import pytest

from haldane import wire
from haldane.domain.traffic import Api, Request, key_of
from haldane.ports import Malformed, Unavailable
from haldane.serving.restform import NotRestForm, call_of, read_lines
from haldane.tensors import Signature, TensorSpec, decode

FLOAT, INT32, STRING, BOOL, UINT8 = 1, 3, 7, 10, 4


def model(**inputs):
    """A model with one signature: input name -> (type, shape)."""
    specs = {name: TensorSpec(name, dtype, shape) for name, (dtype, shape) in inputs.items()}
    return {"serving_default": Signature("serving_default", "tensorflow/serving/predict", specs, {})}


ONE = model(x=(FLOAT, (-1, 2)))
TWO = model(age=(INT32, (-1,)), name=(STRING, (-1,)))
CLASSIFY = {"serving_default": Signature("serving_default", "tensorflow/serving/classify", {}, {})}
REGRESS = {"serving_default": Signature("serving_default", "tensorflow/serving/regress", {}, {})}
TEXT = model(t=(STRING, (-1,)))


def read(signatures, body):
    """The inputs of the request made of a body, by name."""
    api, message = call_of(signatures, body)
    assert api is Api.PREDICT
    request = wire.PredictRequest.FromString(message)
    assert request.model_spec.signature_name == "serving_default"
    assert not request.model_spec.name
    return {name: decode(proto) for name, proto in request.inputs.items()}


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2], [3, 4.5]]},
        {"instances": [{"x": [1, 2]}, {"x": [3, 4.5]}]},
        {"inputs": [[1, 2], [3, 4.5]]},
        {"inputs": {"x": [[1, 2], [3, 4.5]]}, "signature_name": ""},
    ],
)
def test_rows_and_columns_of_one_input_give_the_same_tensor(body):
    found = read(ONE, body)["x"]
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 2], [3, 4.5]]


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"age": 3, "name": "ann"}, {"age": 4, "name": {"b64": "AP8="}}]},
        {"inputs": {"age": [3, 4], "name": ["ann", {"b64": "AP8="}]}},
    ],
)
def test_several_inputs_are_cast_by_the_signature_and_bytes_come_as_base64(body):
    found = read(TWO, body)
    assert found["age"].dtype == np.int32
    assert found["age"].tolist() == [3, 4]
    assert found["name"].tolist() == [b"ann", b"\x00\xff"]


def test_text_alone_is_a_row_of_a_string_input():
    assert read(TEXT, {"instances": ["a", {"b64": "Yg=="}]})["t"].tolist() == [b"a", b"b"]
    assert read(TEXT, {"inputs": {"b64": "Yg=="}})["t"].tolist() == b"b"


def test_bare_nan_and_infinity_are_numbers_as_in_the_server():
    assert np.isnan(read(ONE, json.loads('{"instances": [[NaN, Infinity]]}'))["x"][0, 0])


@pytest.mark.parametrize(
    ("signatures", "api", "message"),
    [(CLASSIFY, Api.CLASSIFY, wire.ClassificationRequest), (REGRESS, Api.REGRESS, wire.RegressionRequest)],
)
def test_examples_become_an_input_for_a_classify_or_regress_signature(signatures, api, message):
    found, body = call_of(signatures, {"examples": [{"a": 1, "b": [1.5, 2.0]}, {"c": ["x", {"b64": "/w=="}], "d": []}]})
    first, second = message.FromString(body).input.example_list.examples
    features = [dict(example.features.feature) for example in (first, second)]
    assert found is api
    assert list(features[0]["a"].int64_list.value) == [1]
    assert list(features[0]["b"].float_list.value) == [1.5, 2.0]
    assert list(features[1]["c"].bytes_list.value) == [b"x", b"\xff"]
    assert features[1]["d"].WhichOneof("kind") is None


def test_a_context_is_shared_by_all_examples():
    _, body = call_of(CLASSIFY, {"context": {"user": 7}, "examples": [{"a": 1}]})
    message = wire.ClassificationRequest.FromString(body).input
    assert message.WhichOneof("kind") == "example_list_with_context"
    assert list(message.example_list_with_context.context.features.feature["user"].int64_list.value) == [7]


@pytest.mark.parametrize(
    ("signatures", "body", "says"),
    [
        (ONE, {}, "exactly one of the keys"),
        (ONE, {"instances": [], "inputs": []}, "exactly one of the keys"),
        (ONE, {"instances": []}, "at least one row"),
        (ONE, {"instances": 3}, "must be a list"),
        (ONE, {"instances": [[1, 2], [3]]}, "input 'x': lists of unequal length"),
        (ONE, {"instances": [["a", "b"]]}, "input 'x': must be float, found text"),
        (ONE, {"instances": [[None, 1]]}, "input 'x': must be float, found null"),
        (ONE, {"inputs": {"y": [[1, 2]]}}, "input 'x' is missing"),
        (ONE, {"instances": [[1, 2]], "signature_name": "other"}, "no signature 'other', only serving_default"),
        (ONE, {"instance": [[1, 2]]}, "unknown key 'instance'"),
        (TWO, {"instances": [{"age": 1}]}, r"instances\[0\]: input 'name' is missing"),
        (TWO, {"instances": [{"age": 1, "name": "a", "z": 1}]}, r"instances\[0\]: 'z' is no input"),
        (TWO, {"instances": [3]}, "must be an object with the keys age, name"),
        (TWO, {"inputs": [3]}, "must be an object with the keys age, name"),
        (TWO, {"inputs": {"age": [1.5], "name": ["a"]}}, "input 'age': must be int32, found fractions"),
        (TWO, {"inputs": {"age": [2**40], "name": ["a"]}}, "outside the range of int32"),
        (TWO, {"inputs": {"age": [1], "name": [3]}}, "input 'name': must be text"),
        (ONE, {"examples": [{"x": 1.0}]}, "'serving_default' is for Predict"),
        (CLASSIFY, {"examples": []}, "examples: must be a list with at least one object"),
        (CLASSIFY, {"examples": [3]}, r"examples\[0\]: must be an object"),
        (CLASSIFY, {"examples": [{"x": [1, 1.5]}]}, r"examples\[0\].x: values of different types"),
        (CLASSIFY, {"examples": [{"x": None}]}, r"examples\[0\].x: must be a number, text"),
        (CLASSIFY, {"examples": [{"x": 2**63}]}, r"examples\[0\].x: "),
        (CLASSIFY, {"examples": [{"x": {"b64": "%"}}]}, "not base64"),
        (TEXT, {"instances": [{"b64": "%%"}]}, "not base64"),
        (model(f=(BOOL, (-1,))), {"instances": [1]}, "must be bool"),
        (model(f=(UINT8, (-1,))), {"instances": [-1]}, "outside the range of uint8"),
    ],
)
def test_a_body_the_signature_does_not_take_is_refused_by_key(signatures, body, says):
    with pytest.raises(NotRestForm, match=says):
        call_of(signatures, body)


def test_a_file_gives_requests_and_names_each_bad_line(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"instances": [[1, 2]], "id": "a7", "truth": 1}\n{"instances": [[1\n\n'
        '{"instances": [[1, "x"]]}\n[]\n{"inputs": [[3, 4]]}\n'
    )
    first, torn, typed, listed, last = read_lines(path, ONE)
    assert isinstance(first, Request)
    assert (first.id, first.row, first.truth) == ("a7", 0, 1)
    assert isinstance(last, Request)
    assert (last.id, last.row, last.truth) == ("log.jsonl:6", 5, None)
    assert isinstance(torn, Malformed)
    assert str(torn).startswith("log.jsonl:2: not JSON")
    assert str(typed).startswith("log.jsonl:4: input 'x'")
    assert str(listed).startswith("log.jsonl:5: must be a JSON object")


def test_a_line_says_what_it_may_be_sliced_by(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"instances": [[1, 2]], "fields": {"country": "DE", "age": 30, "new": true}}\n'
        '{"instances": [[1, 2]], "fields": {"country": ["DE"]}}\n{"instances": [[1, 2]], "fields": "DE"}\n'
    )
    first, listed, text = read_lines(path, ONE)
    assert isinstance(first, Request)
    assert first.fields == {"country": "DE", "age": "30", "new": "true"}
    assert str(listed) == "log.jsonl:2: fields.country: must be text, a number, true or false"
    assert "fields: must be an object" in str(text)


def test_a_line_nested_without_end_is_a_bad_line_like_any_other(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"instances":' + "[" * 100_000 + '\n{"instances": [[1, 2]]}\n')
    deep, good = read_lines(path, ONE)
    assert isinstance(deep, Malformed)
    assert isinstance(good, Request)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"instances": [%s]}' % ("1" * 5000), "4300 digits"),
        ('{"instances": [1], "signature_name": {"a": 1}}', "no signature"),
        ('{"instances": [1], "signature_name": ["x"]}', "no signature"),
        ('{"instances": ["\\ud83d"]}', "surrogates"),
    ],
)
def test_what_python_makes_trouble_of_is_a_bad_line_too(tmp_path, line, says):
    (tmp_path / "odd.jsonl").write_text(f'{line}\n{{"instances": ["a"]}}\n')
    bad, good = read_lines(tmp_path / "odd.jsonl", TEXT)
    assert isinstance(bad, Malformed) and says in str(bad)
    assert isinstance(good, Request)


def test_half_a_character_is_an_id_and_a_truth_like_any_other(tmp_path):
    (tmp_path / "half.jsonl").write_text('{"instances": ["a"], "id": "q\\ud83d", "truth": "x\\ud83d"}\n')
    (request,) = read_lines(tmp_path / "half.jsonl", TEXT)
    assert request.key != key_of("q")


def test_an_example_takes_no_truth_value():
    with pytest.raises(NotRestForm, match="must be a number"):
        call_of(CLASSIFY, {"examples": [{"f": True}]})


def test_a_file_that_cannot_be_read_says_so_by_name(tmp_path):
    with pytest.raises(Unavailable, match=r"absent\.jsonl: cannot be read: No such file"):
        list(read_lines(tmp_path / "absent.jsonl", ONE))
