import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haldane.judge import scoring
from haldane.judge.outputs import Loss, OutputKind, OutputRule, Scores, Tolerance, stacked


def score(stable, canary, truth, rule):
    """Of answers given one by one."""
    return scoring.score(stacked(stable), stacked(canary), truth, rule)


def floats(*values, shape=None, dtype=np.float32):
    array = np.array(values, dtype)
    return array.reshape(shape) if shape else array


def texts(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def one(stable, canary, rule, truth=None):
    """The numbers of one pair with a single output "y"."""
    named = [None if side is None else {"y": side} for side in (stable, canary)]
    scores = score([named[0]], [named[1]], [truth], rule)
    return {name: float(getattr(scores, name)[0]) for name in Scores.__dataclass_fields__}


ANY = OutputRule(tolerance=Tolerance(absolute=0.01, relative=0.1))
BINARY = OutputRule(kind=OutputKind.BINARY_PROBABILITY)
CLASSES = OutputRule(kind=OutputKind.CLASS_SCORES, classes=("cat", "dog", "owl"))
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("stable", "canary", "disagrees", "distance"),
    [
        (floats(1.0, 2.0), floats(1.0, 2.0), 0, 0),
        (floats(1.0, 2.0), floats(1.05, 2.15), 0, 0.15),  # within 10 % + 0.01
        (floats(1.0, 2.0), floats(1.0, 2.5), 1, 0.5),
        (floats(1.0), floats(NAN), 1, INF),
        (floats(INF), floats(1.0), 1, INF),
        (floats(NAN, INF, -INF), floats(NAN, INF, -INF), 0, 0),
        (floats(INF), floats(-INF), 1, INF),
        (floats(1.0), floats(1.0, dtype=np.float64), 1, INF),  # another dtype
        (floats(1.0), floats(1.0, 1.0), 1, INF),  # another shape
        (texts(b"a", b"b"), texts(b"a", b"b"), 0, 0),
        (texts(b"a", b"b"), texts(b"a", b"c"), 1, 1),
        (np.array([True, False]), np.array([True, True]), 1, 1),
        (np.array([5, 200], np.uint8), np.array([5, 180], np.uint8), 0, 20),
        (floats(shape=(0, 3)), floats(shape=(0, 3)), 0, 0),
    ],
)
def test_values_agree_within_absolute_plus_relative_tolerance(stable, canary, disagrees, distance):
    found = one(stable, canary, ANY)
    assert found["disagrees"] == disagrees
    assert found["distance"] == pytest.approx(distance, rel=1e-5)


def test_an_output_that_only_one_side_has_is_a_disagreement():
    scores = score([{"a": floats(1)}], [{"a": floats(1), "b": floats(2)}], [None], ANY)
    assert (scores.disagrees[0], scores.distance[0]) == (1, INF)


def test_a_judged_output_that_neither_side_has_leaves_everything_unknown():
    scores = score([{"a": floats(1)}], [{"a": floats(9)}], [1.0], OutputRule(output="b", kind=OutputKind.REGRESSION))
    assert all(np.isnan(getattr(scores, name)[0]) for name in Scores.__dataclass_fields__)


def test_each_output_may_have_its_own_tolerance():
    rule = OutputRule(tolerances={"loose": Tolerance(absolute=10)})
    tight = score([{"loose": floats(1), "t": floats(1)}], [{"loose": floats(5), "t": floats(1)}], [None], rule)
    broken = score([{"loose": floats(1), "t": floats(1)}], [{"loose": floats(1), "t": floats(5)}], [None], rule)
    assert (tight.disagrees[0], broken.disagrees[0]) == (0, 1)


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_a_probability_flips_at_the_threshold_and_is_held_against_the_truth(shape):
    found = one(floats(0.4, shape=shape), floats(0.6, shape=shape), BINARY, truth=1)
    assert (found["disagrees"], found["stable_wrong"], found["canary_wrong"]) == (1, 1, 0)
    assert found["distance"] == pytest.approx(0.2, rel=1e-5)
    assert found["stable_loss"] == pytest.approx(-math.log(0.4) / math.log(100), rel=1e-5)
    assert found["canary_loss"] == pytest.approx(-math.log(0.6) / math.log(100), rel=1e-5)


def test_two_columns_are_read_as_negative_and_positive():
    found = one(floats(0.7, 0.3, shape=(1, 2)), floats(0.2, 0.8, shape=(1, 2)), BINARY, truth=0)
    assert (found["stable_wrong"], found["canary_wrong"]) == (0, 1)


