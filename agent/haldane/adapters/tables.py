"""A labelled set as Parquet, CSV or NPZ: each row a Predict request with its truth.

Columns become inputs by the model's signature: either a column per input, named
after it, or one numeric input [n, d] filled from `columns` in that order. An NPZ
(`adapters.arrays`) has arrays for columns. pyarrow is imported when a table is
opened (extra `tables`).
"""

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from haldane.domain.traffic import Api, Request
from haldane.files import kind_of, opened
from haldane.judge.slices import as_text
from haldane.ports import Flaw, Malformed, Refused, Unusable
from haldane.tensors import STRING, Array, Signature, TensorSpec, UnsupportedType, encode, predict_body

_BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TableForm:
    """How a table's rows become requests. `columns` is for a single input [n, d] only; `fields` are columns to slice
    by, which need not be inputs."""

    label: str | None
    columns: tuple[str, ...] = ()
    signature: str = "serving_default"
    fields: tuple[str, ...] = ()


def read_table(path: Path, signatures: Mapping[str, Signature], form: TableForm) -> Iterator[Request | Malformed]:
    """The rows of a .parquet, .csv or .tsv file as Predict requests, `row` counting from 0; gzip is undone.

    A row whose label or value is missing or NaN is Malformed in its place. Raises
    Malformed when a column is missing or of the wrong type, Unavailable when the file
    cannot be read, Refused when pyarrow is not installed.
    """
    signature, first = signature_of(path.name, signatures, form), 0
    for batch in _batches(path):
        plan = inputs_of(path.name, _names(path.name, batch), signature, form)
        truths = None if form.label is None else batch.column(form.label).to_pylist()
        yield from _requests(path.name, first, batch, plan, truths, form)
        first += batch.num_rows


def _names(name: str, batch: Any) -> list[str]:
    try:
        return list(batch.schema.names)
    except UnicodeDecodeError as error:
        raise Malformed(name, f"a column's name is not UTF-8: {error}") from error


def signature_of(name: str, signatures: Mapping[str, Signature], form: TableForm) -> Signature:
    """The one that is called; Malformed when the model has none of that name."""
    if form.signature not in signatures:
        known = ", ".join(sorted(signatures))
        raise Malformed(name, f"the model has no signature {form.signature!r}, only {known}")
    return signatures[form.signature]


def _batches(path: Path) -> Iterator[Any]:
    """pyarrow RecordBatches of the file."""
    try:
        import pyarrow
        from pyarrow import csv, parquet
    except ImportError as error:
        raise Refused(path.name, 'reading tables needs pyarrow: pip install "haldane[tables]"') from error
    try:
        if kind_of(path) in (".parquet", ".pq"):
            with opened(path) as content, parquet.ParquetFile(content) as file:
                yield from file.iter_batches(batch_size=_BATCH_ROWS)
        elif kind_of(path) in (".csv", ".tsv"):
            options = csv.ParseOptions(delimiter="\t" if kind_of(path) == ".tsv" else ",")
            # Read whole: the streaming reader takes a column's type from its first block, and fails on a later one.
            with opened(path) as content:
                yield from csv.read_csv(content, parse_options=options).to_batches(max_chunksize=_BATCH_ROWS)
        else:
            known = ".parquet, .pq, .csv, .tsv, .npz"
            raise Malformed(path.name, f"unknown kind of table {path.suffix!r}; known are {known}")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Malformed(path.name, f"broken gzip: {error}") from error
    except pyarrow.ArrowException as error:
        raise Malformed(path.name, f"not a readable table: {error}") from error


Plan = list[tuple[TensorSpec, tuple[str, ...]]]  # an input and the columns that fill it


def inputs_of(name: str, have: Sequence[str], signature: Signature, form: TableForm) -> Plan:
    only = signature.only_input
    if form.columns and only is None:
        raise Malformed(name, f"columns fill a single input, but signature {signature.name!r} has several")
    if form.columns and only is not None:
        plan: Plan = [(only, form.columns)]
    else:
        plan = [(spec, (key,)) for key, spec in signature.inputs.items()]
    wanted = [column for _, columns in plan for column in columns]
    sliced = ((column, "column to slice by named") for column in form.fields)
    for column, what in [*((column, "input column") for column in wanted), *_label(form), *sliced]:
        if column not in have:
            raise Malformed(name, f"no {what} {column!r}; the columns are {', '.join(have)}")
    return plan


def _label(form: TableForm) -> list[tuple[str, str]]:
    return [] if form.label is None else [(form.label, "label column")]


