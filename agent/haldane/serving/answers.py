"""What Serving's codes and words mean to us.

Owns: the reading of gRPC errors as a Status or a PortError, and of status answers as values. The words are those
of the real server; where a code alone would mislead, they decide.

Source: recorded transcripts of TF Serving 2.20 (predict_addressing,
threads_exhausted, broken_missing_variables, reload_*); model_servers/server_core.cc.
"""

from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio

from haldane import wire
from haldane.domain.fleet import Availability, VersionStatus
from haldane.domain.traffic import Status
from haldane.ports import PortError, Refused, Unavailable

Code = grpc.StatusCode
WORDS = 1000  # Serving cuts its own at 1024 bytes

_STATUS = {
    Code.DEADLINE_EXCEEDED: Status.TIMEOUT,
    Code.UNAVAILABLE: Status.UNAVAILABLE,
    Code.CANCELLED: Status.UNAVAILABLE,
    Code.INVALID_ARGUMENT: Status.INVALID,
    Code.OUT_OF_RANGE: Status.INVALID,
    Code.UNIMPLEMENTED: Status.INVALID,
    Code.UNAUTHENTICATED: Status.INVALID,
    Code.PERMISSION_DENIED: Status.INVALID,
    Code.RESOURCE_EXHAUSTED: Status.EXHAUSTED,
}
# (code, words in the message) that mean something else than the code alone.
_BY_WORDS = (
    (Code.NOT_FOUND, "Servable not found for request", Status.NOT_FOUND),
    (Code.INVALID_ARGUMENT, "Unrecognized servable version label", Status.NOT_FOUND),
    (Code.UNAVAILABLE, "Model labels does not init yet", Status.NOT_FOUND),
    (Code.UNAVAILABLE, "batch scheduling queue", Status.EXHAUSTED),
    (Code.RESOURCE_EXHAUSTED, "timeout exceeded while waiting in batching queue", Status.TIMEOUT),
    (Code.RESOURCE_EXHAUSTED, "OOM when allocating", Status.INTERNAL),
    (Code.FAILED_PRECONDITION, "Serving signature key", Status.INVALID),
)

# Says nothing about the version itself: ask again later.
PASSING = frozenset({Status.TIMEOUT, Status.UNAVAILABLE, Status.EXHAUSTED, Status.NOT_FOUND})

_CLEAR_NO = (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION)
_NOT_OURS = (Code.UNIMPLEMENTED, Code.UNAUTHENTICATED, Code.PERMISSION_DENIED)


def status_of(code: grpc.StatusCode, words: str) -> Status:
    """How a prediction call that failed so ended.

    FAILED_PRECONDITION is INTERNAL unless it names the signature: a model
    without its variables answers every request with it.
    """
    for when, part, status in _BY_WORDS:
        if code is when and part in words:
            return status
    return _STATUS.get(code, Status.INTERNAL)


def words_of(error: grpc.aio.AioRpcError) -> str:
    """The server's (or gRPC's) own words with the code, cut to a readable length."""
    return said(error.code(), error.details())


def said(code: grpc.StatusCode, details: str | None) -> str:
    """Likewise."""
    words = f"{code.name}: {details or 'no message'}"
    return words if len(words) <= WORDS else words[:WORDS] + "..."


def look_failed(server: str, error: grpc.aio.AioRpcError) -> PortError:
    """A status or label probe got no answer that can be used."""
    if error.code() in _NOT_OURS:
        return Refused(server, f"status was refused, is this a TF Serving gRPC port? {words_of(error)}")
    return Unavailable(server, words_of(error))


def reload_failed(server: str, error: grpc.aio.AioRpcError) -> PortError:
    """Refused: it said no, which may still have changed something. Unavailable: nobody knows; either way, look."""
    words = words_of(error)
    if error.code() in _CLEAR_NO:
        return Refused(server, words + _hint(words))
    if error.code() in _NOT_OURS:
        return Refused(server, words)
    return Unavailable(server, f"outcome of the reload not known, look again: {words}")


def _hint(words: str) -> str:
    """What a person should do about a no that its words do not explain."""
    if "neither ModelServerConfig::model_type" in words:
        return " (every model we send has a platform: an earlier config poisoned this server; it must be restarted)"
    if "not currently available for inference" in words:
        return " (a label points to a version that is not loaded)"
    return ""


def version_statuses(parsed: Any) -> Iterable[VersionStatus]:
    """A GetModelStatusResponse as values; a state we do not know is left out rather than guessed."""
    states = wire.POOL.FindEnumTypeByName("tensorflow.serving.ModelVersionStatus.State").values_by_number
    codes = wire.POOL.FindEnumTypeByName("tensorflow.error.Code").values_by_number
    for line in parsed.model_version_status:
        state = states.get(line.state)
        if state is None or state.name not in Availability.__members__:
            continue
        code = codes.get(line.status.error_code)
        yield VersionStatus(
            line.version,
            Availability[state.name],
            code.name if code else "UNKNOWN",
            line.status.error_message[: 2 * WORDS],
        )
