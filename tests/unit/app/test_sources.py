import numpy as np
import pytest

from haldane import wire
from haldane.adapters.replay import Replay
from haldane.app.sources import Onward, answered_by, each_file, first_request, named, open_source
from haldane.config.models import ModelSection
from haldane.domain.traffic import Api, Outcome, Request, Status
from haldane.files import FileSet
from haldane.ports import Flaw, Malformed, Refused, Unavailable
from haldane.serving.records import frame
from haldane.tensors import Signature, TensorSpec, encode


class Rows:
    """Rows 0 to n-1, so many times over; row -1: a stream."""

    def __init__(self, *rows, passes=1):
        self.rows, self.passes = rows, passes

    async def requests(self):
        for _ in range(self.passes):
            for row in self.rows:
                yield Request(f"row {row}", Api.PREDICT, b"", row)


async def rows_of(source):
    return [request.row async for request in source.requests()]


@pytest.mark.parametrize(
    ("judged", "rows"),
    [
        ((), [0, 1, 2, 3, 0, 1, 2, 3]),
        ((0, 1), [2, 3, 0, 1, 2, 3]),
        ((0, 2), [1, 2, 3, 0, 1, 2, 3]),  # nothing is passed over behind the first row that was not judged
        ((3,), [0, 1, 2, 3, 0, 1, 2, 3]),
        ((0, 1, 2, 3), [0, 1, 2, 3]),  # a whole pass was judged: the second is given in full
    ],
)
async def test_rows_judged_before_are_passed_over_until_one_comes_that_was_not(judged, rows):
    assert await rows_of(Onward(Rows(0, 1, 2, 3, passes=2), judged)) == rows


async def test_a_stream_is_never_passed_over():
    assert await rows_of(Onward(Rows(-1, -1), {0, 1})) == [-1, -1]


async def test_what_is_judged_meanwhile_changes_nothing_for_a_source_already_taken_up():
    judged = {0}
    source = Onward(Rows(0, 1, 2), judged)
    judged |= {1, 2}
    assert await rows_of(source) == [1, 2]


async def test_a_request_that_stable_does_not_answer_proves_nothing():
    """Users also send what no version can answer; a new one must not fall for that."""
    poisoned, good = Request("a", Api.PREDICT, b"?"), Request("b", Api.PREDICT, b"")

    async def answers(request):
        return "bad shape" if request is poisoned else ""

    assert await first_request(Replay("rows", lambda: [poisoned, good]), answers) is good
    with pytest.raises(Unavailable, match="answers none of its first 20 requests: bad shape"):
        await first_request(Replay("rows", lambda: [poisoned]), answers)


async def test_stable_is_asked_on_a_server_that_can_be_reached():
    def saying(status, detail=""):
        class Client:
            async def predict(self, model, request, *, version, deadline):
                return Outcome(status, 0.0, detail=detail)

        return Client()

    async def said(*clients):
        return await answered_by("m", 1, clients)(Request("a", Api.PREDICT, b""))

    away = saying(Status.UNAVAILABLE, "connection refused")
    assert await said(away, saying(Status.OK)) == ""
    assert await said(away, saying(Status.INVALID, "bad shape"), saying(Status.OK)) == "bad shape"
    with pytest.raises(Unavailable, match="connection refused"):
        await said(away)


async def test_the_first_request_is_the_golden_one_and_bad_records_before_it_are_not():
    good = Request("good", Api.PREDICT, b"")
    assert await first_request(Replay("rows", lambda: [Malformed("rows", "line 1"), good])) is good


async def test_a_set_without_a_usable_request_says_so():
    with pytest.raises(Malformed, match="no usable request"):
        await first_request(Replay("rows", lambda: []))


class NoServer:
    async def signatures(self, model, version):
        raise Unavailable("r0", "no answer")


async def test_without_a_server_that_knows_the_model_the_source_is_not_ready(tmp_path):
    section = ModelSection.model_validate({"clients": "label", "traffic": {"rest_jsonl": tmp_path / "rows.jsonl"}})
    with pytest.raises(Unavailable, match="no answer"):
        await open_source("credit", section, 1, [NoServer()])
    with pytest.raises(Unavailable, match="there is none"):
        await open_source("credit", section, 1, [])


async def test_a_model_without_traffic_has_no_source():
    assert await open_source("credit", ModelSection.model_validate({"clients": "label"}), 1, [NoServer()]) is None


def test_requests_are_named_by_the_field_that_labels_name():
    asked = [Request("rows:1", Api.PREDICT, b"", fields={"loan": "4711"}), Request("rows:2", Api.PREDICT, b"")]
    bad = Malformed("rows:3", "not JSON")
    assert [getattr(one, "id", None) for one in named([*asked, bad], "loan")] == ["4711", "rows:2", None]
    assert list(named([*asked, bad], "")) == [*asked, bad]


async def test_a_source_asks_for_the_field_that_names_its_requests(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"instances": [0.5], "fields": {"loan": 4711}}\n')
    given = {"clients": "label", "traffic": {"rest_jsonl": tmp_path / "rows.jsonl"}, "labels": {"id": "loan"}}

    class Server:
        async def signatures(self, model, version):
            spec = TensorSpec("x", 1, (-1,))
            return {"serving_default": Signature("serving_default", "tensorflow/serving/predict", {"x": spec}, {})}

    source = await open_source("credit", ModelSection.model_validate(given), 1, [Server()])
    assert (await first_request(source)).id == "4711"


