"""Predict's answers as REST bodies, in rows or in columns.

Source: util/json_tensor.cc (MakeJsonFromTensors).
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from haldane.sandbox import json_write, tensors
from haldane.sandbox.json_tensor import INT_TYPES, Format, invalid, type_name

_BYTES_SUFFIX = "_bytes"
_WRITABLE = (1, 2, 7, 9, 10, 22, 23, *INT_TYPES)


def predict_body(outputs: Mapping[str, Any], layout: Format) -> bytes:
    """The JSON body of a PredictResponse's outputs (name -> TensorProto)."""
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    # The real server's order is that of a hash map, different in every process; any fixed one will do.
    arrays = {name: tensors.decode(outputs[name]) for name in sorted(outputs, reverse=True)}
    writer = json_write.Writer()
    writer.start(array=False)
    if layout is Format.ROW:
        writer.raw(b'"predictions"')
        _write_rows(writer, arrays)
    else:
        writer.raw(b'"outputs"')
        _write_columns(writer, arrays)
    writer.end()
    return writer.text()


def _write_rows(writer: json_write.Writer, arrays: Mapping[str, tensors.Array]) -> None:
    batch = -1
    for name, array in arrays.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch not in (-1, len(array)):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}")
        batch = len(array)
    values = {name: _formatted(name, array) for name, array in arrays.items()}
    writer.start(array=True)
    for row in range(batch):
        if len(arrays) > 1:
            writer.start(array=False)
        writer.single_line_arrays = True
        for name, formatted in values.items():
            if len(arrays) > 1:
                writer.raw(json_write.string(name.encode()))
            _write_nested(writer, formatted[row])
        writer.single_line_arrays = False
        if len(arrays) > 1:
            writer.end()
    writer.end()


def _write_columns(writer: json_write.Writer, arrays: Mapping[str, tensors.Array]) -> None:
    if len(arrays) > 1:
        writer.start(array=False)
    for name, array in arrays.items():
        if len(arrays) > 1:
            writer.raw(json_write.string(name.encode()))
        _write_nested(writer, _formatted(name, array))
    if len(arrays) > 1:
        writer.end()


class _Base64(bytes):
    """Base64 text to be written as an object."""


def _formatted(name: str, array: tensors.Array) -> Any:
    """The array as nested lists of formatted values."""
    number = tensors.type_number(array)
    if number not in _WRITABLE:
        if not array.size:
            return array.tolist()
        raise invalid(f"Failed to write JSON value for tensor type: {type_name(number)}")
    return _map_nested(array.tolist(), _formatter(name, number))


def _formatter(name: str, number: int) -> Callable[[Any], bytes]:
    if number in (1, 2):
        return lambda value: json_write.decimal(value, double=number == 2)
    if number == tensors.DT_STRING:
        if name.endswith(_BYTES_SUFFIX):
            return lambda value: _Base64(json_write.string(base64.b64encode(value)))
        return json_write.string
    if number == 10:
        return lambda value: b"true" if value else b"false"
    return lambda value: b"%d" % value


def _map_nested(values: Any, function: Callable[[Any], bytes]) -> Any:
    if isinstance(values, list):
        return [_map_nested(value, function) for value in values]
    return function(values)


def _write_nested(writer: json_write.Writer, value: Any) -> None:
    if isinstance(value, list):
        writer.start(array=True)
        for item in value:
            _write_nested(writer, item)
        writer.end()
    elif isinstance(value, _Base64):
        writer.start(array=False)
        writer.raw(b'"b64"')
        writer.raw(value)
        writer.end()
    else:
        writer.raw(value)
