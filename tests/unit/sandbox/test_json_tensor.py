"""JSON bodies in and out, with the real server's texts."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haldane import wire
from haldane.sandbox import json_examples, json_read, json_write, tensors
from haldane.sandbox.json_predictions import predict_body
from haldane.sandbox.json_tensor import Format, base64_unescape, fill_predict_request
from haldane.sandbox.servable import StatusError

FLOAT, DOUBLE, INT32, STRING, INT64, BOOL, HALF, UINT64 = 1, 2, 3, 7, 9, 10, 19, 23


def _infos(**types: int) -> Mapping[str, Any]:
    signature = wire.SignatureDef()
    for name, number in types.items():
        signature.inputs[name].dtype = number
    infos: Mapping[str, Any] = signature.inputs
    return infos


def _read(body: str | bytes, **types: int) -> tuple[Format, dict[str, Any]]:
    request = wire.PredictRequest()
    data = body.encode() if isinstance(body, str) else body
    layout = fill_predict_request(data, request, lambda _: _infos(**types))
    return layout, {name: tensors.decode(proto) for name, proto in request.inputs.items()}


def _refusal(body: str | bytes, **types: int) -> str:
    with pytest.raises(StatusError) as caught:
        _read(body, **types)
    return caught.value.message


def test_rows_become_one_tensor_with_a_batch_dimension() -> None:
    layout, inputs = _read('{"instances": [[1, 2.5], [3, 4]]}', x=FLOAT)
    assert layout is Format.ROW
    assert inputs["x"].dtype == np.float32
    assert inputs["x"].tolist() == [[1.0, 2.5], [3.0, 4.0]]


def test_columns_take_any_shape_and_ignore_names_they_do_not_know() -> None:
    layout, inputs = _read('{"inputs": {"a": [[1], [2]], "b": 7, "spare": []}}', a=INT64, b=INT32)
    assert layout is Format.COLUMN
    assert inputs["a"].shape == (2, 1)
    assert inputs["b"].shape == ()


def test_row_objects_must_name_exactly_the_inputs() -> None:
    text = _refusal('{"instances": [{"a": 1}]}', a=INT64, b=INT64)
    assert text == (
        "Failed to process element: 0 of 'instances' list. JSON object: {\n    \"a\": 1\n} keys must be equal to: a,b"
    )


def test_ragged_rows_are_refused_with_both_shapes() -> None:
    assert _refusal('{"instances": [[1, 2], [3, 4, 5]]}', x=FLOAT).endswith(
        "Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 3"
    )
    assert _refusal('{"instances": [[[1, 2], [3]]]}', x=FLOAT).endswith(
        "Error: INVALID_ARGUMENT: Encountered list at unexpected size: 1 at level: 1 expected size: 2"
    )
    assert _refusal('{"inputs": [1, [2]]}', x=FLOAT) == "Encountered list at unexpected level: 1 expected < 1"
    assert _refusal('{"inputs": [[1], 2]}', x=FLOAT) == (
        "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"
    )


def test_plain_rows_and_objects_do_not_mix() -> None:
    assert _refusal('{"instances": [{"x": 1}, 2]}', x=FLOAT) == (
        "Expecting object but got list at item 1 of input list"
    )
    assert _refusal('{"instances": [1, {"x": 2}]}', x=FLOAT) == (
        "Expecting value/list but got object at item 1 of input list"
    )


@pytest.mark.parametrize(
    ("value", "number", "kind", "name"),
    [
        ("2147483648", INT32, "Number", "int32"),
        ("1.0", INT64, "Number", "int64"),
        ("true", FLOAT, "True", "float"),
        ("null", DOUBLE, "Null", "double"),
        ("1", BOOL, "Number", "bool"),
        ("-1", UINT64, "Number", "uint64"),
        ('"a"', FLOAT, "String", "float"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(value: str, number: int, kind: str, name: str) -> None:
    text = _refusal(f'{{"inputs": {value}}}', x=number)
    assert text == f"JSON Value: {value} Type: {kind} is not of expected type: {name}"


def test_half_cannot_be_read_and_cannot_be_written() -> None:
    with pytest.raises(StatusError) as caught:
        _read('{"inputs": [0.5]}', x=HALF)
    assert caught.value.code.name == "UNIMPLEMENTED"
    assert caught.value.message == "Conversion of JSON Value: 0.5 to type: half"
    with pytest.raises(StatusError) as caught:
        predict_body({"y": tensors.encode(np.array([0.5], np.float16))}, Format.COLUMN)
    assert caught.value.message == "Failed to write JSON value for tensor type: half"


def test_bytes_travel_as_base64_objects_by_the_suffix_of_the_name() -> None:
    _, inputs = _read('{"instances": [{"b64": "/wD+"}, "a"]}', x=STRING)
    assert inputs["x"].tolist() == [b"\xff\x00\xfe", b"a"]
    outputs = {"y_bytes": tensors.encode(inputs["x"][:1])}
    assert predict_body(outputs, Format.COLUMN) == (
        b'{\n    "outputs": [\n        {\n            "b64": "/wD+"\n        }\n    ]\n}'
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"YQ==", b"a"), (b"YQ", b"a"), (b"YQ=", None), (b"Y", None), (b"Y Q\n", b"a"), (b"Y-_", None), (b"", b"")],
)
def test_base64_padding_is_all_there_or_all_missing(text: bytes, value: bytes | None) -> None:
    assert base64_unescape(text) == value


def test_a_scalar_output_has_no_rows() -> None:
    with pytest.raises(StatusError) as caught:
        predict_body({"y": tensors.encode(np.array(1.0, np.float32))}, Format.ROW)
    assert caught.value.message == "Tensor name: y has no shape information "


def test_outputs_of_unequal_batches_have_no_rows_but_columns() -> None:
    outputs = {"y": tensors.encode(np.zeros(2, np.int64)), "z": tensors.encode(np.zeros(3, np.int64))}
    with pytest.raises(StatusError) as caught:
        predict_body(outputs, Format.ROW)
    assert "has inconsistent batch size: 2 expecting: 3" in caught.value.message
    assert predict_body(outputs, Format.COLUMN).startswith(b'{\n    "outputs": {\n')


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (20.0, b"20.0"),
        (0.1, b"0.1"),
        (1e6, b"1e+06"),
        (2469135872.0, b"2.46913587e+09"),
        (-0.0, b"-0.0"),
        (math.nan, b"NaN"),
        (-math.inf, b"-Infinity"),
    ],
)
def test_floats_have_six_digits_where_that_is_enough(value: float, text: bytes) -> None:
    assert json_write.decimal(float(np.float32(value)), double=False) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_survives_both_ways_of_writing(value: float) -> None:
    assert float(json_write.decimal(value, double=True)) == value
    assert float(json_write.shortest(value)) == value


@pytest.mark.parametrize(
    ("value", "text"), [(1e30, b"1e30"), (1.5e-7, b"1.5e-7"), (1e21, b"1e21"), (1e20, b"100000000000000000000.0")]
)
def test_quoted_documents_write_doubles_as_rapidjson_does(value: float, text: bytes) -> None:
    assert json_write.shortest(value) == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b" ", "The document is empty. at offset: 1"),
        (b"\xef\xbb\xbf{", "Missing a name for object member. at offset: 4"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a":1 "b"', "Missing a comma or } after an object member. at offset: 7"),
        (b"[1 2]", "Missing a comma or ] after an array element. at offset: 3"),
        (b"[nul]", "Invalid value. at offset: 4"),
        (b"[Nax]", "Invalid value. at offset: 3"),
        (b"[-Infinit]", "Invalid value. at offset: 9"),
        (b"[-]", "Invalid value. at offset: 2"),
        (b"[01]", "Missing a comma or ] after an array element. at offset: 2"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e]", "Miss exponent in number. at offset: 3"),
        (b"[1e999]", "Number too big to be stored in double. at offset: 1"),
        (b'["a', "Missing a closing quotation mark in string. at offset: 3"),
        (b'["\\x"]', "Invalid escape character in string. at offset: 2"),
        (b'["\\ud800"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["\x01"]', "Invalid encoding in string. at offset: 2"),
    ],
)
def test_parse_errors_are_rapidjsons(data: bytes, message: str) -> None:
    with pytest.raises(json_read.JsonError) as caught:
        json_read.read(data)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "data", [b"[Inf, -Inf, NaN, Infinity]", b'["\xff\xfe"]', b"[1] tail", b'["\\ud83d\\ude00"]', b"\xef\xbb\xbf[1]"]
)
def test_what_python_refuses_is_read_all_the_same(data: bytes) -> None:
    assert isinstance(json_read.read(data), list)


def test_numbers_are_integers_only_within_64_bits() -> None:
    values = json_read.read(b"[-9223372036854775808, 18446744073709551615, 18446744073709551616, -0, 1.0]")
    assert [type(value) for value in values] == [int, int, float, int, float]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_are_read_to_within_a_few_units_in_the_last_place(value: float) -> None:
    (read,) = json_read.read(repr([value]).encode())
    assert math.isclose(read, value, rel_tol=1e-15, abs_tol=5e-323)


def test_a_name_repeated_within_a_row_counts_once() -> None:
    assert _read('{"instances": [{"x": 1, "x": 2}]}', x=INT64)[1]["x"].tolist() == [1]


def test_of_repeated_members_the_first_counts() -> None:
    assert _read('{"inputs": 1, "inputs": 2}', x=INT64)[1]["x"] == 1


def test_deep_nesting_is_refused_not_fatal() -> None:
    assert "at offset" in _refusal(b'{"inputs": ' + b"[" * 100_000, x=FLOAT)


def test_examples_take_bare_values_lists_and_a_context() -> None:
    request = wire.ClassificationRequest()
    body = b'{"context": {"c": "s"}, "examples": [{"x": 1.5, "n": [1, true], "b": {"b64": "YQ=="}}]}'
    json_examples.fill_examples_request(body, request)
    example = request.input.example_list_with_context.examples[0].features.feature
    assert list(example["x"].float_list.value) == [1.5]
    assert list(example["n"].int64_list.value) == [1, 1]
    assert list(example["b"].bytes_list.value) == [b"a"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"examples": [{"x": [1, "a"]}]}', "Unexpected element type in feature: x expecting type: int64"),
        (b'{"examples": [{"x": null}]}', "Feature: x has element with unexpected JSON type: Null"),
        (b'{"examples": [{"x": [[1]]}]}', "Feature: x has element with unexpected JSON type: Array"),
        (
            b'{"examples": [{"x": 9223372036854775808}]}',
            "Feature: x has uint64 element. Only int64 is supported.",
        ),
    ],
)
def test_features_have_one_kind(body: bytes, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        json_examples.fill_examples_request(body, wire.RegressionRequest())
    assert caught.value.message == message
