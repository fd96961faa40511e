"""How much harm is accepted: a Margin, and how people write one."""

import re
from dataclasses import dataclass

_PART = re.compile(r"\s*([+-]?)\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*(%|pp|loss|[A-Za-z]*)\s*")
_UNITS = {
    "errors": ("pp", "%"),
    "accuracy": ("pp",),
    "disagreement": ("pp",),
    "drift": ("pp",),
    "loss": ("loss", "%"),
    "latency": ("%",),
}


@dataclass(frozen=True, slots=True)
class Margin:
    """Accepted is a canary of at most (1 + relative) x stable + absolute.

    `absolute` is a share (0.005 is half a percentage point), or in the unit
    of the loss; `relative` a ratio (0.1 is 10 %). Neither is negative, and not
    both are zero: on a margin of zero a perfectly good canary sits for ever.
    """

    absolute: float = 0.0
    relative: float = 0.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.absolute < float("inf") and 0.0 <= self.relative < float("inf")):
            raise ValueError(f"a margin is a finite size of harm, not {self.absolute!r} and {self.relative!r}")
        if self.absolute == 0.0 and self.relative == 0.0:
            raise ValueError("a margin of zero can never be shown to be kept; say how much harm is acceptable")


def parse_margin(text: str, metric: str) -> Margin:
    """The Margin written as "+10%", "0.5pp", "0.02 loss", or a sum such as "+100% +0.01pp".

    `%` is relative to stable, `pp` percentage points of all pairs, `loss` the
    loss's own unit. For accuracy "-0.5pp" (a drop) and "0.5pp" are the same.
    ValueError says what is wrong and what would do.
    """
    if metric not in _UNITS:
        raise ValueError(f"unknown metric {metric!r}; known are {', '.join(sorted(_UNITS))}")
    sums = dict.fromkeys(_UNITS[metric], 0.0)
    position = 0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            raise ValueError(f"margin {text!r} for {metric}: cannot be read; write for example {_example(metric)}")
        sums[_unit(text, metric, part)] += float(part[2])
        position = part.end()
    if not any(sums.values()):
        reason = "is zero, and a margin of zero can never be shown to be kept" if text.strip() else "is empty"
        raise ValueError(f"margin {text!r} for {metric} {reason}; write for example {_example(metric)}")
    return Margin(absolute=sums.get("pp", 0.0) / 100 + sums.get("loss", 0.0), relative=sums.get("%", 0.0) / 100)


def _unit(text: str, metric: str, part: re.Match[str]) -> str:
    sign, unit = part[1], part[3]
    if not unit:
        raise ValueError(f"margin {text!r} for {metric} has no unit; write for example {_example(metric)}")
    if unit not in _UNITS[metric]:
        raise ValueError(f"margin {text!r} for {metric}: {unit!r} does not apply; write for example {_example(metric)}")
    wrong_way = "+" if metric == "accuracy" else "-"
    if sign == wrong_way:
        raise ValueError(
            f"margin {text!r} for {metric}: this sign would ask for an improvement; "
            f"a margin is the harm accepted, for example {_example(metric)}"
        )
    return unit


def _example(metric: str) -> str:
    return {
        "errors": '"+0.5pp" or "+100% +0.01pp"',
        "accuracy": '"-0.5pp"',
        "disagreement": '"2pp"',
        "drift": '"5pp"',
        "loss": '"+5%" or "0.02 loss"',
        "latency": '"+10%"',
    }[metric]


def margin_text(margin: Margin, metric: str) -> str:
    """The margin as a person writes it; `parse_margin` reads it back."""
    parts = []
    if margin.relative:
        parts.append(f"+{100 * margin.relative:.10g}%")
    if margin.absolute and metric == "loss":
        parts.append(f"+{margin.absolute:.10g} loss")
    elif margin.absolute:
        parts.append(f"{'-' if metric == 'accuracy' else '+'}{100 * margin.absolute:.10g}pp")
    return " ".join(parts)
