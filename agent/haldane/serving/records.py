"""TFRecord files of requests: PredictionLog as Serving logs it, and labelled tf.train.Examples.

Owns the framing (length and masked CRC32C, plain or gzip) and the two record
types. A record that cannot be read is a value in its place. Data that fails its
checksum is passed over; where a length is lost the file ends, since nothing after
it can be found. What came before it is kept.
Source: tensorflow/core/lib/io/record_writer.cc; apis/prediction_log.proto.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError

from haldane import wire
from haldane.domain.traffic import Api, Request
from haldane.files import opened
from haldane.judge.slices import as_text
from haldane.ports import Flaw, Malformed, Unusable
from haldane.tensors import STRING, Array, Signature, TensorSpec, UnsupportedType, encode, predict_body

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK = 0xA282EAD8
# A length with a good checksum is still refused beyond Serving's own message limit.
_LARGEST_RECORD = 2**31 - 1
CLASSIFY_METHOD, REGRESS_METHOD = "tensorflow/serving/classify", "tensorflow/serving/regress"


def masked_crc(data: bytes) -> int:
    """The checksum that TFRecord stores of these bytes."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """One TFRecord: length, its checksum, data, its checksum."""
    length = struct.pack("<Q", len(data))
    return length + _FOOTER.pack(masked_crc(length)) + data + _FOOTER.pack(masked_crc(data))


class _WrongChecksum(ValueError):
    """A record whose data is not what was written; its length is, so the next one can be found."""

    def __init__(self, length: int) -> None:
        super().__init__("the data's checksum is wrong")
        self.length = length


def read_frames(path: Path) -> Iterator[bytes | Unusable]:
    """The records of a TFRecord file, an Unusable with its byte offset in the place of a broken one.

    Offsets count uncompressed bytes. Raises Unavailable when the file cannot be opened.
    """
    with opened(path) as file:
        yield from _frames(path.name, file)


def _frames(name: str, file: IO[bytes]) -> Iterator[bytes | Unusable]:
    offset = 0
    while True:
        try:
            data = _next_frame(file)
        except _WrongChecksum as error:
            yield Unusable(name, f"broken TFRecord at byte {offset}: {error}; it is passed over", Flaw.CHECKSUM)
            offset += _HEADER.size + error.length + _FOOTER.size
            continue
        except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            says = f"broken TFRecord at byte {offset}: {error}; the records before it are kept"
            yield Unusable(name, says, Flaw.TRUNCATED)
            return
        if data is None:
            return
        yield data
        offset += _HEADER.size + len(data) + _FOOTER.size


def _next_frame(file: IO[bytes]) -> bytes | None:
    """The next record's data, None at the end; ValueError says what is broken."""
    header = file.read(_HEADER.size)
    if not header:
        return None
    if len(header) < _HEADER.size:
        raise ValueError(f"the file ends inside a header ({len(header)} of {_HEADER.size} bytes)")
    length, checksum = _HEADER.unpack(header)
    if masked_crc(header[:8]) != checksum:
        raise ValueError("the length's checksum is wrong; is this a TFRecord file?")
    if length > _LARGEST_RECORD:
        raise ValueError(f"a record of {length} bytes")
    data = file.read(length)
    footer = file.read(_FOOTER.size)
    if len(data) < length or len(footer) < _FOOTER.size:
        raise ValueError(f"the file ends inside a record of {length} bytes")
    if masked_crc(data) != _FOOTER.unpack(footer)[0]:
        raise _WrongChecksum(length)
    return data


# --- PredictionLog -----------------------------------------------------------

_LOGS = {"predict_log": Api.PREDICT, "classify_log": Api.CLASSIFY, "regress_log": Api.REGRESS}


def read_prediction_logs(path: Path, *, model: str | None = None) -> Iterator[Request | Malformed]:
    """The Predict, Classify and Regress requests of a PredictionLog file, `row` counting its records from 0.

    Name, version and label of a logged request are dropped, its signature stays. With `model`
    given, a request that was logged for another model is Malformed.
    """
    for row, data in enumerate(read_frames(path)):
        yield data if isinstance(data, Malformed) else read_log(data, f"{path.name}#{row}", row, model)


def log_of(api: Api, request: Any) -> bytes:
    """The serialized PredictionLog of one request message, as `read_log` reads it."""
    log = wire.PredictionLog()
    kind = next(kind for kind, of in _LOGS.items() if of is api)
    getattr(log, kind).request.CopyFrom(request)
    return bytes(log.SerializeToString(deterministic=True))


def read_log(data: bytes, where: str, row: int, model: str | None) -> Request | Unusable:
    """The request of one serialized PredictionLog, with `where` as its id."""
    try:
        log = wire.PredictionLog.FromString(data)
    except DecodeError:
        return Unusable(where, "not a PredictionLog", Flaw.FORMAT)
    kind = log.WhichOneof("log_type")
    if kind not in _LOGS:
        says = f"holds {kind or 'no log'}; predict, classify and regress logs can be sent again"
        return Unusable(where, says, Flaw.FORMAT)
    request = getattr(log, kind).request
    if model is not None and request.model_spec.name not in ("", model):
        says = f"was logged for model {request.model_spec.name!r}, not {model!r}"
        return Unusable(where, says, Flaw.OTHER_MODEL)
    if kind == "predict_log" and not request.inputs:
        return Unusable(where, "a predict log without inputs", Flaw.FORMAT)
    _keep_signature_only(request.model_spec)
    return Request(where, _LOGS[kind], request.SerializeToString(deterministic=True), row)