def test_differences_without_a_flip_are_agreement_unless_a_tolerance_is_given():
    near = floats(0.6), floats(0.9)
    assert one(*near, BINARY)["disagrees"] == 0
    assert one(*near, OutputRule(kind=OutputKind.BINARY_PROBABILITY, tolerance=Tolerance(absolute=0.1)))["disagrees"]


def test_logits_are_squashed_before_they_are_held_against_the_threshold():
    rule = OutputRule(kind=OutputKind.BINARY_PROBABILITY, logits=True, loss=Loss.BRIER)
    found = one(floats(-3.0), floats(0.0), rule, truth=0)
    assert (found["stable_wrong"], found["canary_wrong"]) == (0, 1)
    assert found["canary_loss"] == pytest.approx(0.25)


@pytest.mark.parametrize("truth", ["owl", 2, 2.0, "2"])
def test_the_highest_score_is_the_class_and_a_truth_may_be_a_name_or_an_index(truth):
    found = one(floats(0.1, 0.2, 0.7, shape=(1, 3)), floats(0.1, 0.8, 0.1, shape=(1, 3)), CLASSES, truth=truth)
    assert (found["disagrees"], found["stable_wrong"], found["canary_wrong"]) == (1, 0, 1)
    assert found["stable_loss"] < found["canary_loss"] <= 1


@pytest.mark.parametrize("truth", [None, "newt", 7, -1, 0.5, NAN])
def test_a_truth_that_names_no_class_is_not_known(truth):
    found = one(floats(0.1, 0.2, 0.7, shape=(1, 3)), floats(0.1, 0.8, 0.1, shape=(1, 3)), CLASSES, truth=truth)
    assert found["disagrees"] == 1
    assert all(math.isnan(found[name]) for name in ("stable_wrong", "canary_wrong", "stable_loss", "canary_loss"))


def test_any_row_that_flips_makes_the_pair_disagree_and_one_truth_cannot_judge_many_rows():
    stable = floats(0.9, 0.1, 0.9, 0.1, shape=(2, 2))
    canary = floats(0.9, 0.1, 0.1, 0.9, shape=(2, 2))
    found = one(stable, canary, CLASSES, truth=0)
    assert found["disagrees"] == 1
    assert math.isnan(found["canary_wrong"])


def test_nan_scores_are_wrong_with_full_loss_and_disagree():
    found = one(floats(0.9, 0.1, shape=(1, 2)), floats(NAN, 0.1, shape=(1, 2)), CLASSES, truth=0)
    assert (found["disagrees"], found["canary_wrong"], found["canary_loss"]) == (1, 1, 1)
    assert found["stable_wrong"] == 0


@pytest.mark.parametrize("truth", ["x\ud83d", 10**400, -(10**400), 1e308, NAN, INF])
def test_a_truth_that_no_class_can_be_is_wrong_or_unknown_and_breaks_nothing(truth):
    answer = {"scores": floats(0.9, 0.1, shape=(1, 2)), "classes": texts(b"no", b"yes").reshape(1, 2)}
    for rule in (CLASSES, OutputRule(kind=OutputKind.CLASS_SCORES)):
        scores = score([answer], [answer], [truth], rule)
        assert scores.stable_wrong[0] != 0


@pytest.mark.parametrize("shape", [(1, 0), (0, 3), (2, 0), (0,)])
@pytest.mark.parametrize("kind", [OutputKind.CLASS_SCORES, OutputKind.BINARY_PROBABILITY])
@pytest.mark.parametrize("logits", [False, True])
def test_an_answer_without_any_class_is_one_that_cannot_be_scored(shape, kind, logits):
    rule, empty, full = (
        OutputRule(kind=kind, logits=logits),
        {"y": floats(shape=shape)},
        {"y": floats(0.2, shape=(1, 1))},
    )
    scores = score([empty, full], [empty, empty], [0, 0], rule)
    assert scores.disagrees.tolist() == [0, 1]
    assert np.isnan(scores.canary_wrong).all()


