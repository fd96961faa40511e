"""What a recording may hold of a request."""

import hashlib
import hmac
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haldane import wire
from haldane.domain.traffic import Api
from haldane.serving.redact import Redaction
from haldane.tensors import STRING, decode, encode

KEY = b"a key of some length"


def redaction(drop: str = "", hashed: str = "") -> Redaction:
    return Redaction(frozenset(drop.split()), frozenset(hashed.split()), KEY)


def predict(**inputs: Any) -> Any:
    request = wire.PredictRequest()
    for name, (values, dtype) in inputs.items():
        request.inputs[name].CopyFrom(encode(np.array(values, object if dtype == STRING else None), dtype))
    return request


def example(**features: Any) -> Any:
    made = wire.Example()
    for name, value in features.items():
        kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(value)]
        getattr(made.features.feature[name], kind).value.append(value)
    return made


def digest(value: bytes) -> bytes:
    return hmac.new(KEY, value, hashlib.sha256).digest()


def test_a_dropped_input_is_gone_and_the_others_stay_as_they_were():
    request = predict(name=([b"Ada"], STRING), age=(np.array([41], np.float32), 1))
    kept = request.inputs["age"].SerializeToString()
    assert redaction(drop="name").apply(Api.PREDICT, request) == {"name"}
    assert set(request.inputs) == {"age"}
    assert request.inputs["age"].SerializeToString() == kept


def test_text_is_hashed_as_the_manual_says():
    request = predict(name=([b"Ada", b"Bo", b"Ada"], STRING))
    redaction(hashed="name").apply(Api.PREDICT, request)
    values = list(request.inputs["name"].string_val)
    assert values == [digest(name)[:16].hex().encode() for name in (b"Ada", b"Bo", b"Ada")]


@pytest.mark.parametrize(("dtype", "numpy", "bits"), [(3, "<i4", 31), (9, "<i8", 63), (22, "<u4", 32), (23, "<u8", 64)])
@pytest.mark.parametrize("packed", [True, False])
def test_whole_numbers_become_others_of_their_type(dtype, numpy, bits, packed):
    request = predict(id=(np.array([4711, 12, 4711], numpy), dtype))
    tensor = request.inputs["id"]
    if not packed:
        field = {3: "int_val", 9: "int64_val", 22: "uint32_val", 23: "uint64_val"}[dtype]
        tensor.ClearField("tensor_content")
        getattr(tensor, field).extend([4711, 12, 4711])
    redaction(hashed="id").apply(Api.PREDICT, request)
    expected = [int.from_bytes(digest(text)[:8], "big") >> (64 - bits) for text in (b"4711", b"12", b"4711")]
    assert decode(tensor).tolist() == expected


@pytest.mark.parametrize(("values", "dtype"), [([0.5], 1), ([True], 10), ([7], 4), ([1.0], 19)])
def test_what_has_no_hash_is_left_out_and_never_written_as_it_was(values, dtype):
    request = predict(income=(np.array(values), dtype), age=(np.array([1.0], np.float32), 1))
    assert redaction(hashed="income").apply(Api.PREDICT, request) == {"income"}
    assert set(request.inputs) == {"age"}


def test_a_shape_that_claims_more_than_the_message_holds_fills_no_memory():
    request = predict(id=(np.array([5], np.int64), 9))
    request.inputs["id"].tensor_shape.dim[0].size = 2**40
    redaction(hashed="id").apply(Api.PREDICT, request)
    assert len(request.inputs["id"].tensor_content) == 8


@pytest.mark.parametrize(
    ("api", "message"), [(Api.CLASSIFY, wire.ClassificationRequest), (Api.REGRESS, wire.RegressionRequest)]
)
def test_features_of_examples_and_of_their_context_are_fields(api, message):
    request = message()
    listed = request.input.example_list_with_context
    listed.context.CopyFrom(example(user=b"Ada", day=3))
    listed.examples.extend([example(name=b"Ada", age=41.0), example(name=b"Bo", age=29.0)])
    assert redaction(drop="name", hashed="user").apply(api, request) == {"name", "user"}
    assert [set(one.features.feature) for one in listed.examples] == [{"age"}, {"age"}]
    assert list(listed.context.features.feature["user"].bytes_list.value) == [digest(b"Ada")[:16].hex().encode()]
    assert listed.context.features.feature["day"].int64_list.value == [3]


def test_examples_that_a_predict_input_holds_serialized_are_looked_into():
    inside = example(name=b"Ada", age=41.0)
    request = predict(examples=([inside.SerializeToString(), b"no example", b""], STRING))
    assert redaction(drop="name").apply(Api.PREDICT, request) == {"name"}
    first, second, third = request.inputs["examples"].string_val
    assert wire.Example.FromString(first) == example(age=41.0)
    assert (second, third) == (b"no example", b"")


def test_what_no_field_holds_is_not_kept_when_anything_is_redacted():
    request = wire.PredictRequest.FromString(predict(age=([1.0], 1)).SerializeToString() + b"\xfa\x07\x03Ada")
    assert b"Ada" in request.SerializeToString()
    redaction(drop="name").apply(Api.PREDICT, request)
    assert b"Ada" not in request.SerializeToString()


def test_without_names_nothing_is_touched():
    request = predict(name=([b"Ada"], STRING))
    before = request.SerializeToString()
    assert Redaction().apply(Api.PREDICT, request) == frozenset()
    assert request.SerializeToString() == before


NAMES = st.sampled_from(["name", "id", "age", "other"])
SECRETS = st.binary(min_size=8, max_size=20)


@given(
    st.dictionaries(NAMES, st.lists(SECRETS, min_size=1, max_size=3), max_size=4),
    st.dictionaries(NAMES, SECRETS, max_size=4),
    st.sampled_from([Api.PREDICT, Api.CLASSIFY]),
)
def test_no_value_of_a_named_field_is_left_wherever_it_stands(inputs, features, api):
    inside = example(**features)
    if api is Api.PREDICT:
        request = predict(**{name: (values, STRING) for name, values in inputs.items()})
        request.inputs["examples"].CopyFrom(encode(np.array([inside.SerializeToString()], object), STRING))
    else:
        request = wire.ClassificationRequest()
        request.input.example_list.examples.append(inside)
        inputs = {}
    redaction(drop="name", hashed="id age").apply(api, request)
    left = request.SerializeToString()
    kept = [*inputs.get("other", []), *([features["other"]] if "other" in features else [])]
    gone = [one for name in ("name", "id", "age") for one in inputs.get(name, [])]
    gone += [features[name] for name in ("name", "id", "age") if name in features]
    assert not [secret for secret in gone if secret in left and not any(secret in one for one in kept)]
    assert all(one in left for one in kept)
