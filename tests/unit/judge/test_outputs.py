import math

import pytest

from haldane.judge.outputs import Loss, OutputKind, OutputRule, Tolerance


@pytest.mark.parametrize(
    "given",
    [
        {"reach": 0.0},
        {"kind": OutputKind.REGRESSION, "loss": Loss.LOG},
        {"kind": OutputKind.CLASS_SCORES, "loss": Loss.SQUARED},
    ],
)
def test_rules_that_make_no_sense_are_refused(given):
    with pytest.raises(ValueError, match=r"reach|loss"):
        OutputRule(**given)


@pytest.mark.parametrize(
    ("truth", "number"), [("dog", 1), (1, 1), ("2", 2), (0.5, 0.5), ("newt", math.nan), (None, math.nan)]
)
def test_a_truth_is_a_class_by_name_or_a_number(truth, number):
    assert OutputRule(classes=("cat", "dog")).truth_number(truth) == pytest.approx(number, nan_ok=True)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (OutputKind.ANY, None, Tolerance()),
        (OutputKind.REGRESSION, None, Tolerance()),
        (OutputKind.CLASS_SCORES, None, None),  # only a flip counts
        (OutputKind.CLASS_SCORES, Tolerance(0.1), Tolerance(0.1)),
    ],
)
def test_values_are_compared_unless_classes_are_judged(kind, given, expected):
    assert OutputRule(kind=kind, tolerance=given).tolerance_of("y") == expected


@pytest.mark.parametrize(
    ("answer", "name"), [(["y"], "y"), (["classes", "scores"], "scores"), (["a", "b"], None), ([], None)]
)
def test_without_a_name_the_only_output_or_the_scores_are_judged(answer, name):
    assert OutputRule().name_in(dict.fromkeys(answer)) == name
