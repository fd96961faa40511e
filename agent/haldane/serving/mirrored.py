"""A mirrored call as a request message. Never on the mirror's time: a body may take long to parse."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError

from haldane import wire
from haldane.domain.traffic import Api
from haldane.serving.intake import Mirrored
from haldane.serving.restform import NotRestForm, call_of
from haldane.tensors import Signature, UnsupportedType

_MESSAGES: dict[Api, Any] = {
    Api.PREDICT: wire.PredictRequest,
    Api.CLASSIFY: wire.ClassificationRequest,
    Api.REGRESS: wire.RegressionRequest,
}
_GZIP_BITS = 16 + zlib.MAX_WBITS
# What Serving knows of a body; the keys that are ours in a file of such bodies are nobody's to send.
_BODY_KEYS = {"signature_name", "instances", "inputs", "examples", "context"}


class NotUsable(ValueError):
    """A call that the model could not take either; the text says why."""


def request_of(call: Mirrored, signatures: Mapping[str, Signature], *, largest: int) -> Any:
    """The request message, model and signature named in it. Raises NotUsable.

    `signatures` are only looked at for a REST body, `largest` bounds what one may unpack to.
    """
    message = _MESSAGES[call.api]
    try:
        request = message.FromString(_from_rest(call, signatures, largest) if call.rest else call.body)
    except DecodeError as error:
        raise NotUsable(f"not a {call.api} request") from error
    request.model_spec.name = call.model
    if call.api is Api.PREDICT and not request.inputs:
        raise NotUsable("a Predict request without inputs")
    if call.api is not Api.PREDICT and not request.input.WhichOneof("kind"):
        raise NotUsable(f"a {call.api} request without input")
    return request


def _from_rest(call: Mirrored, signatures: Mapping[str, Signature], largest: int) -> bytes:
    try:
        body = json.loads(_unpacked(call.body, largest) if call.gzip else call.body)
        if not isinstance(body, dict):
            raise NotUsable("the body is no JSON object")
        api, message = call_of(signatures, {key: value for key, value in body.items() if key in _BODY_KEYS})
    except RecursionError as error:
        raise NotUsable("nested too deeply") from error
    except (NotRestForm, UnsupportedType, ValueError) as error:  # JSONDecodeError and UnicodeDecodeError among them
        raise NotUsable(str(error)) from error
    if api is not call.api:
        raise NotUsable(f"the body is a {api} request, the path says {call.api}")
    return message


def _unpacked(body: bytes, largest: int) -> bytes:
    try:
        packed = zlib.decompressobj(_GZIP_BITS)
        text = packed.decompress(body, largest)
    except zlib.error as error:
        raise NotUsable(f"broken gzip: {error}") from error
    if packed.unconsumed_tail or not packed.eof:
        raise NotUsable("gzip that is cut off, or unpacks to more than the largest request")
    return text
