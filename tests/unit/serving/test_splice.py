"""Choosing a version by appended bytes says the same as setting it in the message."""

import contextlib

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from haldane import wire
from haldane.domain.fleet import ModelName
from haldane.domain.traffic import Elsewhere
from haldane.serving import splice

REQUESTS = [wire.PredictRequest, wire.ClassificationRequest, wire.RegressionRequest, wire.GetModelMetadataRequest]


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("version", [0, 1, -3, 2**63 - 1, "stable", None])
def test_a_spliced_request_asks_for_that_model_and_version(kind, version):
    body = kind()
    body.model_spec.name = "old"
    body.model_spec.signature_name = "sig"
    spec = kind.FromString(splice.addressed(body.SerializeToString(), ModelName("m" * 200), version)).model_spec
    assert (spec.name, spec.signature_name) == ("m" * 200, "sig")
    named = spec.version.value if spec.HasField("version") else spec.version_label or None
    assert named == version


def test_a_version_under_another_name_is_asked_by_that_name():
    spec = wire.PredictRequest.FromString(splice.addressed(b"", ModelName("m"), Elsewhere("m_canary", 0))).model_spec
    assert (spec.name, spec.version.value, spec.HasField("version")) == ("m_canary", 0, True)


def test_a_label_takes_the_place_of_a_version_in_the_body_and_the_other_way_round():
    body = wire.PredictRequest()
    body.model_spec.version.value = 7
    spec = wire.PredictRequest.FromString(
        splice.addressed(body.SerializeToString(), ModelName("m"), "canary")
    ).model_spec
    assert spec.WhichOneof("version_choice") == "version_label"
    body.model_spec.version_label = "canary"
    spec = wire.PredictRequest.FromString(splice.addressed(body.SerializeToString(), ModelName("m"), 0)).model_spec
    assert spec.WhichOneof("version_choice") == "version"


@pytest.mark.parametrize(
    "answer",
    [wire.PredictResponse(), wire.ClassificationResponse(), wire.RegressionResponse()],
    ids=lambda a: a.DESCRIPTOR.name,
)
def test_the_version_is_read_from_each_kind_of_answer(answer):
    assert splice.answered_by(answer.SerializeToString()) is None
    answer.model_spec.name = "m"
    assert splice.answered_by(answer.SerializeToString()) is None
    answer.model_spec.version.value = 0
    assert splice.answered_by(answer.SerializeToString()) == 0
    answer.model_spec.version.value = 300
    assert splice.answered_by(answer.SerializeToString()) == 300


@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.sampled_from("yz"), st.sampled_from([b"", b"1", b"\x12\x04", b"\x0a\x0212"]), max_size=2
            ),
            st.sampled_from([None, 0, 1, 2, 300]),
            st.sampled_from(["", "m", "mm"]),
            st.sampled_from([b"", b"\x78\x01"]),  # an unknown field, before or behind
            st.booleans(),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_answers_of_many_layouts_one_after_the_other_each_name_their_own_version(answers):
    """What is remembered of one must not be said of another that only looks like it."""
    for outputs, version, name, unknown, before in answers:
        message = wire.PredictResponse()
        for key, content in outputs.items():
            message.outputs[key].tensor_content = content
        message.model_spec.name = name
        if version is not None:
            message.model_spec.version.value = version
        data = message.SerializeToString()
        assert splice.answered_by(unknown + data if before else data + unknown) == version


def test_an_output_that_ends_like_a_model_spec_is_none():
    other, own = wire.PredictResponse(), wire.PredictResponse()
    own.model_spec.version.value = 1
    other.outputs["y"].tensor_content = b"12345678" + own.SerializeToString()
    own.outputs["y"].tensor_content = b"12345678"
    own, other = own.SerializeToString(), other.SerializeToString()
    assert splice.answered_by(own) == 1
    assert len(own) == len(other)
    assert other.endswith(own[-6:])
    assert splice.answered_by(other) is None


def test_the_version_is_found_behind_and_before_tensors_and_unknown_fields():
    answer = wire.PredictResponse()
    answer.outputs["y"].float_val.extend([1.0] * 1000)
    answer.model_spec.version.value = 5
    unknown = b"\x78\x01" + b"\x7d\x00\x00\x00\x00" + b"\x79" + bytes(8)  # field 15 as varint, fixed32, fixed64
    data = answer.SerializeToString()
    assert splice.answered_by(unknown + data) == splice.answered_by(data + unknown) == 5


@given(st.binary(max_size=60))
def test_any_bytes_give_a_version_or_none_or_a_decode_error(data):
    with contextlib.suppress(DecodeError):
        assert splice.answered_by(data) is None or isinstance(splice.answered_by(data), int)


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x80", b"\x0b", b"\x12\x02\x12"])
def test_a_cut_answer_is_a_decode_error(data):
    with pytest.raises(DecodeError):
        splice.answered_by(data)
