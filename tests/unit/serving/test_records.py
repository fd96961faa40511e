import gzip

import numpy as np
import pytest

from haldane import wire
from haldane.domain.traffic import Api, Request
from haldane.ports import Flaw, Malformed, Unavailable
from haldane.serving.records import frame, read_examples, read_frames, read_prediction_logs
from haldane.tensors import Signature, TensorSpec, decode, encode

FLOAT, STRING, INT64 = 1, 7, 9


def write(path, *records):
    path.write_bytes(b"".join(frame(record) for record in records))
    return path


def test_frames_are_those_tensorflow_writes(tmp_path):
    tf = pytest.importorskip("tensorflow")
    with tf.io.TFRecordWriter(str(tmp_path / "tf")) as writer:
        writer.write(b"haldane")
        writer.write(b"")
    assert (tmp_path / "tf").read_bytes() == frame(b"haldane") + frame(b"")


@pytest.mark.parametrize("packed", [False, True])
def test_records_come_back_in_order_plain_or_gzip(tmp_path, packed):
    path = tmp_path / "records"
    data = frame(b"one") + frame(b"") + frame(b"three")
    path.write_bytes(gzip.compress(data) if packed else data)
    assert list(read_frames(path)) == [b"one", b"", b"three"]


def test_an_empty_file_has_no_records(tmp_path):
    assert list(read_frames(write(tmp_path / "empty"))) == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[:-1], "byte 19: the file ends inside a record of 3 bytes"),
        (lambda data: data[:25], r"byte 19: the file ends inside a header \(6 of 12 bytes\)"),
        (lambda data: data[:19] + b"\xff" + data[20:], "byte 19: the length's checksum is wrong"),
        (lambda data: data + b"junk", "byte 38: the file ends inside a header"),
    ],
)
def test_a_broken_frame_is_named_by_offset_and_the_records_before_it_are_kept(tmp_path, damage, says):
    path = tmp_path / "log.tfrecord"
    path.write_bytes(damage(frame(b"one") + frame(b"two")))
    *kept, last = read_frames(path)
    assert kept[0] == b"one"
    assert isinstance(last, Malformed)
    with pytest.raises(Malformed, match="log.tfrecord: broken TFRecord at " + says):
        raise last


def test_a_record_that_fails_its_checksum_is_passed_over_and_the_rest_is_used(tmp_path):
    path = tmp_path / "log.tfrecord"
    data = b"".join(map(frame, (b"one", b"two", b"three", b"four")))
    path.write_bytes(data[:31] + b"X" + data[32:-1])
    one, broken, three, cut = read_frames(path)
    assert (one, three) == (b"one", b"three")
    assert "byte 19: the data's checksum is wrong" in str(broken)
    assert (broken.flaw, cut.flaw) == (Flaw.CHECKSUM, Flaw.TRUNCATED)
    assert "byte 59" in str(cut)


def test_a_truncated_gzip_keeps_what_came_before(tmp_path):
    path = tmp_path / "log.gz"
    rng = np.random.default_rng(0)
    records = [rng.bytes(5000) for _ in range(20)]
    path.write_bytes(gzip.compress(b"".join(map(frame, records)))[:60_000])
    *kept, last = read_frames(path)
    assert kept == records[: len(kept)]
    assert kept
    assert isinstance(last, Malformed)


