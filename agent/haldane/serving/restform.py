"""Lines in Serving's REST form, turned into requests by the model's signature.

A line is one JSON body as `:predict` takes it: {"instances": [...]} by rows or
{"inputs": ...} by columns; or, for a classify or regress signature, {"examples":
[...]}; optionally "signature_name", and here also "id", "truth" and "fields" (what
the request may be sliced by: {"country": "DE"}). `call_of` is a pure function of
signatures and line; reading files is the other half.
Source: util/json_tensor.cc in TensorFlow Serving.
"""

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from haldane import wire
from haldane.domain.traffic import Api, Request
from haldane.files import opened
from haldane.judge.slices import as_text
from haldane.ports import Flaw, Malformed, Unusable
from haldane.serving.restexamples import input_of
from haldane.tensors import STRING, Array, Signature, TensorSpec, UnsupportedType, encode, predict_body

DEFAULT_SIGNATURE = "serving_default"
_FORMS = {"instances", "inputs", "examples"}
_KNOWN = _FORMS | {"context", "signature_name", "id", "truth", "fields"}
_EXAMPLE_CALLS = {
    "tensorflow/serving/classify": (Api.CLASSIFY, wire.ClassificationRequest),
    "tensorflow/serving/regress": (Api.REGRESS, wire.RegressionRequest),
}


class NotRestForm(ValueError):
    """A line that is no valid request; the text names the key and what was expected."""


def call_of(signatures: Mapping[str, Signature], body: Mapping[str, Any]) -> tuple[Api, bytes]:
    """The method and the serialized request of one parsed JSON body. Raises NotRestForm."""
    signature = _signature(signatures, body)
    given = sorted(_FORMS & body.keys())
    if len(given) != 1:
        raise NotRestForm(f"needs exactly one of the keys {', '.join(sorted(_FORMS))}, found {len(given)}")
    if given == ["examples"]:
        return _examples(signature, body)
    values = _rows(signature, body["instances"]) if given == ["instances"] else _columns(signature, body["inputs"])
    protos = {key: encode(_array(values[key], spec), spec.dtype) for key, spec in signature.inputs.items()}
    return Api.PREDICT, predict_body(signature.name, protos)


def _examples(signature: Signature, body: Mapping[str, Any]) -> tuple[Api, bytes]:
    if signature.method not in _EXAMPLE_CALLS:
        raise NotRestForm(f"examples: signature {signature.name!r} is for Predict, it takes instances or inputs")
    api, message = _EXAMPLE_CALLS[signature.method]
    request = message()
    request.model_spec.signature_name = signature.name
    try:
        request.input.CopyFrom(input_of(body))
    except ValueError as error:
        raise NotRestForm(str(error)) from error
    return api, request.SerializeToString(deterministic=True)


def _signature(signatures: Mapping[str, Signature], body: Mapping[str, Any]) -> Signature:
    unknown = sorted(body.keys() - _KNOWN)
    if unknown:
        raise NotRestForm(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(_KNOWN))}")
    name = body.get("signature_name", DEFAULT_SIGNATURE) or DEFAULT_SIGNATURE
    if not isinstance(name, str) or name not in signatures:
        raise NotRestForm(f"signature_name: the model has no signature {name!r}, only {', '.join(sorted(signatures))}")
    return signatures[name]


def _rows(signature: Signature, instances: Any) -> dict[str, Any]:
    """Input name -> list of values, one per row."""
    if not isinstance(instances, list) or not instances:
        raise NotRestForm("instances: must be a list with at least one row")
    only = signature.only_input
    if only is not None and not all(_names_input(row, only.name) for row in instances):
        return {only.name: instances}
    for number, row in enumerate(instances):
        if not isinstance(row, dict):
            raise NotRestForm(f"instances[{number}]: must be an object with the keys {_keys(signature)}")
        _same_keys(f"instances[{number}]", row, signature)
    return {key: [row[key] for row in instances] for key in signature.inputs}


def _columns(signature: Signature, inputs: Any) -> dict[str, Any]:
    only = signature.only_input
    if only is not None and not _names_input(inputs, only.name):
        if isinstance(inputs, dict) and not _is_b64(inputs):
            _same_keys("inputs", inputs, signature)
        return {only.name: inputs}
    if not isinstance(inputs, dict):
        raise NotRestForm(f"inputs: must be an object with the keys {_keys(signature)}")
    _same_keys("inputs", inputs, signature)
    return inputs


def _names_input(value: Any, name: str) -> bool:
    return isinstance(value, dict) and name in value and not (name == "b64" and _is_b64(value))


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _keys(signature: Signature) -> str:
    return ", ".join(signature.inputs)


