"""The choice of version in a request, and the version in an answer, without parsing tensors.

Every prediction message keeps its ModelSpec in a field of its own. protobuf
merges a sub-message that occurs twice, the last scalar and the last arm of a
oneof winning, so appending a few bytes to a serialized request chooses the
version; and a message that leaves the outputs as bytes finds who answered.
Owns: this byte work. Leaves to the client: sending.

Source: protobuf.dev/programming-guides/encoding ("last one wins", merging);
tensorflow_serving/apis/{model,predict,classification,regression,get_model_metadata}.proto.
"""

from functools import lru_cache
from typing import Any

from haldane import wire
from haldane.domain.fleet import ModelName
from haldane.domain.traffic import Choice, Elsewhere
from haldane.serving.alike import Alike

_REQUEST_SPEC_TAG = b"\x0a"  # field 1, length-delimited, in every request of PredictionService
_OUTPUT_TAG, _ANSWER_SPEC_TAG = b"\x0a", b"\x12"  # fields 1 and 2 of every answer


@lru_cache(maxsize=4096)  # a few dozen models, versions and labels; bounded against made-up ones
def model_spec(model: ModelName, version: Choice | None) -> bytes:
    """The bytes to append to a request so that it asks `model` for this version number, label (str) or neither.

    Elsewhere asks the name it gives, in place of `model`.
    """
    if isinstance(version, Elsewhere):
        model, version = ModelName(version.name), version.version
    spec = wire.ModelSpec(name=model)
    if isinstance(version, str):
        spec.version_label = version
    elif version is not None:
        spec.version.SetInParent()  # version 0 is a version; an unset wrapper would mean "latest"
        spec.version.value = version
    data: bytes = spec.SerializeToString()
    return _REQUEST_SPEC_TAG + _varint(len(data)) + data


def addressed(body: bytes, model: ModelName, version: Choice | None) -> bytes:
    """The request with the choice of version in it; the body's own signature name stays."""
    return body + model_spec(model, version)


def answered_by(answer: bytes) -> int | None:
    """The version that gave this answer to a prediction, None when it does not say.

    Asked of every answer, so one laid out like an earlier one is not taken apart again.
    Raises DecodeError when the bytes are no protobuf message.
    """
    try:
        return _versions[answer]
    except KeyError:
        reply = wire.Reply.FromString(answer)
        version = _version(b"".join(reply.model_spec))
        _remember(answer, reply, version)
        return version


_versions: Alike[int | None] = Alike()


def _remember(answer: bytes, reply: Any, version: int | None) -> None:
    """Where an answer is its outputs and then its ModelSpec, as servers write it: every other with the same tags and
    lengths of outputs, and the same end, is laid out so, too."""
    parts, place = [], 0
    for output in reply.outputs:
        header = _OUTPUT_TAG + _varint(len(output))
        parts.append((place, header))
        place += len(header) + len(output)
    spec = b"".join(reply.model_spec)
    parts.append((place, _ANSWER_SPEC_TAG + _varint(len(spec)) + spec))
    if place + len(parts[-1][1]) == len(answer):
        _versions.keep(answer, parts, version)


def described(metadata: bytes) -> int | None:
    """The version that an answer to GetModelMetadata is about; likewise."""
    return _version(b"".join(wire.Head.FromString(metadata).model_spec))


def asked_of(body: bytes) -> Any:
    """The ModelSpec of a request: what it asks for. Raises DecodeError when the bytes are no protobuf message."""
    return wire.ModelSpec.FromString(b"".join(wire.Head.FromString(body).model_spec))


@lru_cache(maxsize=256)  # every answer of a version says it in the same bytes
def _version(spec: bytes) -> int | None:
    found = wire.ModelSpec.FromString(spec)
    return int(found.version.value) if found.HasField("version") else None  # 0 is a version, an unset wrapper is none


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
