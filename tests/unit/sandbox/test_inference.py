"""PredictionService on the toy executor: what is checked, in which words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.sandbox.one_model import OneModel

from haldane import wire
from haldane.sandbox import tensors, toy
from haldane.sandbox.inference import Inference, Runner
from haldane.sandbox.metrics import Metrics
from haldane.sandbox.servable import StatusError


def _inference(tmp_path: Path, recipe: str, **options: Any) -> Inference:
    toy.write(tmp_path / "2", recipe, k=10.0)
    metrics = Metrics()
    servable = toy.ToyExecutor(metrics).load("toy", str(tmp_path / "2"))
    return Inference(OneModel("toy", servable), Runner(metrics, **options))


def _request(inputs: Mapping[str, Any], **spec: Any) -> Any:
    request = wire.PredictRequest()
    request.model_spec.name = "toy"
    for name, value in spec.items():
        setattr(request.model_spec, name, value)
    for name, values in inputs.items():
        tensors.encode(np.asarray(values, np.float32), request.inputs[name])
    return request


def _refusal(inference: Inference, request: Any) -> StatusError:
    with pytest.raises(StatusError) as caught:
        inference.predict(request)
    return caught.value


def test_the_answer_names_the_version_and_the_signature_and_never_the_label(tmp_path: Path) -> None:
    response = _inference(tmp_path, "affine").predict(_request({"x": [1, 2]}, version_label="stable"))
    assert list(response.outputs["y"].float_val) == [10, 20]
    assert response.model_spec == wire.ModelSpec(name="toy", version={"value": 2}, signature_name="serving_default")


def test_outputs_go_to_tensor_content_when_asked(tmp_path: Path) -> None:
    response = _inference(tmp_path, "affine", tensor_content=True).predict(_request({"x": [1]}))
    assert response.outputs["y"].tensor_content == np.float32(10).tobytes()


def test_a_request_without_model_spec_is_refused(tmp_path: Path) -> None:
    assert _refusal(_inference(tmp_path, "affine"), wire.PredictRequest()).message == "Missing ModelSpec"


def test_an_unknown_signature_is_a_failed_precondition(tmp_path: Path) -> None:
    failure = _refusal(_inference(tmp_path, "affine"), _request({"x": [1]}, signature_name="zzz"))
    assert (failure.code.name, failure.message) == ("FAILED_PRECONDITION", 'Serving signature key "zzz" not found.')


def test_missing_extra_and_misnamed_inputs_are_told_apart(tmp_path: Path) -> None:
    inference = _inference(tmp_path, "two_inputs")
    assert _refusal(inference, _request({"a": [1]})).message == (
        "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: {b}."
    )
    assert _refusal(inference, _request({"a": [1], "q": [1]})).message.startswith("Signature input alias: b(feed name:")


def test_a_default_of_the_signature_fills_a_missing_input(tmp_path: Path) -> None:
    toy.write(tmp_path / "2", "two_inputs", k=10.0)
    servable = toy.ToyExecutor(Metrics()).load("toy", str(tmp_path / "2"))
    tensors.encode(np.asarray([4], np.float32), servable.signatures["serving_default"].defaults["b"])
    inference = Inference(OneModel("toy", servable), Runner())
    assert list(inference.predict(_request({"a": [1]})).outputs["y"].float_val) == [41]
    failure = _refusal(inference, _request({"a": [1], "q": [1]}))
    assert failure.message == "Inputs contains invalid name. Used request inputs: a, request input: a,q"


def test_the_output_filter_keeps_order_and_refuses_unknown_and_repeated_names(tmp_path: Path) -> None:
    inference = _inference(tmp_path, "two_outputs")
    request = _request({"x": [1]})
    request.output_filter.append("z")
    assert list(inference.predict(request).outputs) == ["z"]
    request.output_filter.append("z")
    assert _refusal(inference, request).message == "duplicate output tensor alias: z"
    request.output_filter[1] = "nope"
    assert _refusal(inference, request).message == (
        "output tensor alias not found in signature: nope Outputs expected to be in the set {y,z}."
    )


def test_metadata_fields_are_checked_before_the_model(tmp_path: Path) -> None:
    inference = _inference(tmp_path, "affine")
    request = wire.GetModelMetadataRequest(model_spec={"name": "nope"}, metadata_field=["signature_def", "zzz"])
    with pytest.raises(StatusError, match="Metadata field zzz is not supported"):
        inference.get_model_metadata(request)


def test_metadata_names_the_version_but_no_signature(tmp_path: Path) -> None:
    request = wire.GetModelMetadataRequest(model_spec={"name": "toy"}, metadata_field=["signature_def"])
    response = _inference(tmp_path, "affine").get_model_metadata(request)
    assert response.model_spec == wire.ModelSpec(name="toy", version={"value": 2})
    signatures = wire.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert "x" in signatures.signature_def["serving_default"].inputs


def test_classify_refuses_a_predict_signature_and_quotes_it(tmp_path: Path) -> None:
    request = wire.ClassificationRequest(model_spec={"name": "toy"}, input={"example_list": {"examples": [{}]}})
    with pytest.raises(StatusError, match="No classification inputs found in SignatureDef: ") as caught:
        _inference(tmp_path, "affine").classify(request)
    assert 'key: "x"' in caught.value.message


def test_the_tasks_of_one_multi_inference_ask_one_model_once_per_signature(tmp_path: Path) -> None:
    inference = _inference(tmp_path, "affine")
    task = {"model_spec": {"name": "toy"}, "method_name": "tensorflow/serving/predict"}
    with pytest.raises(StatusError, match="Unsupported signature method_name: tensorflow/serving/predict"):
        inference.multi_inference(wire.MultiInferenceRequest(tasks=[task]))
    with pytest.raises(StatusError, match=r"Latest\(\)"):
        inference.multi_inference(wire.MultiInferenceRequest())


def _proto(number: int, shape: list[int], **fields: Any) -> Any:
    return wire.TensorProto(dtype=number, tensor_shape={"dim": [{"size": size} for size in shape]}, **fields)


def test_too_few_values_are_filled_up_too_many_are_cut_and_none_are_zeros() -> None:
    assert tensors.decode(_proto(1, [3], float_val=[1, 2])).tolist() == [1, 2, 2]
    assert tensors.decode(_proto(1, [1], float_val=[1, 2])).tolist() == [1]
    assert tensors.decode(_proto(1, [2], int_val=[7])).tolist() == [0, 0]
    assert tensors.decode(_proto(7, [2], string_val=[b"a"])).tolist() == [b"a", b"a"]
    assert tensors.decode(_proto(6, [2], int_val=[300, -1])).tolist() == [44, -1]


@pytest.mark.parametrize(
    "proto",
    [
        wire.TensorProto(),
        _proto(1, [-1], float_val=[1]),
        _proto(1, [2], tensor_content=b"1234"),
        _proto(1, [2**40, 2**40]),
        _proto(7, [2], tensor_content=b"\x01\x05a"),
    ],
)
def test_what_is_no_tensor_is_refused(proto: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        tensors.decode(proto)


@pytest.mark.parametrize("number", sorted(tensors.DTYPES))
@pytest.mark.parametrize("as_content", [False, True])
def test_every_type_survives_both_ways_of_carrying_it(number: int, as_content: bool) -> None:
    dtype = tensors.DTYPES[number]
    array = np.zeros((2, 2), dtype)
    if number == tensors.DT_STRING:
        array[:] = [[b"a", b""], [b"\xff", b"long" * 100]]
    else:
        array.view(np.uint8 if dtype.kind == "b" else "u1").ravel()[::4] = 1
    proto = wire.TensorProto.FromString(tensors.encode(array, as_content=as_content).SerializeToString())
    decoded = tensors.decode(proto)
    assert decoded.dtype == dtype
    assert decoded.tolist() == array.tolist()


def test_a_toy_refuses_what_is_no_float_and_what_does_not_fit_as_tensorflow_does(tmp_path: Path) -> None:
    inference = _inference(tmp_path, "two_inputs")
    request = _request({"a": [1, 2], "b": [1, 2, 3]})
    assert _refusal(inference, request).message == "Incompatible shapes: [2] vs. [3]"
    request.inputs["b"].CopyFrom(tensors.encode(np.asarray([1, 2], np.float64)))
    assert _refusal(inference, request).message == "Expects arg[1] to be float but double is provided"
