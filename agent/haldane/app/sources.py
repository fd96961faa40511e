"""From the settings of one model to its traffic source and the first request of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from haldane.adapters.arrays import read_arrays
from haldane.adapters.kafka import Topic, TopicTerms, client_settings
from haldane.adapters.replay import OnFlaw, Replay
from haldane.adapters.tables import TableForm, read_table
from haldane.config import ModelSection, TopicSection, TrafficSection
from haldane.domain.fleet import ModelName
from haldane.domain.traffic import Request, Status
from haldane.files import FileSet, is_url, kind_of
from haldane.ports import Flaw, Malformed, PortError, Refused, TrafficSource, Unavailable, Unusable
from haldane.release.check import folder_of
from haldane.serving import splice
from haldane.serving.answers import PASSING
from haldane.serving.client import ServingClient
from haldane.serving.fields import with_fields
from haldane.serving.madeup import made_up
from haldane.serving.records import read_examples, read_log, read_prediction_logs
from haldane.serving.restform import DEFAULT_SIGNATURE, read_line, read_lines
from haldane.serving.tapfeed import Tapped
from haldane.tensors import Signature

Source = Replay | Topic | Tapped
LOGS = ("prediction_log", "warmup", "tap")  # sources that need no signature to be read by
# Source: servables/tensorflow/saved_model_warmup_util.cc
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"


async def open_source(
    model: ModelName,
    section: ModelSection,
    stable: int,
    clients: Iterable[ServingClient],
    *,
    fields: frozenset[str] = frozenset(),
    base_path: str = "",
    tap_socket: Path = Path("tap.sock"),
    on_flaw: OnFlaw = lambda _: None,
) -> Source | None:
    """The model's source; None when it has none. PortError when no server can say what the model takes.

    Requests carry those of `fields` that they have: what slices are made by. `base_path` is where the model's
    versions lie, `tap_socket` where the tap hands calls on, and `on_flaw` is told of every record that cannot be used.
    """
    if section.traffic is None:
        return None
    traffic = section.traffic
    logged = traffic.kind in LOGS or (traffic.kafka is not None and traffic.kafka.form == "prediction_log")
    signatures = {} if logged else await signatures_of(model, stable, clients)
    named_by = section.labels.id if section.labels else ""

    def message(form: str) -> Callable[[bytes, str], Request | Malformed]:
        """What one message of a stream asks, as the record of a file would."""

        def read_one(value: bytes, where: str) -> Request | Malformed:
            one = (
                read_log(value, where, -1, model)
                if form == "prediction_log"
                else read_line(value, where, -1, signatures)
            )
            return next(iter(named(with_fields(permitted([one], traffic.exclude), fields), named_by)))

        return read_one

    if traffic.kafka is not None:
        terms = topic_terms(traffic.kafka, f"haldane-{model}")
        return Topic(terms, message(traffic.kafka.form), on_flaw=on_flaw)
    if traffic.kind == "tap":
        return Tapped(tap_socket, model, message("prediction_log"), on_flaw=on_flaw)
    if traffic.kind == "synthetic":
        return Replay("synthetic", lambda: named(made_up(signatures, traffic.signature), named_by), on_flaw=on_flaw)
    files = FileSet(_warmup_file(model, base_path, stable) if traffic.kind == "warmup" else traffic.files)

    def requests() -> Iterable[Request | Malformed]:
        return named(each_file(files, lambda path: read(traffic, path, model, signatures, fields)), named_by)

    return Replay(files.name, requests, on_flaw=on_flaw)


def topic_terms(section: TopicSection, group: str) -> TopicTerms:
    """How that topic is read; `group` when the config names none. Refused when settings_file cannot be understood."""
    return TopicTerms(
        topic=section.topic,
        brokers=section.brokers,
        group=section.group or group,
        oldest=section.start == "oldest",
        settings=client_settings(section.settings_file, section.topic),
    )


def _warmup_file(model: ModelName, base_path: str, stable: int) -> Path | str:
    """Where Serving itself looks for the requests of that version's warm-up."""
    if is_url(base_path):
        return f"{base_path.rstrip('/')}/{stable}/{WARMUP_FILE}"
    folder = folder_of(base_path, stable)
    if folder is None:
        raise Unavailable(model, f"warmup: there is no version {stable} to be read in {base_path or 'its base_path'}")
    return folder / WARMUP_FILE


