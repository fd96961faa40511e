"""The choice of version in a request, and the version in an answer, without parsing tensors.

Every prediction message keeps its ModelSpec in a field of its own. protobuf
merges a sub-message that occurs twice, the last scalar and the last arm of a
oneof winning, so appending a few bytes to a serialized request chooses the
version; and walking over the top-level fields of an answer finds who answered.
Owns: this byte work. Leaves to the client: sending.

Source: protobuf.dev/programming-guides/encoding ("last one wins", merging);
tensorflow_serving/apis/{model,predict,classification,regression,get_model_metadata}.proto.
"""

from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError

from haldane import wire
from haldane.domain.fleet import ModelName

# Where a message keeps its ModelSpec.
REQUEST_SPEC_FIELD = 1  # every request of PredictionService
_REQUEST_SPEC_TAG = b"\x0a"  # the same, length-delimited
ANSWER_SPEC_FIELD = 2  # Predict, Classification and Regression responses
METADATA_SPEC_FIELD = 1  # GetModelMetadataResponse

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@lru_cache(maxsize=4096)  # a few dozen models, versions and labels; bounded against made-up ones
def model_spec(model: ModelName, version: int | str | None) -> bytes:
    """The bytes to append to a request so that it asks `model` for this version number, label (str) or neither."""
    spec = wire.ModelSpec(name=model)
    if isinstance(version, str):
        spec.version_label = version
    elif version is not None:
        spec.version.SetInParent()  # version 0 is a version; an unset wrapper would mean "latest"
        spec.version.value = version
    data: bytes = spec.SerializeToString()
    return _REQUEST_SPEC_TAG + _varint(len(data)) + data


def addressed(body: bytes, model: ModelName, version: int | str | None) -> bytes:
    """The request with the choice of version in it; the body's own signature name stays."""
    return body + model_spec(model, version)


def answered_by(answer: bytes, field: int = ANSWER_SPEC_FIELD) -> int | None:
    """The version that gave this answer, None when it does not say.

    Looks at top-level fields only, so its cost does not grow with the tensors.
    Raises DecodeError when the bytes are no protobuf message.
    """
    found = _field(answer, field)
    if not found:
        return None
    spec = wire.ModelSpec.FromString(found)
    return int(spec.version.value) if spec.HasField("version") else None


def asked_of(body: bytes) -> Any:
    """The ModelSpec of a request: what it asks for.

    Looks at top-level fields only. Raises DecodeError when the bytes are no protobuf message.
    """
    return wire.ModelSpec.FromString(_field(body, REQUEST_SPEC_FIELD))


def _field(data: bytes, wanted: int) -> bytes:
    """All occurrences of a length-delimited field, joined: parsing them is merging them."""
    found, at, end = b"", 0, len(data)
    while at < end:
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == _BYTES:
            length, at = _read_varint(data, at)
            if tag >> 3 == wanted:
                found += data[at : at + length]
            at += length
        elif kind == _VARINT:
            _, at = _read_varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise DecodeError(f"wire type {kind} at byte {at}")
    if at != end:
        raise DecodeError("the message ends inside a field")
    return found


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise DecodeError("the message ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise DecodeError("a number of more than ten bytes")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
