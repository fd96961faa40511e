"""Classify, Regress and MultiInference: signatures fed with serialized `tf.train.Example`s.

Source: servables/tensorflow/classifier.cc, regressor.cc, multi_inference.cc,
util.cc (InputToSerializedExampleTensor).
"""

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.protobuf import text_format

from haldane import wire
from haldane.sandbox import tensors
from haldane.sandbox.servable import Servable, StatusError

if TYPE_CHECKING:
    from haldane.sandbox.inference import Runner

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
_DEFAULT_SIGNATURE = "serving_default"
_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"


def _invalid(message: str) -> StatusError:
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _debug_string(signature: Any) -> str:
    # The prefix is protobuf's own: it marks text that programs must not parse.
    return "goo.gle/debugproto " + text_format.MessageToString(signature, as_utf8=False)


def serialized_examples(request_input: Any) -> tensors.Array:
    """The examples of an `Input`, each with the common context before it; string array of shape (n,)."""
    kind = request_input.WhichOneof("kind")
    examples = getattr(request_input, kind).examples if kind else ()
    if not examples:
        raise _invalid("Input is empty.")
    context = b""
    if kind == "example_list_with_context":
        context = request_input.example_list_with_context.context.SerializeToString()
    array = np.empty(len(examples), object)
    array[:] = [context + example.SerializeToString() for example in examples]
    return array


def _signature(servable: Servable, spec: Any, what: str, method: str, *, check_method: bool) -> Any:
    name = spec.signature_name or _DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise _invalid(f"No signature was found with the name: {name}")
    if check_method:
        _check_method(signature, what, method)
    return signature


def _check_method(signature: Any, what: str, method: str) -> None:
    if signature.method_name != method:
        raise _invalid(f"Expected {what} signature method_name to be {method}. Was: {signature.method_name}")


def _classification_tensors(signature: Any, *, check_method: bool) -> tuple[str, list[str]]:
    """Names of the input tensor and of the output tensors, classes first."""
    if check_method:
        _check_method(signature, "classification", CLASSIFY_METHOD)
    if len(signature.inputs) != 1:
        raise _invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise _invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if _INPUTS not in signature.inputs:
        raise _invalid("No classification inputs found in SignatureDef: " + _debug_string(signature))
    outputs = [signature.outputs[key].name for key in (_CLASSES, _SCORES) if key in signature.outputs]
    if not outputs:
        raise _invalid(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            "Signature was: " + _debug_string(signature)
        )
    return signature.inputs[_INPUTS].name, outputs


def _regression_tensors(signature: Any, *, check_method: bool) -> tuple[str, list[str]]:
    """Names of the input tensor and of the one output tensor."""
    if check_method:
        _check_method(signature, "regression", REGRESS_METHOD)
    if len(signature.inputs) != 1:
        raise _invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise _invalid("Expected one output Tensor.")
    if _INPUTS not in signature.inputs:
        raise _invalid("No regression inputs found in SignatureDef: " + _debug_string(signature))
    if _OUTPUTS not in signature.outputs:
        raise _invalid("No regression outputs found in SignatureDef: " + _debug_string(signature))
    return signature.inputs[_INPUTS].name, [signature.outputs[_OUTPUTS].name]


def _shape_text(array: tensors.Array) -> str:
    return "[" + ",".join(str(size) for size in array.shape) + "]"


def _type_text(array: tensors.Array) -> str:
    return "DT_" + tensors.TYPE_NAMES[tensors.type_number(array)].upper()


def _check_batch(array: tensors.Array, name: str, wanted_type: str, examples: int) -> None:
    if array.ndim != 2:
        raise _invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape_text(array)}")
    if _type_text(array) != wanted_type:
        raise _invalid(f"Expected {name} Tensor of {wanted_type}. Got: {_type_text(array)}")
    if array.shape[0] != examples:
        raise _invalid(f"Expected {name} output batch size of {examples}. Got: {array.shape[0]}")


def _fill_classification(signature: Any, values: dict[str, Any], examples: int, result: Any) -> None:
    classes, scores = (
        values[signature.outputs[key].name] if key in signature.outputs else None for key in (_CLASSES, _SCORES)
    )
    if classes is not None:
        _check_batch(classes, "classes", "DT_STRING", examples)
    if scores is not None:
        _check_batch(scores, "scores", "DT_FLOAT", examples)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise _invalid(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    width = next(array.shape[1] for array in (classes, scores) if array is not None)
    for row in range(examples):
        entry = result.classifications.add()
        for column in range(width):
            one = entry.classes.add()
            if classes is not None:
                one.label = classes[row, column].decode("utf-8", "replace")
            if scores is not None:
                one.score = float(scores[row, column])


def _fill_regression(signature: Any, values: dict[str, Any], examples: int, result: Any) -> None:
    output = values[signature.outputs[_OUTPUTS].name]
    if not (output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1)):
        raise _invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got " + _shape_text(output)
        )
    if output.shape[0] != examples:
        raise _invalid(f"Input batch size did not match output batch size: {examples} vs. {output.shape[0]}")
    if _type_text(output) != "DT_FLOAT":
        raise _invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_type_text(output)}")
    for value in output.ravel().tolist():
        result.regressions.add().value = value