def each_file(
    files: FileSet, read_one: Callable[[Path], Iterable[Request | Malformed]]
) -> Iterator[Request | Malformed]:
    """The records of all files, one after the other, rows counted on. Of several, one that cannot be read is a flaw.

    Unavailable when there is none.
    """
    paths = files.paths()
    twice = {path.name for path in paths if sum(one.name == path.name for one in paths) > 1}
    first = 0
    for number, path in enumerate(paths):
        last = -1
        try:
            for record in read_one(path):
                if isinstance(record, Request):
                    last = record.row
                    if number:  # the id of one without an id of its own begins with the file's name
                        own = path.name in twice and record.id.startswith(path.name)
                        name = f"{number}:{record.id}" if own else record.id
                        yield replace(record, row=first + record.row, id=name)
                        continue
                yield record
        except PortError as error:
            if len(paths) == 1 or isinstance(error, Refused):
                raise
            yield Unusable(path.name, error.detail, Flaw.FORMAT)
        first += last + 1


def permitted(requests: Iterable[Request | Malformed], excluded: Collection[str]) -> Iterable[Request | Malformed]:
    """The requests, an Unusable in the place of each whose signature must not be called once more."""
    if not excluded:
        return requests
    return (_permitted(one, excluded) if isinstance(one, Request) else one for one in requests)


def _permitted(request: Request, excluded: Collection[str]) -> Request | Unusable:
    name = splice.asked_of(request.body).signature_name or DEFAULT_SIGNATURE
    if name not in excluded:
        return request
    return Unusable(request.id, f"calls {name!r}, which traffic.exclude says must not be called", Flaw.EXCLUDED)


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


_ANSWER_SECONDS = 15.0  # the first inference of a version may build its graph
Answers = Callable[[Request], Awaitable[str]]  # why the stable version does not answer it, "" when it does
_TRIED = 20  # requests, to find one that stable answers


async def first_request(source: Source, answers: Answers | None = None) -> Request:
    """The request every version must answer before it is labelled. Malformed or Unavailable when there is none.

    With `answers` the first that the stable version answers: users also send what no version can, and a new one
    must not fall for that.
    """
    requests = source.recent() if isinstance(source, Topic | Tapped) else source.requests()
    tried, why = 0, ""
    async with aclosing(requests):  # type: ignore[type-var]
        async for request in requests:
            why = await answers(request) if answers else ""
            tried += 1
            if not why:
                return request
            if tried == _TRIED:
                break
    if not tried:
        raise Malformed(source.name, "holds no request")
    raise Unavailable(source.name, f"the stable version answers none of its first {tried} requests: {why}")


def answered_by(model: ModelName, stable: int, clients: Iterable[ServingClient]) -> Answers:
    """Asks the stable version, on the first server that can be reached; Unavailable when none can."""

    async def answers(request: Request) -> str:
        said = "no server can be asked"
        for client in clients:
            deadline = asyncio.get_running_loop().time() + _ANSWER_SECONDS
            outcome = await client.predict(model, request, version=stable, deadline=deadline)
            if outcome.status not in PASSING:
                return "" if outcome.status is Status.OK else outcome.detail
            said = outcome.detail
        raise Unavailable(model, f"no server could say whether stable answers: {said}")

    return answers


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
    traffic: TrafficSection,
    path: Path,
    model: ModelName,
    signatures: Mapping[str, Signature],
    fields: frozenset[str] = frozenset(),
) -> Iterable[Request | Malformed]:
    """The records of one file of a source, once, with those of the fields that they have."""
    requests = permitted(_requests(traffic, path, model, signatures, fields), traffic.exclude)
    return with_fields(requests, fields) if fields else requests


def _requests(
    traffic: TrafficSection,
    path: Path,
    model: ModelName,
    signatures: Mapping[str, Signature],
    fields: frozenset[str],
) -> Iterable[Request | Malformed]:
    match traffic.kind:
        case "labelled":
            form = TableForm(
                label=traffic.label, columns=traffic.columns, signature=traffic.signature, fields=tuple(sorted(fields))
            )
            return (read_arrays if kind_of(path) == ".npz" else read_table)(path, signatures, form)
        case "examples":
            return read_examples(path, signatures, signature=traffic.signature, label=traffic.label, fields=fields)
        case "rest_jsonl":
            return read_lines(path, signatures)
        case "prediction_log" | "warmup":
            return read_prediction_logs(path, model=model if traffic.kind == "prediction_log" else None)
        case other:
            raise Refused(str(model), f"unknown traffic source {other}")