async def test_requests_of_a_log_carry_what_slices_are_made_by(tmp_path):
    log = wire.PredictionLog()
    log.predict_log.request.inputs["country"].CopyFrom(encode(np.array([b"DE"], object), 7))
    (tmp_path / "log").write_bytes(frame(log.SerializeToString()))
    traffic = {"clients": "label", "traffic": {"prediction_log": tmp_path / "log"}}
    section = ModelSection.model_validate(traffic)
    sliced = await open_source("credit", section, 1, [], fields=frozenset({"country", "age"}))
    plain = await open_source("credit", section, 1, [])
    assert [(await first_request(source)).fields for source in (sliced, plain)] == [{"country": "DE"}, {}]


def log_of(*models):
    """A PredictionLog file with a Predict request for each of these models."""
    data = b""
    for number, model in enumerate(models):
        log = wire.PredictionLog()
        log.predict_log.request.model_spec.name = model
        log.predict_log.request.inputs["x"].CopyFrom(encode(np.array([number], np.float32), 1))
        data += frame(log.SerializeToString())
    return data


def section(**traffic):
    return ModelSection.model_validate({"clients": "label", "traffic": traffic})


async def some(source, count):
    found = []
    async for request in source.requests():
        found.append(request)
        if len(found) == count:
            return found


async def test_files_of_a_glob_are_one_set_with_rows_counted_on_and_ids_of_their_own(tmp_path):
    for folder in ("1", "2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "log").write_bytes(log_of("credit", "credit"))
    source = await open_source("credit", section(prediction_log=str(tmp_path / "*" / "log")), 1, [])
    first = await some(source, 4)
    assert [request.row for request in first] == [0, 1, 2, 3]
    assert [request.id for request in first] == ["log#0", "log#1", "1:log#0", "1:log#1"]
    assert await some(source, 5) == [*first, first[0]]


async def test_every_flaw_is_counted_once_by_reason_and_the_rest_is_used(tmp_path):
    (tmp_path / "a.log").write_bytes(log_of("credit", "fraud", "credit")[:-1])
    (tmp_path / "b.log").write_bytes(log_of("credit") + b"junk")
    counted = []
    source = await open_source("credit", section(prediction_log=str(tmp_path / "*.log")), 1, [], on_flaw=counted.append)
    assert [request.id for request in await some(source, 4)] == ["a.log#0", "b.log#0", "a.log#0", "b.log#0"]
    assert counted == [Flaw.OTHER_MODEL, Flaw.TRUNCATED, Flaw.TRUNCATED]
    assert source.flaws == {Flaw.OTHER_MODEL: 1, Flaw.TRUNCATED: 2}


def test_of_several_files_one_that_cannot_be_read_is_a_flaw(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).touch()

    def read_one(path):
        if path.name == "a":
            raise Unavailable("a", "cannot be read")
        yield Request("b#0", Api.PREDICT, b"", 0)

    bad, good = each_file(FileSet(tmp_path / "*"), read_one)
    assert (bad.flaw, good.row) == (Flaw.FORMAT, 0)
    with pytest.raises(Unavailable):
        list(each_file(FileSet(tmp_path / "a"), read_one))


async def test_the_requests_of_a_models_own_warm_up_whatever_name_they_were_logged_under(tmp_path):
    folder = tmp_path / "007" / "assets.extra"
    folder.mkdir(parents=True)
    (folder / "tf_serving_warmup_requests").write_bytes(log_of("built_as", ""))
    source = await open_source("credit", section(warmup=True), 7, [], base_path=str(tmp_path))
    assert [request.row for request in await some(source, 3)] == [0, 1, 0]
    by_url = await open_source("credit", section(warmup=True), 7, [], base_path=f"file://{tmp_path}")
    with pytest.raises(Unavailable, match="tf_serving_warmup_requests: cannot be fetched"):
        await first_request(by_url)  # a URL has no listing to find 007 by
    with pytest.raises(Unavailable, match="no version 8"):
        await open_source("credit", section(warmup=True), 8, [], base_path=str(tmp_path))


async def test_made_up_requests_need_a_signature_that_tells_its_inputs():
    class Server:
        async def signatures(self, model, version):
            spec = TensorSpec("x", 1, (-1, 2))
            return {"serving_default": Signature("serving_default", "tensorflow/serving/predict", {"x": spec}, {})}

    source = await open_source("credit", section(synthetic=True), 1, [Server()])
    assert (await first_request(source)).row == 0
    other = await open_source("credit", section(synthetic=True, signature="scores"), 1, [Server()])
    with pytest.raises(Refused, match="no signature 'scores'"):
        await first_request(other)


def asking(signature):
    request = wire.PredictRequest()
    request.model_spec.signature_name = signature
    request.inputs["x"].CopyFrom(encode(np.array([1.0], np.float32), 1))
    return request


@pytest.mark.parametrize(("excluded", "left"), [
    ((), ["", "learn", "plus"]),
    (("learn",), ["", "plus"]),
    (("serving_default", "learn"), ["plus"]),
])  # fmt: skip
async def test_a_signature_that_must_not_be_called_again_is_left_out_and_counted(tmp_path, excluded, left):
    logs = [wire.PredictionLog() for _ in range(3)]
    for log, name in zip(logs, ("", "learn", "plus"), strict=True):
        log.predict_log.request.CopyFrom(asking(name))
    (tmp_path / "log.tfrecord").write_bytes(b"".join(frame(log.SerializeToString()) for log in logs))
    traffic = {"prediction_log": str(tmp_path / "log.tfrecord"), "exclude": excluded}
    source = await open_source("m", ModelSection(clients="label", traffic=traffic), 1, [])
    requests = source.requests()
    taken = [await anext(requests) for _ in left]
    assert [wire.PredictRequest.FromString(one.body).model_spec.signature_name for one in taken] == left
    await anext(requests)  # into the second pass, so that the first is whole
    assert source.flaws.get(Flaw.EXCLUDED, 0) == 3 - len(left)
