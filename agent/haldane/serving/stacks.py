"""Many Predict answers read at once, without a step for each.

Answers of one model to requests of one shape are the same bytes but for what
their tensors hold. So the first is taken apart, the others are compared with
it where they must be equal, and the tensors of all are cut out together. What
does not fit is left to be read one by one.

Source: protobuf.dev/programming-guides/encoding; tensorflow/core/framework/tensor.proto.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from haldane import wire
from haldane.judge.outputs import Array, Stack
from haldane.serving.alike import Alike
from haldane.tensors import from_content, width

_VARINT, _BYTES = 0, 2
_WIDTHS = {1: 8, 5: 4}  # wire types of fixed width
_KEY, _VALUE = 1, 2  # of an entry of the map of outputs
_DTYPE, _SHAPE, _VERSION, _CONTENT = 1, 2, 3, 4  # of TensorProto
_PACKED = {5: 1, 6: 2}  # its float_val holds DT_FLOAT, its double_val DT_DOUBLE: packed, and of fixed width
_DIM = 2  # of TensorShapeProto
# Fewer than this are faster read one by one.
LEAST = 4


class _Part(NamedTuple):
    """One field: its number, its wire type, where its value begins and ends; a varint's value is `begin`."""

    number: int
    kind: int
    begin: int
    end: int

    @property
    def span(self) -> tuple[int, int]:
        return self.begin, self.end


class _Cut(NamedTuple):
    """Where one output's values stand in an answer, and what they are."""

    name: str
    begin: int
    end: int
    dtype: int
    shape: tuple[int, ...]


def read_alike(data: Sequence[bytes], places: NDArray[np.intp], wanted: str) -> tuple[list[Stack], NDArray[np.intp]]:
    """Stacks of those answers that differ in their values only, and the places of all others.

    `data` are answers of one length, (n,); `places` (n,) are their places among
    the pairs. With `wanted` only that output is read. An answer in a stack
    gives what `shadow.read_answer` would; nothing is raised.
    """
    stacks, others = [], []
    rows = np.frombuffer(b"".join(data), np.uint8).reshape(len(data), -1)
    while len(places) >= LEAST:
        cuts = _cuts(rows[0].tobytes())
        if cuts is None:
            others.append(places[:1])
            rows, places = rows[1:], places[1:]
            if len(others) >= LEAST:
                break  # answers of another kind
            continue
        alike = _same_around(rows, cuts)
        same = rows if alike.all() else rows[alike]
        stacks.append(Stack(places[alike], {cut.name: _values(same, cut) for cut in cuts if wanted in ("", cut.name)}))
        rows, places = rows[~alike], places[~alike]
    return stacks, np.concatenate([*others, places]) if others else places


def _same_around(rows: NDArray[np.uint8], cuts: Sequence[_Cut]) -> NDArray[np.bool_]:
    """(n,): equal to the first row everywhere but in the cuts."""
    same = np.ones(len(rows), bool)
    ends = [0, *(cut.end for cut in cuts)]
    for begin, end in zip(ends, [*(cut.begin for cut in cuts), rows.shape[1]], strict=True):
        same &= (rows[:, begin:end] == rows[0, begin:end]).all(axis=1)
    return same


def _values(rows: NDArray[np.uint8], cut: _Cut) -> Array:
    """(n, ...) of one output."""
    return from_content(rows[:, cut.begin : cut.end].tobytes(), cut.dtype).reshape(len(rows), *cut.shape)


def _cuts(data: bytes) -> list[_Cut] | None:
    """The outputs in order of place; None when one is not of fixed width, or laid out as nobody writes it."""
    try:
        return _layouts[data]
    except KeyError:
        cuts = _taken_apart(data)
        if cuts is not None:
            begins, ends = [0, *(cut.end for cut in cuts)], [*(cut.begin for cut in cuts), len(data)]
            _layouts.keep(data, [(at, data[at:end]) for at, end in zip(begins, ends, strict=True)], cuts)
        return cuts


_layouts: Alike[list[_Cut]] = Alike()


def _taken_apart(data: bytes) -> list[_Cut] | None:
    try:
        wire.PredictResponse.FromString(data)  # whatever stands around the cuts is sound, in this one and so in all
        cuts = [_cut(data, part) for part in _parts(data, 0, len(data)) if part.number == 1]
    except (DecodeError, ValueError, KeyError):
        return None
    return cuts if len({cut.name for cut in cuts}) == len(cuts) else None


def _cut(data: bytes, entry: _Part) -> _Cut:
    """Of one entry of the map of outputs. Raises ValueError where it is not as plain as it might be."""
    pair = _each_once(data, entry)
    key, value = pair[_KEY], pair[_VALUE]
    tensor = _each_once(data, value)
    values = [part for number, part in tensor.items() if number not in (_DTYPE, _SHAPE, _VERSION)]
    if len(values) != 1 or values[0].number not in (_CONTENT, *_PACKED) or values[0].kind != _BYTES:
        raise ValueError("no values of fixed width in one piece")
    (held,) = values
    dtype = tensor[_DTYPE].begin
    shape = tuple(_size(data, dim) for dim in _parts(data, *tensor[_SHAPE].span)) if _SHAPE in tensor else ()
    if _PACKED.get(held.number, dtype) != dtype or held.end - held.begin != math.prod(shape) * width(dtype):
        raise ValueError("the values are not those of this type and shape")
    return _Cut(data[slice(*key.span)].decode(), *held.span, dtype, shape)


def _each_once(data: bytes, message: _Part) -> dict[int, _Part]:
    """Its fields by number. ValueError when one stands there twice."""
    parts = list(_parts(data, *message.span))
    found = {part.number: part for part in parts}
    if len(found) != len(parts):
        raise ValueError("a field that occurs twice")
    return found


def _size(data: bytes, dim: _Part) -> int:
    """Of one TensorShapeProto.Dim; a named one, or a shape of unknown rank, is left to others."""
    if dim.number != _DIM or dim.kind != _BYTES:
        raise ValueError("no plain shape")
    found = _each_once(data, dim)
    if found and set(found) != {1}:
        raise ValueError("no plain shape")
    return found[1].begin if found else 0


def _parts(data: bytes, begin: int, end: int) -> Iterator[_Part]:
    """The fields of the message between `begin` and `end`. ValueError where they do not fill it."""
    at = begin
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield _Part(number, kind, value, value)
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in _WIDTHS:
            length = _WIDTHS[kind]
        else:
            raise ValueError(f"wire type {kind}")
        yield _Part(number, kind, at, at + length)
        at += length
    if at != end:
        raise ValueError("the message ends inside a field")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no number")
