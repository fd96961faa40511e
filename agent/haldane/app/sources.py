"""From the settings of one model to its traffic source and the first request of it."""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace

from haldane.adapters.replay import Replay
from haldane.adapters.tables import TableForm, read_table
from haldane.config import ModelSection, TrafficSection
from haldane.domain.fleet import ModelName
from haldane.domain.traffic import Request
from haldane.ports import Malformed, PortError, Refused, TrafficSource, Unavailable
from haldane.serving.client import ServingClient
from haldane.serving.fields import with_fields
from haldane.serving.records import read_examples, read_prediction_logs
from haldane.serving.restform import read_lines
from haldane.tensors import Signature


async def open_source(
    model: ModelName,
    section: ModelSection,
    stable: int,
    clients: Iterable[ServingClient],
    *,
    fields: frozenset[str] = frozenset(),
) -> Replay | None:
    """The model's source; None when it has none. PortError when no server can say what the model takes.

    Requests carry those of `fields` that they have: what slices are made by.
    """
    if section.traffic is None:
        return None
    traffic = section.traffic
    signatures = {} if traffic.kind == "prediction_log" else await signatures_of(model, stable, clients)
    named_by = section.labels.id if section.labels else ""
    return Replay(traffic.path.name, lambda: named(read(traffic, model, signatures, fields), named_by))


def named(requests: Iterable[Request | Malformed], field: str) -> Iterable[Request | Malformed]:
    """The requests with the value of that field as their id, which labels that come later name; "": as they are."""
    if not field:
        return requests
    return (
        replace(one, id=one.fields[field]) if isinstance(one, Request) and field in one.fields else one
        for one in requests
    )


class Onward:
    """A source taken up again: rows judged before are passed over until one comes that was not.

    Otherwise every restart would replay what has been judged, at the rate of
    the shadow, before it learns anything new.
    """

    def __init__(self, source: TrafficSource, judged_rows: Iterable[int]) -> None:
        self._source, self._judged = source, frozenset(judged_rows)

    async def requests(self) -> AsyncIterator[Request]:
        passing, first = bool(self._judged), None
        async for request in self._source.requests():
            again = request.row == first
            first = request.row if first is None else first
            passing = passing and request.row in self._judged and not again
            if not passing:
                yield request


async def first_request(source: Replay) -> Request:
    """The request every version must answer before it is labelled. Malformed or Unavailable when there is none."""
    requests = source.requests()
    try:
        return await anext(aiter(requests))
    except StopAsyncIteration:
        raise Malformed(source.name, "holds no request") from None
    finally:
        await requests.aclose()  # type: ignore[attr-defined]


async def signatures_of(model: ModelName, stable: int, clients: Iterable[ServingClient]) -> dict[str, Signature]:
    """Asked of the stable version on the first server that answers."""
    last: PortError = Unavailable("servers", "there is none")
    for client in clients:
        try:
            return await client.signatures(model, stable)
        except PortError as error:
            last = error
    raise last


def read(
    traffic: TrafficSection, model: ModelName, signatures: Mapping[str, Signature], fields: frozenset[str] = frozenset()
) -> Iterable[Request | Malformed]:
    """The records of one source, once, with those of the fields that they have."""
    requests = _requests(traffic, model, signatures, fields)
    return with_fields(requests, fields) if fields else requests


def _requests(
    traffic: TrafficSection, model: ModelName, signatures: Mapping[str, Signature], fields: frozenset[str]
) -> Iterable[Request | Malformed]:
    match traffic.kind:
        case "labelled":
            form = TableForm(
                label=traffic.label, columns=traffic.columns, signature=traffic.signature, fields=tuple(sorted(fields))
            )
            return read_table(traffic.path, signatures, form)
        case "examples":
            return read_examples(
                traffic.path, signatures, signature=traffic.signature, label=traffic.label, fields=fields
            )
        case "rest_jsonl":
            return read_lines(traffic.path, signatures)
        case "prediction_log":
            return read_prediction_logs(traffic.path, model=model)
        case other:
            raise Refused(str(model), f"unknown traffic source {other}")