def test_classify_answers_are_compared_by_class_name_even_when_the_order_differs():
    stable = {"scores": floats(0.9, 0.1, shape=(1, 2)), "classes": texts(b"no", b"yes").reshape(1, 2)}
    canary = {"scores": floats(0.1, 0.9, shape=(1, 2)), "classes": texts(b"yes", b"no").reshape(1, 2)}
    scores = score([stable], [canary], ["yes"], OutputRule(kind=OutputKind.CLASS_SCORES))
    assert (scores.disagrees[0], scores.stable_wrong[0], scores.canary_wrong[0]) == (0, 1, 1)
    assert scores.stable_loss[0] == pytest.approx(0.5)


@pytest.mark.parametrize(("answer", "wrong", "loss"), [(3.0, 0, 0), (3.5, 0, 0.0625), (5.0, 1, 1), (NAN, 1, 1)])
def test_a_regression_loses_by_squared_error_up_to_the_reach(answer, wrong, loss):
    rule = OutputRule(kind=OutputKind.REGRESSION, reach=4.0, wrong_beyond=1.0)
    found = one(floats(3.0), floats(answer), rule, truth=3.0)
    assert (found["canary_wrong"], found["canary_loss"]) == (wrong, loss)


@pytest.mark.parametrize(("answer", "loss"), [(3.0, 0), (2.0, 0.25), (4.0, 0.25), (9.0, 1), (NAN, 1)])
def test_the_absolute_loss_is_the_error_over_the_reach(answer, loss):
    rule = OutputRule(kind=OutputKind.REGRESSION, loss=Loss.ABSOLUTE, reach=4.0)
    assert one(floats(3.0), floats(answer), rule, truth=3.0)["canary_loss"] == loss


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        (OutputKind.REGRESSION, Loss.LOG),
        (OutputKind.REGRESSION, Loss.BRIER),
        (OutputKind.CLASS_SCORES, Loss.SQUARED),
        (OutputKind.BINARY_PROBABILITY, Loss.ABSOLUTE),
    ],
)
def test_a_loss_that_does_not_fit_the_output_is_refused(kind, loss):
    with pytest.raises(ValueError, match="takes the loss"):
        OutputRule(kind=kind, loss=loss)


def outputs(stable, canary, rule):
    found = one(stable, canary, rule)
    return found["stable_output"], found["canary_output"]


REGRESSION = OutputRule(kind=OutputKind.REGRESSION)


@pytest.mark.parametrize(
    ("stable", "canary", "rule", "numbers"),
    [
        (floats(0.25), floats(0.75), BINARY, (0.25, 0.75)),
        (floats(0.75, 0.25, shape=(1, 2)), floats(0.5, 0.5, shape=(1, 2)), BINARY, (0.25, 0.5)),
        (floats(0.1, 0.9, shape=(1, 2)), floats(0.9, 0.1, shape=(1, 2)), CLASSES, (1, 0)),
        (floats(-2.5), floats(7.0), REGRESSION, (-2.5, 7.0)),
        (floats(4.0), floats(4.5), ANY, (4.0, 4.5)),
        (floats(4.0), floats(NAN), REGRESSION, (4.0, INF)),  # answered, but no number
        (floats(0.1, 0.9, shape=(1, 2)), floats(NAN, 0.1, shape=(1, 2)), CLASSES, (1, INF)),
        (floats(4.0, dtype=np.float64), floats(1e300, dtype=np.float64), REGRESSION, (4.0, INF)),
        (floats(4.0), None, REGRESSION, (NAN, NAN)),
        (floats(1.0, 2.0), floats(1.0, 2.0), REGRESSION, (NAN, NAN)),  # two rows have no one number
        (texts(b"a"), texts(b"a"), ANY, (NAN, NAN)),
    ],
)
def test_the_judged_output_becomes_one_number_per_side(stable, canary, rule, numbers):
    assert outputs(stable, canary, rule) == pytest.approx(numbers, nan_ok=True)


def test_a_class_name_becomes_its_index_where_it_has_one():
    answers = [
        {"scores": floats(0.9, 0.1, shape=(1, 2)), "classes": texts(best, b"other").reshape(1, 2)}
        for best in (b"dog", b"newt", b"7")
    ]
    assert score(answers, answers, [None] * 3, CLASSES).stable_output.tolist() == pytest.approx(
        [1, NAN, 7], nan_ok=True
    )


def test_a_side_that_failed_counts_as_wrong_when_the_other_answered():
    found = one(floats(0.9), None, BINARY, truth=1)
    assert (found["stable_wrong"], found["canary_wrong"], found["canary_loss"]) == (0, 1, 1)
    assert math.isnan(found["disagrees"])
    assert math.isnan(one(None, None, BINARY, truth=1)["stable_wrong"])


