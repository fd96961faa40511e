"""Tensors and signatures between Serving's messages and numpy, without TensorFlow.

Owns the dtype table, TensorProto in both directions, what a signature says of a
model's inputs and outputs, and whether two answers are the same. Where requests come from (files, tables,
topics) and what answers mean is left to others.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from haldane import wire

Array = NDArray[Any]

# Of the largest number in the same output. The same model on other hardware, or with other kernels (oneDNN, XLA),
# differs by about 1e-6 of it in float32; another model, or another version, rarely by less than this.
_CLOSE = 1e-3


class _Kind(NamedTuple):
    """One DataType: its number, its name in errors, how numpy holds it, and its typed field."""

    number: int
    name: str
    numpy: np.dtype[Any]
    field: str


# Source: tensorflow/core/framework/types.proto and tensor.proto. bfloat16 has no numpy
# dtype: it is held as float32, of which it is the upper half.
_KINDS = (
    _Kind(1, "float", np.dtype("<f4"), "float_val"),
    _Kind(2, "double", np.dtype("<f8"), "double_val"),
    _Kind(3, "int32", np.dtype("<i4"), "int_val"),
    _Kind(4, "uint8", np.dtype("u1"), "int_val"),
    _Kind(5, "int16", np.dtype("<i2"), "int_val"),
    _Kind(6, "int8", np.dtype("i1"), "int_val"),
    _Kind(7, "string", np.dtype(object), "string_val"),
    _Kind(9, "int64", np.dtype("<i8"), "int64_val"),
    _Kind(10, "bool", np.dtype(bool), "bool_val"),
    _Kind(14, "bfloat16", np.dtype("<f4"), "half_val"),
    _Kind(17, "uint16", np.dtype("<u2"), "int_val"),
    _Kind(19, "half", np.dtype("<f2"), "half_val"),
    _Kind(22, "uint32", np.dtype("<u4"), "uint32_val"),
    _Kind(23, "uint64", np.dtype("<u8"), "uint64_val"),
)
_BY_NUMBER = {kind.number: kind for kind in _KINDS}
STRING, _BFLOAT16, _HALF = 7, 14, 19


class UnsupportedType(ValueError):
    """A DataType that has no array form here (resource, variant, complex, quantized)."""


def _kind(number: int) -> _Kind:
    try:
        return _BY_NUMBER[number]
    except KeyError:
        raise UnsupportedType(f"tensor type number {number} is not supported") from None


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a signature says of one tensor. `shape` is None when the rank is unknown; -1 is any size."""

    name: str
    dtype: int  # tensorflow.DataType
    shape: tuple[int, ...] | None

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype that holds it; `object` (of bytes) for strings. UnsupportedType for the exotic."""
        return _kind(self.dtype).numpy

    @property
    def type_name(self) -> str:
        return _BY_NUMBER[self.dtype].name if self.dtype in _BY_NUMBER else f"type {self.dtype}"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of a model: its name, its method (Serving's method_name) and its tensors by key."""

    name: str
    method: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    @property
    def only_input(self) -> TensorSpec | None:
        """The one input, or None when there are several."""
        return next(iter(self.inputs.values())) if len(self.inputs) == 1 else None


def _spec(key: str, info: Any) -> TensorSpec:
    shape = None if info.tensor_shape.unknown_rank else tuple(int(dim.size) for dim in info.tensor_shape.dim)
    return TensorSpec(key, int(info.dtype), shape)


def signatures(signature_def: Mapping[str, Any]) -> dict[str, Signature]:
    """The signatures of a `signature_def` map, by name, without those that TF2 adds for itself ("__...")."""
    return {
        name: Signature(
            name,
            definition.method_name,
            {key: _spec(key, info) for key, info in sorted(definition.inputs.items())},
            {key: _spec(key, info) for key, info in sorted(definition.outputs.items())},
        )
        for name, definition in signature_def.items()
        if not name.startswith("__")
    }


