import numpy as np
import pytest

from haldane import wire
from haldane.domain.traffic import Api, Request
from haldane.judge.outputs import OutputKind, OutputRule
from haldane.serving.shadow import Scorer, Unreadable, read_answer
from haldane.tensors import decode, encode


def predicted(version=1, **outputs):
    response = wire.PredictResponse()
    response.model_spec.version.value = version
    for name, array in outputs.items():
        response.outputs[name].CopyFrom(encode(np.asarray(array, np.float32), 1))
    return response.SerializeToString()


def classified(*rows):
    response = wire.ClassificationResponse()
    for row in rows:
        classes = response.result.classifications.add().classes
        for label, value in row.items():
            classes.add(label=label, score=value)
    return response.SerializeToString()


def a_request(api=Api.PREDICT, truth=None):
    return Request("a", api, b"", truth=truth)


def test_a_predict_answer_is_read_by_output_name():
    answer = read_answer(Api.PREDICT, predicted(p=[[0.5]], q=[1, 2]))
    assert answer["p"].tolist() == [[0.5]]
    assert answer["q"].tolist() == [1, 2]
    assert set(read_answer(Api.PREDICT, predicted(p=[[0.5]], q=[1, 2]), "q")) == {"q"}


def test_classify_and_regress_answers_become_arrays():
    answer = read_answer(Api.CLASSIFY, classified({"no": 0.2, "yes": 0.8}, {"no": 0.6, "yes": 0.4}))
    assert answer["scores"].shape == (2, 2)
    assert answer["classes"][0].tolist() == [b"no", b"yes"]
    assert set(read_answer(Api.CLASSIFY, classified({"": 0.2}))) == {"scores"}
    regression = wire.RegressionResponse()
    regression.result.regressions.add(value=2.5)
    assert read_answer(Api.REGRESS, regression.SerializeToString())["outputs"].tolist() == [2.5]


@pytest.mark.parametrize(
    ("api", "data"),
    [(Api.PREDICT, b"\xff\xff\xff"), (Api.CLASSIFY, classified({"a": 1.0}, {"a": 0.5, "b": 0.5}))],
)
def test_bytes_that_are_no_answer_are_unreadable(api, data):
    with pytest.raises(Unreadable, match=f"{api} answer"):
        read_answer(api, data)


def test_a_tensor_whose_bytes_do_not_fit_its_shape_is_unreadable():
    response = wire.PredictResponse()
    response.outputs["p"].dtype, response.outputs["p"].tensor_content = 1, b"123"
    with pytest.raises(Unreadable):
        read_answer(Api.PREDICT, response.SerializeToString())


def test_pairs_are_scored_together_and_an_unreadable_answer_is_marked_and_wrong():
    score = Scorer(OutputRule(output="p", kind=OutputKind.BINARY_PROBABILITY))
    good, bad = predicted(p=[[0.9]]), predicted(p=[[0.1]])
    found = score([a_request(truth=1)] * 4, [good, good, good, None], [good, bad, b"\xff\xff", good])
    assert found.scores.disagrees.tolist()[:2] == [0, 1]
    assert found.scores.canary_wrong.tolist() == [0, 1, 1, 0]
    assert found.scores.stable_wrong.tolist() == [0, 0, 0, 1]
    assert found.canary_unreadable.tolist() == [False, False, True, False]
    assert not found.stable_unreadable.any()
    assert found.scores.canary_output.tolist() == pytest.approx([0.9, 0.1, np.nan, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "int32", "uint8", "int64", "uint64", "bool", "bfloat16"]
)
def test_tensors_are_read_as_tensorflow_writes_them_in_either_form(dtype):
    tf = pytest.importorskip("tensorflow")
    values = tf.cast(tf.constant([[0, 1], [2, 3]]), getattr(tf, dtype))
    for proto in (tf.make_tensor_proto(values), values_field(tf, values)):
        found = decode(wire.TensorProto.FromString(proto.SerializeToString()))
        assert found.tolist() == values.numpy().tolist()


def values_field(tf, values):
    """The same tensor in its typed field, as TF Serving answers by default."""
    proto = tf.make_tensor_proto(tf.reshape(values, [-1])[:1])
    flat = [tf.make_tensor_proto(tf.reshape(values, [-1])[at : at + 1]) for at in range(tf.size(values))]
    for field in ("float_val", "double_val", "half_val", "int_val", "int64_val", "uint64_val", "bool_val"):
        getattr(proto, field)[:] = [item for one in flat for item in getattr(one, field)]
    proto.ClearField("tensor_content")
    proto.tensor_shape.CopyFrom(tf.make_tensor_proto(values).tensor_shape)
    return proto


def test_too_few_values_are_filled_up_with_the_last_one():
    proto = wire.TensorProto(dtype=1, float_val=[1.0, 2.0])
    proto.tensor_shape.dim.add(size=4)
    assert decode(proto).tolist() == [1.0, 2.0, 2.0, 2.0]


def regressed(value):
    response = wire.RegressionResponse()
    response.model_spec.name = "m" * 1000
    response.result.regressions.add(value=value)
    return response.SerializeToString()


@pytest.mark.parametrize(
    ("api", "rule", "truth", "answers"),
    [
        (
            Api.PREDICT,
            OutputRule(output="p", kind=OutputKind.BINARY_PROBABILITY),
            1,
            [predicted(p=[[p]], embedding=np.zeros(1000)) for p in (0.9, 0.2)],
        ),
        (
            Api.CLASSIFY,
            OutputRule(kind=OutputKind.CLASS_SCORES),
            "yes",
            [classified({"no": 1 - p, "yes": p}) for p in (0.9, 0.2)],
        ),
        (Api.REGRESS, OutputRule(kind=OutputKind.REGRESSION, wrong_beyond=0.1), 2.5, [regressed(2.5), regressed(2.7)]),
    ],
)
def test_an_answer_kept_for_its_label_is_small_and_scores_as_it_would_have_at_once(api, rule, truth, answers):
    score, asked = Scorer(rule), [a_request(api, truth)]
    kept = [score.kept(api, answer) for answer in answers]
    whole, cut = (score(asked, [old], [new]).scores for old, new in (answers, kept))
    assert max(map(len, kept)) < 100
    for name in ("stable_wrong", "canary_wrong", "stable_loss", "canary_loss"):
        assert getattr(cut, name) == getattr(whole, name)
    assert (cut.stable_wrong[0], cut.canary_wrong[0]) == (0, 1)


def test_no_answer_and_bytes_that_are_none_are_kept_as_no_answer():
    score = Scorer(OutputRule(output="p", kind=OutputKind.BINARY_PROBABILITY))
    assert score.kept(Api.PREDICT, None) is None
    assert score.kept(Api.PREDICT, b"\xff\xff") is None
    assert score([a_request()], [score.kept(Api.PREDICT, predicted(q=[1]))], [None]).scores.stable_wrong != 0
