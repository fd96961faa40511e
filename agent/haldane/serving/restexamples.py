"""The "examples" of Serving's REST classify and regress bodies, as tf.train.Examples.

A feature's type follows from its JSON: whole numbers are int64, decimals float,
text and {"b64": ...} bytes. Source: util/json_tensor.cc (FillClassifyRegressRequestFromJson).
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from haldane import wire

# Feature kind by the JSON type of its values; bool is a subclass of int, and Serving too reads it as 0 or 1.
_KINDS = ((int, "int64_list"), (float, "float_list"), (bytes, "bytes_list"))


def input_of(body: Mapping[str, Any]) -> Any:
    """The Input message of a body's "examples" and "context". ValueError names the key that is wrong."""
    examples = body.get("examples")
    if not isinstance(examples, list) or not examples:
        raise ValueError("examples: must be a list with at least one object")
    message = wire.Input()
    target = message.example_list
    if "context" in body:
        target = message.example_list_with_context
        _fill("context", body["context"], target.context)
    for number, example in enumerate(examples):
        _fill(f"examples[{number}]", example, target.examples.add())
    return message


def _fill(where: str, features: Any, example: Any) -> None:
    if not isinstance(features, dict):
        raise ValueError(f"{where}: must be an object of features")
    for name, given in features.items():
        values = [_value(f"{where}.{name}", value) for value in (given if isinstance(given, list) else [given])]
        feature = example.features.feature[name]
        kinds = {next(kind for of, kind in _KINDS if isinstance(value, of)) for value in values}
        if len(kinds) > 1:
            raise ValueError(f"{where}.{name}: values of different types")
        for kind in kinds:
            try:
                getattr(feature, kind).value.extend(values)
            except ValueError as error:
                raise ValueError(f"{where}.{name}: {error}") from error


def _value(where: str, value: Any) -> int | float | bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, dict) and value.keys() == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise ValueError(f'{where}: the text under "b64" is not base64: {error}') from error
    raise ValueError(f'{where}: must be a number, text or {{"b64": ...}}, or a list of them')