def encode(array: Array, dtype: int) -> Any:
    """A TensorProto of that DataType holding the array, which already has the dtype's numpy form."""
    kind = _kind(dtype)
    proto = wire.TensorProto(dtype=dtype)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == STRING:
        proto.string_val.extend(array.ravel().tolist())
    elif dtype == _BFLOAT16:
        proto.tensor_content = (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    else:
        proto.tensor_content = array.astype(kind.numpy, copy=False).tobytes()
    return proto


def decode(proto: Any) -> Array:
    """The array a TensorProto holds: its shape, its numpy dtype, `object` of bytes for strings.

    Too few values are filled up with the last one and too many cut, as TensorFlow
    does. Raises ValueError when the bytes do not fit the shape, UnsupportedType
    for a type without an array form.
    """
    kind = _kind(proto.dtype)
    shape = tuple(int(dim.size) for dim in proto.tensor_shape.dim)
    if proto.tensor_content:
        return from_content(proto.tensor_content, proto.dtype).reshape(shape)
    return _filled(_from_field(proto, kind), shape, kind)


def from_content(content: bytes, dtype: int) -> Array:
    """(n,) the values in the bytes of tensor_content. Raises ValueError when they do not fit the type."""
    kind = _kind(dtype)
    if kind.number == STRING:
        raise ValueError("a string tensor cannot be read from tensor_content")
    if kind.number == _BFLOAT16:
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(content, kind.numpy)


def width(dtype: int) -> int:
    """Bytes of one value in tensor_content. Raises ValueError for types that are not held there."""
    kind = _kind(dtype)
    if kind.number == STRING:
        raise ValueError("strings are of no fixed width")
    return 2 if kind.number == _BFLOAT16 else kind.numpy.itemsize


def _from_field(proto: Any, kind: _Kind) -> Array:
    values = list(getattr(proto, kind.field))
    if kind.number == STRING:
        held = np.empty(len(values), object)
        held[:] = values
        return held
    if kind.number == _BFLOAT16:
        return (np.array(values, "<u4") << 16).view("<f4")
    if kind.number == _HALF:
        return np.array(values, "<u2").view("<f2")
    return np.array(values, kind.numpy)


def _filled(flat: Array, shape: tuple[int, ...], kind: _Kind) -> Array:
    size = math.prod(shape)
    if len(flat) < size:
        last: Any = flat[-1] if len(flat) else (b"" if kind.number == STRING else 0)
        rest = np.empty(size - len(flat), kind.numpy)
        rest[:] = last
        flat = np.concatenate([flat, rest])
    return flat[:size].reshape(shape)


def predict_body(signature: str, inputs: Mapping[str, Any]) -> bytes:
    """A serialized PredictRequest of these TensorProtos whose model_spec holds only the signature's name."""
    request = wire.PredictRequest()
    request.model_spec.signature_name = signature
    for key, proto in inputs.items():
        request.inputs[key].CopyFrom(proto)
    return bytes(request.SerializeToString(deterministic=True))


def difference(answer: bytes, recorded: bytes) -> str:
    """What is other in an answer than in the recorded one (both serialized PredictResponses), or "".

    Floats may differ by a thousandth of the largest in the same output; all else must be equal.
    """
    try:
        now, then = _outputs(answer), _outputs(recorded)
    except (DecodeError, ValueError) as error:  # UnsupportedType is a ValueError
        return f"it cannot be read: {error}"
    if now.keys() != then.keys():
        return f"its outputs are {', '.join(sorted(now)) or 'none'}, were {', '.join(sorted(then)) or 'none'}"
    return next((f"{key}: {why}" for key in sorted(then) if (why := _other(now[key], then[key]))), "")


def _outputs(response: bytes) -> Mapping[str, Array]:
    return {key: decode(tensor) for key, tensor in wire.PredictResponse.FromString(response).outputs.items()}


def _other(now: Array, then: Array) -> str:
    if (now.shape, now.dtype) != (then.shape, then.dtype):
        return f"{now.dtype} of shape {now.shape}, was {then.dtype} of shape {then.shape}"
    if then.size == 0:
        return ""
    if then.dtype.kind == "f":
        now, then = now.astype(np.float64), then.astype(np.float64)
        largest = float(np.max(np.abs(then), initial=0.0, where=np.isfinite(then)))
        same: Any = np.isclose(now, then, rtol=0.0, atol=_CLOSE * largest, equal_nan=True)
    else:
        same = np.asarray(now == then)
    if same.all():
        return ""
    where = tuple(int(index) for index in np.argwhere(~np.atleast_1d(same))[0])
    return f"{_shown(np.atleast_1d(now)[where])} at {list(where)}, was {_shown(np.atleast_1d(then)[where])}"


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:50]
