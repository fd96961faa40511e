"""Predict's REST bodies to request messages; `json_predictions` is the way back.

Source: util/json_tensor.cc.
"""

import base64
import math
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import grpc
import numpy as np

from haldane.sandbox import tensors
from haldane.sandbox.json_read import MISSING, JsonError, Object, read
from haldane.sandbox.json_write import stringify
from haldane.sandbox.servable import StatusError

_B64 = b"b64"
INT_TYPES = (3, 4, 5, 6)  # int32, uint8, int16, int8: anything an int32 holds is taken
_INT_RANGES = {
    **dict.fromkeys(INT_TYPES, (-(2**31), 2**31 - 1)),
    9: (-(2**63), 2**63 - 1),
    22: (0, 2**32 - 1),
    23: (0, 2**64 - 1),
}


class Format(Enum):
    """How the request was laid out, and so how the answer is."""

    ROW = "instances"
    COLUMN = "inputs"


def invalid(message: str) -> StatusError:
    """An INVALID_ARGUMENT with that text."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _status_text(error: StatusError) -> str:
    return f"{error.code.name}: {error.message}"


def document(body: bytes) -> Object:
    """The request body; INVALID_ARGUMENT unless it is a JSON object."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        value = read(body)
    except JsonError as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(value, Object):
        raise invalid(f"JSON Value: {stringify(value)} Is not object")
    return value


def fill_signature(parsed: Object, request: Any) -> None:
    """Fill the optional signature name."""
    name = parsed.find(b"signature_name")
    if name is MISSING:
        return
    if not isinstance(name, bytes):
        raise invalid(
            f"JSON Value: {stringify(parsed)} not formatted correctly. 'signature_name' key must be a string value."
        )
    request.model_spec.signature_name = name.decode("utf-8", "replace")


def fill_predict_request(body: bytes, request: Any, input_infos: Callable[[str], Mapping[str, Any]]) -> Format:
    """Fill signature and inputs of a PredictRequest; `input_infos(signature name)` gives alias -> TensorInfo."""
    parsed = document(body)
    fill_signature(parsed, request)
    name = request.model_spec.signature_name
    infos = input_infos(name)
    if not infos:
        raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    instances, inputs = parsed.find(b"instances"), parsed.find(b"inputs")
    if instances is not MISSING:
        if inputs is not MISSING:
            raise format_error(
                parsed, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
            )
        if not isinstance(instances, list):
            raise format_error(parsed, "Expecting 'instances' to be an list/array")
        if not instances:
            raise format_error(parsed, "No values in 'instances' array")
        _fill_from_rows(instances, infos, request.inputs)
        return Format.ROW
    if inputs is not MISSING:
        _fill_from_columns(inputs, infos, request.inputs)
        return Format.COLUMN
    raise invalid("Missing 'inputs' or 'instances' key")


def format_error(value: Any, text: str) -> StatusError:
    """A refusal that quotes the JSON value."""
    return invalid(f"JSON Value: {stringify(value)} {text}")


def is_base64(value: Any) -> bool:
    """The value is {"b64": string} and nothing more."""
    return (
        isinstance(value, Object)
        and len(value.members) == 1
        and value.members[0][0] == _B64
        and isinstance(value.members[0][1], bytes)
    )


def _is_row_object(value: Any) -> bool:
    return isinstance(value, Object) and not is_base64(value)


class _Column:
    """The values of one input, gathered row by row; all rows must have one shape."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.values: list[Any] = []
        self.shape: list[int] | None = None
        self._size = 0

    def add(self, item: Any) -> None:
        before, shape = len(self.values), _shape(item)
        _gather(item, 0, shape, self.number, self.values)
        size = len(self.values) - before
        if self.shape is None:
            self.shape, self._size = shape, size
        elif size != self._size:
            raise invalid(f"Expecting tensor size: {self._size} but got: {size}")
        elif shape != self.shape:
            raise invalid(f"Expecting shape {_shape_text(self.shape)} but got: {_shape_text(shape)}")


def _shape_text(shape: list[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _shape(value: Any) -> list[int]:
    """The shape a dense tensor would have, judged by the first element of each level."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _gather(value: Any, level: int, shape: list[int], number: int, out: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {stringify(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        out.append(_leaf(value, number))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _gather(item, level + 1, shape, number, out)


def _leaf(value: Any, number: int) -> Any:
    if isinstance(value, Object):
        if number != tensors.DT_STRING:
            raise _type_error(value, number)
        return decoded(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if number in (1, 2):
        accepted = is_number
    elif number in _INT_RANGES:
        low, high = _INT_RANGES[number]
        accepted = is_number and isinstance(value, int) and low <= value <= high
    elif number == tensors.DT_STRING:
        accepted = isinstance(value, bytes)
    elif number == 10:
        accepted = isinstance(value, bool)
    else:
        raise StatusError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {stringify(value)} to type: {type_name(number)}",
        )
    if not accepted:
        raise _type_error(value, number)
    return value


