import pytest

from haldane.judge.margin import Margin, margin_text, parse_margin


@pytest.mark.parametrize(
    ("text", "metric", "margin"),
    [
        ("+10%", "latency", Margin(relative=0.1)),
        ("15 %", "latency", Margin(relative=0.15)),
        ("-0.5pp", "accuracy", Margin(absolute=0.005)),
        ("0.5pp", "accuracy", Margin(absolute=0.005)),
        ("+0.5pp", "errors", Margin(absolute=0.005)),
        ("+100% +0.01pp", "errors", Margin(absolute=0.0001, relative=1.0)),
        ("2pp", "disagreement", Margin(absolute=0.02)),
        ("0.02 loss", "loss", Margin(absolute=0.02)),
        ("1e-3 loss", "loss", Margin(absolute=0.001)),
    ],
)
def test_a_margin_is_read_as_written(text: str, metric: str, margin: Margin) -> None:
    read = parse_margin(text, metric)
    assert read.absolute == pytest.approx(margin.absolute)
    assert read.relative == pytest.approx(margin.relative)
    assert parse_margin(margin_text(read, metric), metric) == read


@pytest.mark.parametrize(
    ("text", "metric", "complaint"),
    [
        ("10", "latency", "no unit"),
        ("0.5", "accuracy", "no unit"),
        ("+10ms", "latency", "does not apply"),
        ("1pp", "latency", "does not apply"),
        ("5%", "accuracy", "does not apply"),
        ("0%", "latency", "is zero"),
        ("0.0pp", "errors", "is zero"),
        ("", "errors", "is empty"),
        ("-10%", "latency", "improvement"),
        ("+0.5pp", "accuracy", "improvement"),
        ("ten percent", "latency", "cannot be read"),
        ("nan%", "latency", "cannot be read"),
        ("10%", "throughput", "unknown metric"),
    ],
)
def test_a_margin_that_says_nothing_is_refused_with_an_example(text: str, metric: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_margin(text, metric)


@pytest.mark.parametrize(("absolute", "relative"), [(0.0, 0.0), (-0.1, 0.0), (float("nan"), 0.1), (float("inf"), 0.0)])
def test_a_margin_has_a_size(absolute: float, relative: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        Margin(absolute=absolute, relative=relative)