def _requests(
    name: str, first: int, batch: Any, plan: Plan, truths: list[Any] | None, form: TableForm
) -> Iterator[Request | Malformed]:
    values = [_block(name, batch, spec, columns, form) for spec, columns in plan]
    told = {field: batch.column(field).to_pylist() for field in form.fields}
    yield from rows_of(name, range(first, first + batch.num_rows), plan, values, truths, told, form)


def rows_of(
    name: str,
    rows: range,
    plan: Plan,
    values: Sequence[Any],
    truths: Sequence[Any] | None,
    told: Mapping[str, Sequence[Any]],
    form: TableForm,
) -> Iterator[Request | Malformed]:
    """One request for each of these rows; `values` holds the rows of each input of the plan, `told` the fields'."""
    first, texts = rows.start, {field: [as_text(value) for value in column] for field, column in told.items()}
    for offset in range(len(rows)):
        row = first + offset
        where = f"{name}#{row}"
        truth = None if truths is None else _truth(truths[offset])
        if truths is not None and truth is None:
            yield Unusable(where, f"label {form.label!r} is missing or NaN", Flaw.LABEL)
            continue
        try:
            protos = {
                spec.name: encode(_row(block, offset, spec), spec.dtype)
                for (spec, _), block in zip(plan, values, strict=True)
            }
        except (ValueError, TypeError, OverflowError) as error:
            yield Unusable(where, str(error), Flaw.SIGNATURE)
            continue
        fields = {field: text for field, column in texts.items() if (text := column[offset]) is not None}
        yield Request(where, Api.PREDICT, predict_body(form.signature, protos), row, truth, fields)


def _truth(value: Any) -> float | str | None:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if value is None or isinstance(value, str):
        return value or None
    number = float(value)
    return None if np.isnan(number) else number


def _block(name: str, batch: Any, spec: TensorSpec, columns: tuple[str, ...], form: TableForm) -> Any:
    """One input's values for all rows: (n, d) or (n,) numbers, or a list with an item per row."""
    try:
        wanted = spec.numpy
    except UnsupportedType as error:
        raise Malformed(name, f"input {spec.name!r}: {error}") from error
    if not form.columns and (spec.dtype == STRING or _nested(batch, columns[0])):
        return batch.column(columns[0]).to_pylist()
    held = [_numbers(name, batch, column, spec) for column in columns]
    stacked = np.stack(held, axis=1) if form.columns else held[0]
    # Fractions and holes (NaN) where integers are wanted are found row by row.
    return stacked if wanted.kind in "iu" and stacked.dtype.kind == "f" else stacked.astype(wanted)


def _nested(batch: Any, column: str) -> bool:
    import pyarrow

    kind = batch.schema.field(column).type
    return bool(
        pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind)
    )


def _numbers(name: str, batch: Any, column: str, spec: TensorSpec) -> Array:
    import pyarrow

    kind = batch.schema.field(column).type
    if spec.dtype == STRING or not (
        pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_boolean(kind)
    ):
        raise Malformed(name, f"column {column!r} holds {kind}, input {spec.name!r} takes {spec.type_name}")
    array = batch.column(column)
    # int64 survives only where nothing is missing: float64 has no room for it.
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _row(block: Any, offset: int, spec: TensorSpec) -> Array:
    """(1, ...) of the input's dtype. ValueError when the row has a hole or the wrong size."""
    value = block[offset]
    if value is None:
        raise ValueError(f"input {spec.name!r} is missing")
    if spec.dtype == STRING:
        return _strings(value, spec)
    array = np.asarray(value)
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"input {spec.name!r} is missing or NaN")
    if array.dtype.kind == "f" and spec.numpy.kind in "iu" and (array != np.floor(array)).any():
        raise ValueError(f"input {spec.name!r} takes {spec.type_name}, found fractions")
    return _shaped(array.astype(spec.numpy), spec)


def _strings(value: Any, spec: TensorSpec) -> Array:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | bytes) for item in items):
        raise ValueError(f"input {spec.name!r} must be text")
    array = np.empty(len(items), object)
    array[:] = [item.encode() if isinstance(item, str) else item for item in items]
    return _shaped(array, spec)


def _shaped(array: Array, spec: TensorSpec) -> Array:
    """One row of the input's shape; without one, (1,) for a number and (1, d) for a list."""
    shape = spec.shape[1:] if spec.shape else array.shape
    try:
        return array.reshape((1, *shape))
    except ValueError:
        raise ValueError(f"input {spec.name!r} takes {list(shape)} values a row, found {array.size}") from None