def test_a_file_that_is_no_tfrecord_is_unreadable_from_its_first_byte(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("these are only notes, nothing more")
    (error,) = read_frames(path)
    assert "at byte 0: the length's checksum is wrong; is this a TFRecord file?" in str(error)


def test_a_missing_file_is_unavailable(tmp_path):
    with pytest.raises(Unavailable, match="cannot be read: No such file"):
        list(read_frames(tmp_path / "absent"))


# --- PredictionLog ---


def predict_log(model="credit", value=1.0):
    log = wire.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.version.value = model, 7
    request.model_spec.signature_name = "scores"
    request.inputs["x"].CopyFrom(encode(np.array([[value]], np.float32), FLOAT))
    return log.SerializeToString()


def input_log(kind):
    log = wire.PredictionLog()
    request = getattr(log, kind).request
    request.model_spec.version_label = "stable"
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(1.0)
    return log.SerializeToString()


def test_logged_requests_keep_their_signature_and_lose_their_version(tmp_path):
    path = write(tmp_path / "log", predict_log(), input_log("classify_log"), input_log("regress_log"))
    predict, classify, regress = read_prediction_logs(path)
    assert [request.api for request in (predict, classify, regress)] == [Api.PREDICT, Api.CLASSIFY, Api.REGRESS]
    assert [request.row for request in (predict, classify, regress)] == [0, 1, 2]
    request = wire.PredictRequest.FromString(predict.body)
    assert request.model_spec == wire.ModelSpec(signature_name="scores")
    assert decode(request.inputs["x"]).tolist() == [[1.0]]
    classified = wire.ClassificationRequest.FromString(classify.body)
    assert classified.model_spec == wire.ModelSpec()
    assert len(classified.input.example_list.examples) == 1


def test_records_that_cannot_be_sent_again_say_why_in_their_place(tmp_path):
    session = wire.PredictionLog()
    session.session_run_log.SetInParent()
    path = write(tmp_path / "log", b"\xff\xff", session.SerializeToString(), predict_log("other"), predict_log())
    *bad, good = read_prediction_logs(path, model="credit")
    assert isinstance(good, Request)
    assert good.row == 3
    assert [str(error) for error in bad] == [
        "log#0: not a PredictionLog",
        "log#1: holds session_run_log; predict, classify and regress logs can be sent again",
        "log#2: was logged for model 'other', not 'credit'",
    ]


# --- Examples ---


def example(**features):
    built = wire.Example()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        feature = built.features.feature[name]
        kind = {int: feature.int64_list, float: feature.float_list, bytes: feature.bytes_list}[type(values[0])]
        kind.value.extend(values)
    return built.SerializeToString()


def model(method="predict", **inputs):
    specs = {name: TensorSpec(name, dtype, shape) for name, (dtype, shape) in inputs.items()}
    return {"serving_default": Signature("serving_default", f"tensorflow/serving/{method}", specs, {})}


def test_examples_fill_columns_by_signature_and_the_label_becomes_the_truth(tmp_path):
    path = write(tmp_path / "set", example(age=3, xs=[1.0, 2.0], who=b"ann", y=1))
    signatures = model(age=(INT64, (-1, 1)), xs=(FLOAT, (-1, 2)), who=(STRING, (-1,)))
    (request,) = read_examples(path, signatures, label="y")
    inputs = {key: decode(proto) for key, proto in wire.PredictRequest.FromString(request.body).inputs.items()}
    assert inputs["age"].tolist() == [[3]]
    assert inputs["xs"].tolist() == [[1.0, 2.0]]
    assert inputs["who"].tolist() == [b"ann"]
    assert (request.truth, request.row, request.id) == (1.0, 0, "set#0")


def test_examples_may_be_sliced_by_features_that_are_no_inputs(tmp_path):
    path = write(tmp_path / "set", example(x=1.0, country=b"DE", tags=[b"a", b"b"]), example(x=1.0))
    wanted = frozenset({"country", "tags"})
    german, other = read_examples(path, model(x=(FLOAT, (-1, 1))), fields=wanted)
    assert (german.fields, other.fields) == ({"country": "DE"}, {})
    assert set(wire.PredictRequest.FromString(german.body).inputs) == {"x"}


def test_the_right_answer_may_be_sliced_by_and_is_still_not_sent(tmp_path):
    path = write(tmp_path / "set", example(x=1.0, y=1))
    (request,) = read_examples(path, model("classify", x=(FLOAT, (-1, 1))), label="y", fields=frozenset({"y"}))
    assert (request.fields, request.truth) == ({"y": "1"}, 1.0)
    (sent,) = wire.ClassificationRequest.FromString(request.body).input.example_list.examples
    assert "y" not in sent.features.feature


@pytest.mark.parametrize(("method", "api"), [("classify", Api.CLASSIFY), ("regress", Api.REGRESS)])
def test_a_classify_or_regress_signature_takes_the_example_without_its_label(tmp_path, method, api):
    path = write(tmp_path / "set", example(x=1.0, y=b"good"))
    (request,) = read_examples(path, model(method, inputs=(STRING, (-1,))), label="y")
    message = wire.ClassificationRequest if api is Api.CLASSIFY else wire.RegressionRequest
    (sent,) = message.FromString(request.body).input.example_list.examples
    assert (request.api, request.truth) == (api, "good")
    assert set(sent.features.feature) == {"x"}


def test_a_single_string_input_takes_the_serialized_example_without_its_label(tmp_path):
    path = write(tmp_path / "set", example(x=1.0, y=0))
    (request,) = read_examples(path, model(examples=(STRING, (-1,))), label="y")
    (raw,) = decode(wire.PredictRequest.FromString(request.body).inputs["examples"])
    assert set(wire.Example.FromString(raw).features.feature) == {"x"}


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ({"x": 1.0}, "no feature 'y'; it has x"),
        ({"x": 1.0, "y": [1, 2]}, "label 'y' has 2 values"),
        ({"x": 1.0, "y": float("nan")}, "label 'y' is NaN"),
        ({"y": 1}, "no feature 'x'; it has none"),
        ({"x": b"text", "y": 1}, "feature 'x' is text, the input is float"),
        ({"x": [1.0, 2.0], "y": 1}, "feature 'x' has 2 values"),
    ],
)
def test_an_example_that_does_not_fit_says_which_feature(tmp_path, features, says):
    path = write(tmp_path / "set", example(**features), example(x=1.0, y=0))
    bad, good = read_examples(path, model(x=(FLOAT, (-1, 1))), label="y")
    assert isinstance(good, Request)
    assert isinstance(bad, Malformed)
    assert says in str(bad)


def test_a_signature_the_model_lacks_is_refused_with_those_it_has(tmp_path):
    with pytest.raises(Malformed, match="no signature 'scores', only serving_default"):
        list(read_examples(write(tmp_path / "set"), model(x=(FLOAT, None)), signature="scores"))
