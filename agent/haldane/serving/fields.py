"""What a request may be sliced by that stands in the request itself.

An input, or a feature of an Example, of which one request has exactly one
value. Readers add what does not travel to the model, such as a table's column.
"""

import math
from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from typing import Any

from haldane import wire
from haldane.domain.traffic import Api, Request
from haldane.judge.slices import as_text
from haldane.ports import Malformed
from haldane.tensors import UnsupportedType, decode


def with_fields(requests: Iterable[Request | Malformed], names: Set[str]) -> Iterator[Request | Malformed]:
    """The same requests, each with those of the named fields that its body holds; a reader's own come first."""
    for request in requests:
        if isinstance(request, Request) and (missing := names - request.fields.keys()):
            yield replace(request, fields={**fields_of(request.api, request.body, missing), **request.fields})
        else:
            yield request


def fields_of(api: Api, body: bytes, names: Set[str]) -> dict[str, str]:
    """The named inputs or features that have exactly one value in this request, as text."""
    found = _inputs(body, names) if api is Api.PREDICT else _features(api, body, names)
    texts = {name: as_text(values[0]) for name, values in found.items() if len(values) == 1}
    return {name: text for name, text in texts.items() if text is not None}


def _inputs(body: bytes, names: Set[str]) -> dict[str, Any]:
    inputs = wire.PredictRequest.FromString(body).inputs
    found = {}
    for name in sorted(names & set(inputs)):
        if math.prod(dim.size for dim in inputs[name].tensor_shape.dim) != 1:
            continue  # not one value; and a few bytes can claim a shape that fills the memory
        try:
            found[name] = decode(inputs[name]).reshape(-1)
        except (UnsupportedType, ValueError):
            continue  # the server's affair: a slice only leaves it out
    return found


def _features(api: Api, body: bytes, names: Set[str]) -> dict[str, Any]:
    """Of a Classify or Regress request with a single Example; its context counts too."""
    message = wire.ClassificationRequest if api is Api.CLASSIFY else wire.RegressionRequest
    given = message.FromString(body).input
    listed = getattr(given, given.WhichOneof("kind") or "example_list")
    if len(listed.examples) != 1:
        return {}
    parts = [listed.context, listed.examples[0]] if hasattr(listed, "context") else [listed.examples[0]]
    found = {}
    for part in parts:
        features = part.features.feature
        for name in sorted(names & set(features)):
            kind = features[name].WhichOneof("kind")
            found[name] = list(getattr(features[name], kind).value) if kind else []
    return found