def _same_keys(where: str, row: Mapping[str, Any], signature: Signature) -> None:
    missing, extra = sorted(signature.inputs.keys() - row.keys()), sorted(row.keys() - signature.inputs.keys())
    if missing:
        raise NotRestForm(
            f"{where}: input {missing[0]!r} is missing; signature {signature.name!r} needs {_keys(signature)}"
        )
    if extra:
        raise NotRestForm(f"{where}: {extra[0]!r} is no input; signature {signature.name!r} takes {_keys(signature)}")


def _array(value: Any, spec: TensorSpec) -> Array:
    """The JSON value as an array of the input's dtype. Raises NotRestForm naming the input.

    Shapes are left to the server, which does not hold them against the signature either.
    """
    try:
        return _strings(value) if spec.dtype == STRING else _numbers(value, spec)
    except (ValueError, OverflowError, TypeError) as error:
        raise NotRestForm(f"input {spec.name!r}: {error}") from error


def _numbers(value: Any, spec: TensorSpec) -> Array:
    try:
        raw = np.array(value)
    except ValueError:
        raise ValueError("lists of unequal length, or a list beside a number") from None
    wanted = spec.numpy
    if raw.size == 0:
        return raw.astype(wanted)
    allowed = {"b": "b", "f": "iuf"}.get(wanted.kind, "iu")
    if raw.dtype.kind not in allowed:
        found = {"U": "text", "O": "null, an object or a ragged list", "b": "true/false"}.get(
            raw.dtype.kind, "fractions"
        )
        raise ValueError(f"must be {spec.type_name}, found {found}")
    if wanted.kind in "iu":
        limits = np.iinfo(wanted)
        if int(raw.min()) < limits.min or int(raw.max()) > limits.max:
            raise ValueError(f"a value is outside the range of {spec.type_name}")
    return raw.astype(wanted)


def _strings(value: Any) -> Array:
    """An object array of bytes; {"b64": ...} and text are leaves."""
    shape: list[int] = []
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        if not inner:
            break
        inner = inner[0]
    leaves: list[bytes] = []
    _collect(value, shape, leaves)
    array = np.empty(len(leaves), object)
    array[:] = leaves
    return array.reshape(shape)


def _collect(value: Any, shape: Sequence[int], leaves: list[bytes]) -> None:
    if shape:
        if not isinstance(value, list) or len(value) != shape[0]:
            raise ValueError("lists of unequal length")
        for item in value:
            _collect(item, shape[1:], leaves)
    elif isinstance(value, str):
        leaves.append(value.encode())
    elif _is_b64(value):
        leaves.append(_unbase64(value["b64"]))
    else:
        raise ValueError('must be text or {"b64": ...}')


def _unbase64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(f'the text under "b64" is not base64: {error}') from error


def read_lines(path: Path, signatures: Mapping[str, Signature]) -> Iterator[Request | Malformed]:
    """The requests of a JSONL file, plain or gzip, in its order; a bad line is an Unusable in its place.

    `row` is the line's number from 0 and `id` is the line's own "id", else
    "file:line". Blank lines count as lines and give nothing. Raises Unavailable
    when the file cannot be read.
    """
    with opened(path) as lines:
        number = 0
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield read_line(line, f"{path.name}:{number}", number - 1, signatures)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            yield Unusable(f"{path.name}:{number + 1}", f"broken gzip: {error}", Flaw.TRUNCATED)


def _fields(given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        raise NotRestForm('fields: must be an object such as {"country": "DE"}')
    texts = {name: as_text(value) for name, value in given.items()}
    if bad := [name for name, text in texts.items() if text is None]:
        raise NotRestForm(f"fields.{bad[0]}: must be text, a number, true or false")
    return {name: text for name, text in texts.items() if text is not None}


def read_line(line: bytes, where: str, row: int, signatures: Mapping[str, Signature]) -> Request | Unusable:
    """The request of one line, named by its own "id" or else `where`."""
    try:
        body = json.loads(line)
        if not isinstance(body, dict):
            return Unusable(where, "must be a JSON object", Flaw.FORMAT)
        truth = body.get("truth")
        if truth is not None and not isinstance(truth, int | float | str):
            return Unusable(where, "truth: must be a number or text", Flaw.LABEL)
        api, message = call_of(signatures, body)
        return Request(str(body.get("id", where)), api, message, row, truth, _fields(body.get("fields", {})))
    except RecursionError:
        return Unusable(where, "nested too deeply", Flaw.FORMAT)
    except (NotRestForm, UnsupportedType) as error:
        return Unusable(where, str(error), Flaw.SIGNATURE)
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        return Unusable(where, f"not JSON: {error}", Flaw.FORMAT)