def _keep_signature_only(spec: Any) -> None:
    signature = spec.signature_name
    spec.Clear()
    spec.signature_name = signature


# --- labelled tf.train.Example -----------------------------------------------


class _BadLabel(ValueError):
    """The right answer of an Example is missing or is no answer."""


@dataclass(frozen=True, slots=True)
class ExampleForm:
    """How an Example becomes a request: by the signature's method and inputs.

    A classify or regress signature takes it as it is; a Predict signature whose one
    input is a string that no feature is named after takes it serialized; any other
    takes its features as columns. The label never travels.
    """

    signature: Signature
    label: str | None = None
    fields: frozenset[str] = frozenset()  # features to slice by, where an Example has one value

    def request(self, data: bytes, where: str, row: int) -> Request:
        """Raises ValueError that says which feature is missing or has the wrong type."""
        example = wire.Example.FromString(data)
        features = example.features.feature
        truth = None if self.label is None else _truth(features, self.label)
        sliced = _sliced(features, self.fields)  # before the label goes: slices by the right answer are its classes
        if self.label is not None:
            del features[self.label]
        api = {CLASSIFY_METHOD: Api.CLASSIFY, REGRESS_METHOD: Api.REGRESS}.get(self.signature.method, Api.PREDICT)
        if api is not Api.PREDICT:
            return Request(where, api, _input_body(api, self.signature.name, example), row, truth, sliced)
        return Request(where, api, self._predict(example, features), row, truth, sliced)

    def _predict(self, example: Any, features: Any) -> bytes:
        only = self.signature.only_input
        if only is not None and only.dtype == STRING and only.name not in features:
            serialized = np.empty(1, object)
            serialized[0] = example.SerializeToString(deterministic=True)
            return predict_body(self.signature.name, {only.name: encode(serialized, STRING)})
        columns = {key: encode(_column(features, spec), spec.dtype) for key, spec in self.signature.inputs.items()}
        return predict_body(self.signature.name, columns)


def _input_body(api: Api, signature: str, example: Any) -> bytes:
    request = wire.ClassificationRequest() if api is Api.CLASSIFY else wire.RegressionRequest()
    request.model_spec.signature_name = signature
    request.input.example_list.examples.append(example)
    return bytes(request.SerializeToString(deterministic=True))


def _values(features: Any, name: str) -> list[Any]:
    if name not in features:
        raise ValueError(f"no feature {name!r}; it has {', '.join(sorted(features)) or 'none'}")
    kind = features[name].WhichOneof("kind")
    return [] if kind is None else list(getattr(features[name], kind).value)


def _sliced(features: Any, names: frozenset[str]) -> dict[str, str]:
    given = {name: _values(features, name) for name in sorted(names & set(features))}
    texts = {name: as_text(values[0]) for name, values in given.items() if len(values) == 1}
    return {name: text for name, text in texts.items() if text is not None}


def _truth(features: Any, name: str) -> float | str:
    try:
        values = _values(features, name)
    except ValueError as error:
        raise _BadLabel(str(error)) from None
    if len(values) != 1:
        raise _BadLabel(f"label {name!r} has {len(values)} values, one is needed")
    truth = values[0]
    if isinstance(truth, bytes):
        return truth.decode(errors="replace")
    if math.isnan(truth):
        raise _BadLabel(f"label {name!r} is NaN")
    return float(truth)


def _column(features: Any, spec: TensorSpec) -> Array:
    """(1, ...) of the input's dtype, from the feature named after it."""
    values = _values(features, spec.name)
    is_text = bool(values) and isinstance(values[0], bytes)
    if is_text != (spec.dtype == STRING):
        raise ValueError(f"feature {spec.name!r} is {'text' if is_text else 'numbers'}, the input is {spec.type_name}")
    array = np.empty(len(values), spec.numpy)
    array[:] = values
    shape = (1, *(spec.shape or (1, -1))[1:])
    try:
        return array.reshape(shape)
    except ValueError:
        raise ValueError(f"feature {spec.name!r} has {len(values)} values, the input's shape is {spec.shape}") from None


def read_examples(
    path: Path,
    signatures: Mapping[str, Signature],
    *,
    signature: str = "serving_default",
    label: str | None = None,
    fields: frozenset[str] = frozenset(),
) -> Iterator[Request | Malformed]:
    """The Examples of a TFRecord file as requests, with the truth read from feature `label`.

    `row` counts records from 0. An Example that lacks the label or an input is Malformed in
    its place. Raises Malformed when the model has no such signature.
    """
    if signature not in signatures:
        raise Malformed(path.name, f"the model has no signature {signature!r}, only {', '.join(sorted(signatures))}")
    form = ExampleForm(signatures[signature], label, fields)
    for row, data in enumerate(read_frames(path)):
        if isinstance(data, Malformed):
            yield data
            continue
        try:
            yield form.request(data, f"{path.name}#{row}", row)
        except DecodeError:
            yield Unusable(f"{path.name}#{row}", "not a tf.train.Example", Flaw.FORMAT)
        except _BadLabel as error:
            yield Unusable(f"{path.name}#{row}", str(error), Flaw.LABEL)
        except (ValueError, OverflowError, UnsupportedType) as error:
            yield Unusable(f"{path.name}#{row}", str(error), Flaw.SIGNATURE)