def test_a_failed_side_is_not_wrong_when_the_truth_could_not_have_been_held_against_it():
    assert math.isnan(one(floats(0.1, 0.9, shape=(1, 2)), None, CLASSES, truth="newt")["canary_wrong"])


def test_pairs_of_different_layouts_keep_their_places():
    one_row, two_rows = floats(0.9, shape=(1, 1)), floats(0.9, 0.9, shape=(2, 1))
    stable = [{"y": one_row}, {"y": two_rows}, None, {"y": one_row}]
    canary = [{"y": one_row}, {"y": 1 - two_rows}, {"y": one_row}, {"y": 1 - one_row}]
    assert score(stable, canary, [None] * 4, BINARY).disagrees.tolist()[:2] == [0, 1]
    assert score(stable, canary, [None] * 4, BINARY).disagrees[3] == 1


@pytest.mark.parametrize("kind", [OutputKind.BINARY_PROBABILITY, OutputKind.CLASS_SCORES])
@pytest.mark.parametrize("loss", [Loss.LOG, Loss.BRIER])
def test_losses_stay_between_zero_and_one_whatever_is_answered(kind, loss):
    wild = np.random.default_rng(1).normal(0, 1e6, (200, 1, 2)).astype(np.float32)
    answers = [{"y": rows} for rows in wild]
    scores = score(answers, answers, [1.0] * 200, OutputRule(kind=kind, loss=loss))
    assert ((scores.canary_loss >= 0) & (scores.canary_loss <= 1)).all()


def naive(stable, canary, truth, rule):
    """One pair, element by element, as the words of OutputRule say it."""
    flips = [int(np.argmax(a)) != int(np.argmax(b)) for a, b in zip(stable, canary, strict=True)]
    apart = [abs(float(a) - float(b)) for a, b in zip(stable.ravel(), canary.ravel(), strict=True)]
    wrong = [int(np.argmax(side[0])) != truth for side in (stable, canary)]
    loss = [
        min(-math.log(max(side[0][truth], 1e-300)), rule.judged_reach) / rule.judged_reach for side in (stable, canary)
    ]
    chosen = [int(np.argmax(side[0])) for side in (stable, canary)]
    return any(flips), max(apart), *wrong, *loss, *chosen


probabilities = st.lists(st.floats(2**-10, 1.0, width=32), min_size=3, max_size=3)


@given(st.lists(st.tuples(probabilities, probabilities, st.integers(0, 2)), min_size=1, max_size=30))
def test_many_pairs_at_once_score_as_one_by_one(cases):
    answers = [[np.array([case[side]], np.float32) for case in cases] for side in (0, 1)]
    truth = [case[2] for case in cases]
    named = [[{"y": array} for array in side] for side in answers]
    scores = score(*named, truth, CLASSES)
    found = np.stack([getattr(scores, name) for name in Scores.__dataclass_fields__], axis=1)
    expected = [naive(*pair, known, CLASSES) for *pair, known in zip(*answers, truth, strict=True)]
    assert np.allclose(found, np.array(expected, float), atol=1e-5)


def test_the_highest_classes_agree_as_a_set():
    def differs(stable, canary, top):
        rule = OutputRule(kind=OutputKind.CLASS_SCORES, top=top)
        return score([{"p": np.array([stable])}], [{"p": np.array([canary])}], [None], rule).disagrees[0]

    first, swapped, other = [0.5, 0.3, 0.1, 0.1], [0.3, 0.5, 0.1, 0.1], [0.5, 0.1, 0.3, 0.1]
    assert [differs(first, swapped, top) for top in (1, 2, 3)] == [1, 0, 0]
    assert [differs(first, other, top) for top in (1, 2, 4, 9)] == [0, 1, 0, 0]


def test_the_highest_classes_of_a_classify_answer_agree_by_name():
    def answer(*names):
        return {"scores": np.array([[0.5, 0.3, 0.2]]), "classes": np.array([[name.encode() for name in names]], object)}

    rule = OutputRule(kind=OutputKind.CLASS_SCORES, top=2)
    found = score([answer("a", "b", "c")] * 2, [answer("b", "a", "c"), answer("a", "c", "b")], [None] * 2, rule)
    assert found.disagrees.tolist() == [0, 1]


def test_top_is_for_classes_only():
    with pytest.raises(ValueError, match="top is for class_scores"):
        OutputRule(kind=OutputKind.REGRESSION, top=2)
