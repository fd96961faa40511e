"""TensorProto to numpy and back, as leniently as TensorFlow's `Tensor::FromProto`.

Belongs here: the conversions both executors share, without TensorFlow. Types
that numpy lacks (bfloat16, the float8s, the quantized ones) are kept as
one-field structured dtypes named like TensorFlow's type, so that they pass
through unharmed.

Source: tensorflow/core/framework/tensor.cc.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haldane import wire

Array = NDArray[Any]

DT_STRING = 7
_MAX_DIMENSIONS = 254
_TAGGED = {
    11: ("qint8", "i1"),
    12: ("quint8", "u1"),
    13: ("qint32", "i4"),
    14: ("bfloat16", "u2"),
    15: ("qint16", "i2"),
    16: ("quint16", "u2"),
    24: ("float8_e5m2", "u1"),
    25: ("float8_e4m3fn", "u1"),
}
_PLAIN = {
    1: "f4",
    2: "f8",
    3: "i4",
    4: "u1",
    5: "i2",
    6: "i1",
    8: "c8",
    9: "i8",
    10: "?",
    17: "u2",
    18: "c16",
    19: "f2",
    22: "u4",
    23: "u8",
}
# DataType number -> numpy dtype
DTYPES: dict[int, np.dtype[Any]] = {
    **{number: np.dtype("<" + code if code != "?" else code) for number, code in _PLAIN.items()},
    **{number: np.dtype([(name, "<" + code)]) for number, (name, code) in _TAGGED.items()},
    DT_STRING: np.dtype(object),
}
_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
_FIELDS = {
    1: "float_val",
    2: "double_val",
    7: "string_val",
    8: "scomplex_val",
    9: "int64_val",
    10: "bool_val",
    14: "half_val",
    18: "dcomplex_val",
    19: "half_val",
    22: "uint32_val",
    23: "uint64_val",
    24: "float8_val",
    25: "float8_val",
}
_INT_FIELD = "int_val"
# Names as TensorFlow's messages print them.
TYPE_NAMES = {
    0: "INVALID",
    1: "float",
    2: "double",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "half",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
}


def type_number(array: Array) -> int:
    """TensorFlow's DataType number of an array; KeyError when it has none."""
    dtype = array.dtype
    number = _NUMBERS.get(dtype)
    if number is None and dtype.kind in "SU":
        return DT_STRING
    return _NUMBERS[dtype] if number is None else number


def value_field(number: int) -> str:
    """The repeated field of TensorProto that holds values of that DataType."""
    return _FIELDS.get(number, _INT_FIELD)


def _shape(proto: Any) -> tuple[int, ...]:
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if len(shape) > _MAX_DIMENSIONS or any(size < 0 for size in shape) or math.prod(shape) >= 2**63:
        raise ValueError("not a shape")
    return shape


def decode(proto: Any) -> Array:
    """The values of a TensorProto, of its shape.

    Too few values are filled up with the last one, none at all with zeros, too
    many are cut. Raises ValueError where TensorFlow refuses: no or unknown
    dtype, a negative dimension, `tensor_content` of the wrong length.
    """
    dtype = DTYPES.get(proto.dtype)
    if dtype is None:
        raise ValueError("no such type")
    shape = _shape(proto)
    count = math.prod(shape)
    if count == 0:
        return np.zeros(shape, dtype)
    if proto.tensor_content:
        return _from_content(proto, dtype, count).reshape(shape)
    return _from_field(proto, dtype, count).reshape(shape)


def _from_content(proto: Any, dtype: np.dtype[Any], count: int) -> Array:
    content = proto.tensor_content
    if proto.dtype == DT_STRING:
        return _strings_from_content(content, count)
    if len(content) != count * dtype.itemsize:
        raise ValueError("content of the wrong length")
    if dtype.kind == "b":
        return np.frombuffer(content, np.uint8).astype(bool)
    return np.frombuffer(content, dtype)


def _from_field(proto: Any, dtype: np.dtype[Any], count: int) -> Array:
    number = proto.dtype
    raw = getattr(proto, value_field(number))
    if number == DT_STRING:
        return _strings(list(raw[:count]), count)
    if number in (8, 18):
        parts = np.array(raw, "f4" if number == 8 else "f8")
        values = parts[: len(parts) // 2 * 2].view(dtype)
    elif number in (24, 25):
        values = np.frombuffer(raw, dtype)
    elif number in (1, 2, 9, 10, 22, 23):
        values = np.array(raw, dtype)
    else:  # int_val and half_val are 32 bits wide on the wire; the low ones count, as in C
        width = np.dtype(f"u{dtype.itemsize}")
        values = np.array(raw, np.int64).astype(width).view(dtype)
    if len(values) >= count:
        return values[:count]
    filled = np.zeros(count, dtype)
    filled[: len(values)] = values
    if len(values):
        filled[len(values) :] = values[-1]
    return filled


def _strings(values: list[bytes], count: int) -> Array:
    values += [values[-1] if values else b""] * (count - len(values))
    array = np.empty(count, object)
    array[:] = values
    return array


def _strings_from_content(content: bytes, count: int) -> Array:
    """Strings stored as all their lengths (varints), then all their bytes."""
    lengths, at = [], 0
    for _ in range(count):
        length, shift = 0, 0
        while True:
            if at >= len(content):
                raise ValueError("content too short")
            byte = content[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise ValueError("content of the wrong length")
    values = []
    for length in lengths:
        values.append(content[at : at + length])
        at += length
    return _strings(values, count)


def varint(value: int) -> bytes:
    """The protobuf varint of a non-negative number."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(array: Array, proto: Any = None, *, as_content: bool = False) -> Any:
    """A TensorProto with the array's values in their typed field, or all of them in `tensor_content`."""
    proto = wire.TensorProto() if proto is None else proto
    number = type_number(array)
    proto.dtype = number
    dims = proto.tensor_shape.dim
    for size in array.shape:
        dims.add().size = size
    proto.tensor_shape.SetInParent()
    flat = array.ravel()
    if not flat.size:
        return proto
    if as_content:
        proto.tensor_content = _content(flat, number)
    elif number == DT_STRING:
        proto.string_val.extend(flat.tolist())
    elif number in (1, 2) and flat.size > 64:  # packed floats are raw bytes on the wire: much faster than a list
        data = flat.tobytes()
        proto.MergeFromString((b"\x2a" if number == 1 else b"\x32") + varint(len(data)) + data)
    else:
        _fill(proto, flat, number)
    return proto


def _fill(proto: Any, flat: Array, number: int) -> None:
    field = value_field(number)
    if number in (8, 18):
        flat = flat.view("f4" if number == 8 else "f8")
    elif number in (24, 25):
        proto.float8_val = flat.tobytes()
        return
    elif field == "half_val":
        flat = flat.view("u2")
    elif flat.dtype.names:
        flat = flat[flat.dtype.names[0]]
    getattr(proto, field).extend(flat.tolist())


def _content(flat: Array, number: int) -> bytes:
    if number != DT_STRING:
        return flat.tobytes()
    return b"".join(varint(len(value)) for value in flat) + b"".join(flat.tolist())