def classify(runner: "Runner", servable: Servable, request: Any, version: int | None, timeout: float | None) -> Any:
    """ClassificationRequest -> ClassificationResponse on one servable."""
    spec, check = request.model_spec, runner.check_method_names
    signature = _signature(servable, spec, "classification", CLASSIFY_METHOD, check_method=check)
    feed, fetches = _classification_tensors(signature, check_method=check)
    examples = serialized_examples(request.input)
    values = runner.run(servable, {feed: examples}, fetches, timeout, model=spec.name, api="Classify")
    response = wire.ClassificationResponse()
    _fill_spec(response.model_spec, spec, version)
    response.result.SetInParent()
    _fill_classification(signature, values, len(examples), response.result)
    return response


def regress(runner: "Runner", servable: Servable, request: Any, version: int | None, timeout: float | None) -> Any:
    """RegressionRequest -> RegressionResponse on one servable."""
    spec, check = request.model_spec, runner.check_method_names
    signature = _signature(servable, spec, "regression", REGRESS_METHOD, check_method=check)
    feed, fetches = _regression_tensors(signature, check_method=check)
    examples = serialized_examples(request.input)
    values = runner.run(servable, {feed: examples}, fetches, timeout, model=spec.name, api="Regress")
    response = wire.RegressionResponse()
    _fill_spec(response.model_spec, spec, version)
    response.result.SetInParent()
    _fill_regression(signature, values, len(examples), response.result)
    return response


def _fill_spec(target: Any, spec: Any, version: int | None) -> None:
    target.name = spec.name
    target.signature_name = spec.signature_name or _DEFAULT_SIGNATURE
    if version is not None:
        target.version.value = version
        target.version.SetInParent()


def multi_inference(
    runner: "Runner", servable: Servable, request: Any, version: int | None, timeout: float | None
) -> Any:
    """MultiInferenceRequest -> MultiInferenceResponse on one servable, all tasks in one run."""
    feeds: set[str] = set()
    fetches: set[str] = set()
    signatures: dict[str, Any] = {}
    for task in request.tasks:
        name, signature = _task_signature(servable, request, task, signatures)
        find = _TENSORS_OF.get(task.method_name)
        if find is None:
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
        feed, outputs = find(signature, check_method=runner.check_method_names)
        signatures[name] = signature
        feeds.add(feed)
        fetches.update(outputs)
    examples = serialized_examples(request.input)
    model = request.tasks[0].model_spec.name
    values = runner.run(servable, dict.fromkeys(feeds, examples), sorted(fetches), timeout, model=model, api="")
    if runner.metrics is not None:
        runner.metrics.count_examples(model, len(examples))
    return _multi_response(request, signatures, values, len(examples), version)


_TENSORS_OF = {CLASSIFY_METHOD: _classification_tensors, REGRESS_METHOD: _regression_tensors}


def _task_signature(servable: Servable, request: Any, task: Any, seen: dict[str, Any]) -> tuple[str, Any]:
    spec = task.model_spec
    if not spec.name:
        raise _invalid("Found ModelSpec with an empty model name.")
    if spec.name != request.tasks[0].model_spec.name:
        raise _invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    name = spec.signature_name or _DEFAULT_SIGNATURE
    if name in seen:
        raise _invalid(f"Duplicate evaluation of signature: {name}")
    signature = servable.signatures.get(name)
    if signature is None:
        raise _invalid(f"Requested signature not found in model graph: {name}")
    return name, signature


def _multi_response(
    request: Any, signatures: dict[str, Any], values: dict[str, Any], examples: int, version: int | None
) -> Any:
    response = wire.MultiInferenceResponse()
    for task in request.tasks:
        result = response.results.add()
        signature = signatures[task.model_spec.signature_name or _DEFAULT_SIGNATURE]
        _fill_spec(result.model_spec, task.model_spec, version)
        if task.method_name == CLASSIFY_METHOD:
            result.classification_result.SetInParent()
            _fill_classification(signature, values, examples, result.classification_result)
        else:
            result.regression_result.SetInParent()
            _fill_regression(signature, values, examples, result.regression_result)
    return response
