"""REST bodies of classify and regress: `tf.train.Example`s in JSON, and their results.

Source: util/json_tensor.cc (FillClassifyRegressRequestFromJson, MakeJsonFrom...Result).
"""

from typing import Any

import numpy as np

from haldane.sandbox import json_write
from haldane.sandbox.json_read import MISSING, Object
from haldane.sandbox.json_tensor import (
    decoded,
    document,
    fill_signature,
    format_error,
    invalid,
    is_base64,
    json_type,
)

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def fill_examples_request(body: bytes, request: Any) -> None:
    """Fill signature and input of a ClassificationRequest or RegressionRequest."""
    parsed = document(body)
    fill_signature(parsed, request)
    context, examples = parsed.find(b"context"), parsed.find(b"examples")
    target = request.input.example_list
    if context is not MISSING:
        target = request.input.example_list_with_context
        target.SetInParent()
        _fill_example(context, target.context)
    if examples is MISSING:
        raise format_error(parsed, "When method is classify, key 'examples' is expected and was not found")
    if not isinstance(examples, list):
        raise format_error(parsed, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise format_error(parsed, "'examples' value is an empty array")
    for example in examples:
        _fill_example(example, target.examples.add())


def _fill_example(value: Any, example: Any) -> None:
    if not isinstance(value, Object):
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")
    for key, content in value.members:
        name = key.decode("utf-8", "replace")
        feature = example.features.feature[name]
        feature.Clear()
        for item in content if isinstance(content, list) else [content]:
            _add_value(item, name, feature)
    if value.members:
        example.features.SetInParent()


def _add_value(value: Any, name: str, feature: Any) -> None:
    if value is None or isinstance(value, list) or (isinstance(value, Object) and not is_base64(value)):
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")
    if isinstance(value, bytes | Object):
        _of_kind(feature, "bytes_list", name).append(decoded(value) if isinstance(value, Object) else value)
    elif isinstance(value, float):
        with np.errstate(over="ignore"):
            _of_kind(feature, "float_list", name).append(float(np.float32(value)))
    else:
        values = _of_kind(feature, "int64_list", name)
        if value >= 2**63:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        values.append(int(value))


def _of_kind(feature: Any, kind: str, name: str) -> Any:
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[present]}")
    return getattr(feature, kind).value


def classification_body(result: Any) -> bytes:
    """The JSON body of a ClassificationResult."""
    if not result.classifications:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    writer = _results()
    for classifications in result.classifications:
        writer.single_line_arrays = True
        writer.start(array=True)
        for one in classifications.classes:
            writer.start(array=True)
            writer.raw(json_write.string(one.label.encode()))
            writer.raw(json_write.decimal(one.score, double=False))
            writer.end()
        writer.end()
        writer.single_line_arrays = False
    writer.end()
    writer.end()
    return writer.text()


def regression_body(result: Any) -> bytes:
    """The JSON body of a RegressionResult."""
    if not result.regressions:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    writer = _results()
    writer.single_line_arrays = True
    for regression in result.regressions:
        writer.raw(json_write.decimal(regression.value, double=False))
    writer.end()
    writer.end()
    return writer.text()


def _results() -> json_write.Writer:
    writer = json_write.Writer()
    writer.start(array=False)
    writer.raw(b'"results"')
    writer.start(array=True)
    return writer
