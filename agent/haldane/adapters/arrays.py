"""A labelled set as NPZ: arrays named after the inputs and the label, the first axis the rows.

What a row may hold, and how it becomes a request, is `adapters.tables`.
"""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from haldane.adapters.tables import TableForm, inputs_of, rows_of, signature_of
from haldane.domain.traffic import Request
from haldane.files import opened
from haldane.ports import Malformed
from haldane.tensors import STRING, Array, Signature, TensorSpec

# What zipfile and numpy raise, between them, for bytes that are no NPZ.
_BROKEN = (
    *(ValueError, TypeError, KeyError, AttributeError, EOFError, NotImplementedError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, OSError, MemoryError),
)


def read_arrays(path: Path, signatures: Mapping[str, Signature], form: TableForm) -> Iterator[Request | Malformed]:
    """The rows of a .npz file as Predict requests, `row` counting from 0.

    `form.columns` are arrays (n,) that fill a single input [n, d]. Raises Malformed when an
    array is missing, of another length or of Python objects, Unavailable when the file cannot be read.
    """
    signature = signature_of(path.name, signatures, form)
    with opened(path) as file:
        arrays = _arrays(path.name, file)
        plan = inputs_of(path.name, list(arrays), signature, form)
        label = [] if form.label is None else [form.label]
        used = [name for _, names in plan for name in names] + label + list(form.fields)
        rows = _length(path.name, {name: arrays[name] for name in used})
        values = [_block(path.name, arrays, spec, names, form) for spec, names in plan]
        truths = arrays[form.label].tolist() if form.label is not None else None
        told = {field: arrays[field].tolist() for field in form.fields}
    yield from rows_of(path.name, range(rows), plan, values, truths, told, form)


def _arrays(name: str, file: IO[bytes]) -> dict[str, Array]:
    try:
        with np.load(file, allow_pickle=False) as loaded:
            return {key: loaded[key] for key in loaded.files}
    except _BROKEN as error:
        says = "Python objects cannot be read" if "pickle" in str(error) else error
        raise Malformed(name, f"not a readable .npz: {says}") from error


def _length(name: str, arrays: Mapping[str, Array]) -> int:
    lengths = {key: len(array) if array.ndim else 0 for key, array in arrays.items()}
    if len(set(lengths.values())) > 1 or not all(array.ndim for array in arrays.values()):
        told = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise Malformed(name, f"arrays must have as many rows as each other; they have {told}")
    return next(iter(lengths.values()), 0)


def _block(
    name: str, arrays: Mapping[str, Array], spec: TensorSpec, columns: tuple[str, ...], form: TableForm
) -> object:
    """One input's rows: an array, or for text a list with one string or a list of them for each row."""
    given = [arrays[column] for column in columns]
    for column, array in zip(columns, given, strict=True):
        if (array.dtype.kind in "SU") != (spec.dtype == STRING) or array.dtype.kind not in "SUbiuf":
            raise Malformed(name, f"array {column!r} holds {array.dtype}, input {spec.name!r} takes {spec.type_name}")
        if form.columns and array.ndim != 1:
            raise Malformed(name, f"array {column!r} has shape {array.shape}; columns are of shape (n,)")
    if form.columns:
        return np.stack(given, axis=1)
    return [_flat(row) for row in given[0]] if spec.dtype == STRING else given[0]


def _flat(row: Array) -> object:
    values = row.reshape(-1).tolist() if isinstance(row, np.ndarray) else row
    return values if isinstance(values, list) else str(values) if isinstance(values, str) else bytes(values)