def type_name(number: int) -> str:
    """TensorFlow's name of a DataType, as its messages have it."""
    return tensors.TYPE_NAMES.get(number, str(number))


def json_type(value: Any) -> str:
    """RapidJSON's name of a value's kind."""
    if value is None or isinstance(value, bool):
        return "Null" if value is None else str(value)
    kinds = {bytes: "String", list: "Array", Object: "Object"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "Number")


def _type_error(value: Any, number: int) -> StatusError:
    return invalid(
        f"JSON Value: {stringify(value)} Type: {json_type(value)} is not of expected type: {type_name(number)}"
    )


def decoded(value: Object) -> bytes:
    """The bytes of a {"b64": ...} object."""
    if not is_base64(value):
        raise invalid(f"JSON Value: {stringify(value)} not formatted correctly for base64 data")
    plain = base64_unescape(value.members[0][1])
    if plain is None:
        raise invalid("Unable to base64 decode")
    return plain


def base64_unescape(text: bytes) -> bytes | None:
    """What absl::Base64Unescape makes of it: blanks are skipped, padding is all there or all missing; None if bad."""
    compact = re.sub(rb"[ \t\n\v\f\r]", b"", text)
    bare = compact.rstrip(b"=.")
    padding, missing = len(compact) - len(bare), -len(bare) % 4
    if missing == 3 or padding not in (0, missing) or not re.fullmatch(rb"[A-Za-z0-9+/]*", bare):
        return None
    return base64.b64decode(bare + b"=" * missing)


def _fill_from_rows(rows: list[Any], infos: Mapping[str, Any], inputs: Any) -> None:
    if not isinstance(rows[0], Object) and len(infos) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    objects = _is_row_object(rows[0])
    columns: dict[str, _Column] = {}
    for index, row in enumerate(rows):
        if objects:
            _add_object(index, row, infos, columns)
        else:
            _add_plain(index, row, infos, columns)
    for name, column in columns.items():
        _fill_tensor(inputs[name], column.number, [len(rows), *(column.shape or [])], column.values)


def _add_object(index: int, row: Any, infos: Mapping[str, Any], columns: dict[str, _Column]) -> None:
    if not _is_row_object(row):
        raise invalid(f"Expecting object but got list at item {index} of input list")
    seen = set()
    for key, value in row.members:
        name = key.decode("utf-8", "replace")
        seen.add(name)
        try:
            _add_item(name, value, infos, columns)
        except StatusError as error:
            raise invalid(
                f"Failed to process element: {index} key: {name} of 'instances' list. Error: {_status_text(error)}"
            ) from None
    if seen != set(infos):
        raise invalid(
            f"Failed to process element: {index} of 'instances' list. JSON object: {stringify(row)} keys must be "
            f"equal to: {','.join(sorted(infos))}"
        )


def _add_plain(index: int, row: Any, infos: Mapping[str, Any], columns: dict[str, _Column]) -> None:
    if _is_row_object(row):
        raise invalid(f"Expecting value/list but got object at item {index} of input list")
    try:
        _add_item(next(iter(infos)), row, infos, columns)
    except StatusError as error:
        raise invalid(f"Failed to process element: {index} of 'instances' list. Error: {_status_text(error)}") from None


def _add_item(name: str, value: Any, infos: Mapping[str, Any], columns: dict[str, _Column]) -> None:
    if name not in infos:
        raise invalid(f"JSON object: does not have named input: {name}")
    if name not in columns:
        columns[name] = _Column(infos[name].dtype)
    columns[name].add(value)


def _fill_from_columns(value: Any, infos: Mapping[str, Any], inputs: Any) -> None:
    if not _is_row_object(value):
        if len(infos) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        _fill_whole(inputs, next(iter(infos)), value, infos)
        return
    for name in sorted(infos):
        item = value.find(name.encode())
        if item is MISSING:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        _fill_whole(inputs, name, item, infos)


def _fill_whole(inputs: Any, name: str, value: Any, infos: Mapping[str, Any]) -> None:
    column = _Column(infos[name].dtype)
    column.add(value)
    _fill_tensor(inputs[name], column.number, column.shape or [], column.values)


def _fill_tensor(proto: Any, number: int, shape: list[int], values: list[Any]) -> None:
    dtype = tensors.DTYPES[number]
    values = values[: math.prod(shape)]  # a name repeated within a row has left more than its share
    if number in INT_TYPES:
        array = np.array(values, np.int64).astype(dtype)
    elif number == tensors.DT_STRING:
        array = np.empty(len(values), object)
        array[:] = values
    else:
        with np.errstate(over="ignore"):
            array = np.array(values, np.float64).astype(dtype) if number == 1 else np.array(values, dtype)
    tensors.encode(array.reshape(shape), proto)
