import numpy as np
import pytest

from haldane import wire
from haldane.adapters.replay import Replay
from haldane.app.sources import Onward, first_request, named, open_source
from haldane.config.sections import ModelSection
from haldane.domain.traffic import Api, Request
from haldane.ports import Malformed, Unavailable
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
