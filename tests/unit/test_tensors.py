import numpy as np
import pytest

from haldane import wire
from haldane.tensors import UnsupportedType, decode, difference, encode, predict_body, signatures

FLOAT, STRING, BFLOAT16, RESOURCE = 1, 7, 14, 20


@pytest.mark.parametrize(
    ("dtype", "array"),
    [
        (1, np.array([[1.5, -2.0]], np.float32)),
        (2, np.array(3.25)),
        (3, np.array([-7], np.int32)),
        (4, np.array([255], np.uint8)),
        (9, np.array([[2**60]])),
        (10, np.array([True, False])),
        (14, np.array([1.0, -0.5, 256.0], np.float32)),  # exact in bfloat16
        (19, np.array([0.5], np.float16)),
        (23, np.array([2**64 - 1], np.uint64)),
        (1, np.zeros((0, 3), np.float32)),
    ],
)
def test_an_array_comes_back_as_it_was(dtype, array):
    found = decode(encode(array, dtype))
    assert found.shape == array.shape
    assert found.dtype == array.dtype
    assert (found == array).all()


def test_strings_are_bytes_of_any_shape():
    array = np.empty((2, 1), object)
    array[:] = [[b"a"], [b"\xff"]]
    assert decode(encode(array, STRING)).tolist() == [[b"a"], [b"\xff"]]


def test_a_type_without_an_array_form_is_refused_by_number():
    with pytest.raises(UnsupportedType, match="tensor type number 20"):
        decode(wire.TensorProto(dtype=RESOURCE))
    with pytest.raises(UnsupportedType, match="tensor type number 0"):
        decode(wire.TensorProto())


def test_content_of_the_wrong_size_is_an_error():
    proto = wire.TensorProto(dtype=FLOAT, tensor_content=b"\0" * 8)
    proto.tensor_shape.dim.add(size=3)
    with pytest.raises(ValueError, match="reshape"):
        decode(proto)


def test_signatures_list_tensors_by_key_and_leave_tensorflows_own_out():
    definitions = wire.SignatureDefMap().signature_def
    definition = definitions["serving_default"]
    definition.method_name = "tensorflow/serving/predict"
    definition.inputs["x"].dtype = FLOAT
    definition.inputs["x"].tensor_shape.dim.add(size=-1)
    definition.inputs["x"].tensor_shape.dim.add(size=3)
    definition.inputs["any"].dtype = RESOURCE
    definition.inputs["any"].tensor_shape.unknown_rank = True
    definition.outputs["y"].dtype = FLOAT
    definitions["__saved_model_init_op"].outputs["noop"].dtype = FLOAT
    (found,) = signatures(definitions).values()
    assert found.inputs["x"].shape == (-1, 3)
    assert found.inputs["any"].shape is None
    assert found.inputs["any"].type_name == "type 20"
    assert found.only_input is None
    assert list(found.outputs) == ["y"]


def test_a_predict_body_names_its_signature_and_no_model():
    request = wire.PredictRequest.FromString(predict_body("scores", {"x": encode(np.ones(2, np.float32), FLOAT)}))
    assert request.model_spec == wire.ModelSpec(signature_name="scores")
    assert decode(request.inputs["x"]).tolist() == [1, 1]


def an_answer(**outputs):
    response = wire.PredictResponse()
    for name, (values, dtype) in outputs.items():
        response.outputs[name].CopyFrom(encode(np.asarray(values), dtype))
    return response.SerializeToString()


SCORES = an_answer(score=(np.array([[1.0, -200.0]], np.float32), 1), label=(np.array([b"good"], object), 7))


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (SCORES, ""),
        # A thousandth of the largest is another kernel's rounding; more is another model.
        (an_answer(score=(np.array([[1.1, -200.1]], np.float32), 1), label=(np.array([b"good"], object), 7)), ""),
        (
            an_answer(score=(np.array([[1.3, -200.0]], np.float32), 1), label=(np.array([b"good"], object), 7)),
            "score: 1.3 at [0, 0], was 1",
        ),
        (
            an_answer(score=(np.array([[np.nan, -200.0]], np.float32), 1), label=(np.array([b"good"], object), 7)),
            "score: nan at [0, 0], was 1",
        ),
        (
            an_answer(score=(np.array([[1.0, -200.0]], np.float32), 1), label=(np.array([b"bad"], object), 7)),
            "label: b'bad' at [0], was b'good'",
        ),
        (
            an_answer(score=(np.array([1.0, -200.0], np.float32), 1), label=(np.array([b"good"], object), 7)),
            "score: float32 of shape (2,), was float32 of shape (1, 2)",
        ),
        (an_answer(score=(np.array([[1.0, -200.0]], np.float32), 1)), "its outputs are score, were label, score"),
        (b"", "its outputs are none, were label, score"),
        (b"\xff", "it cannot be read"),
    ],
    ids=["same", "rounding", "other number", "nan", "other word", "other shape", "one missing", "empty", "unreadable"],
)
def test_two_answers_are_the_same_up_to_rounding(now, said):
    found = difference(now, SCORES)
    assert found == said or (said == "it cannot be read" and found.startswith(said)), found


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_in_the_record_says_nothing_of_the_others(odd):
    then = an_answer(score=(np.array([odd, 1.0], np.float32), 1))
    assert difference(an_answer(score=(np.array([odd, 1.0001], np.float32), 1)), then) == ""
    assert difference(an_answer(score=(np.array([odd, 2.0], np.float32), 1)), then).startswith("score: 2 at [1]")
    assert difference(an_answer(score=(np.array([0.0, 1.0], np.float32), 1)), then).startswith("score: 0 at [0]")


def test_scalars_and_empty_outputs_are_compared_too():
    scalar, empty = an_answer(n=(np.int64(4), 9)), an_answer(n=(np.zeros((0, 3), np.float32), 1))
    assert difference(scalar, scalar) == difference(empty, empty) == ""
    assert difference(an_answer(n=(np.int64(5), 9)), scalar) == "n: 5 at [0], was 4"
