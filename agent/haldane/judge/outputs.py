"""How answers are judged: which output, what makes two of them differ, when one is wrong.

The words only. `scoring` applies them to answers, `analysis` says what many
scores prove. Order is always stable, then canary; NaN means "not known", never
zero.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]
Answer = Mapping[str, Array]  # output name -> values, first axis the request's rows
Truth = float | str | None


class OutputKind(StrEnum):
    """What the judged output is."""

    BINARY_PROBABILITY = "binary_probability"  # of the positive class: shape (rows,), (rows, 1) or (rows, 2)
    CLASS_SCORES = "class_scores"  # shape (rows, classes)
    REGRESSION = "regression"
    ANY = "any"  # compared, never held against a truth


class Loss(StrEnum):
    """How wrong one answer is, from 0 to 1."""

    LOG = "log"  # -log of the true class's probability, cut at `reach` nats, over `reach`
    BRIER = "brier"  # squared distance to the truth, over 1 (binary) or 2 (classes)
    SQUARED = "squared"  # squared error, cut at `reach`, over `reach`
    ABSOLUTE = "absolute"  # absolute error, cut at `reach`, over `reach`


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two numbers agree when |canary - stable| <= absolute + relative * |stable|."""

    absolute: float = 1e-6
    relative: float = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRule:
    """Which output is judged, and how.

    A class output disagrees when the class flips, or with `top` when others are among the
    highest; a tolerance given beside that counts too. Other outputs disagree beyond the tolerance. `classes` names the
    classes in index order; with two outputs or classes, the second is positive.
    """

    output: str = ""  # "": the only one, or "scores" of several; for ANY: all of them
    kind: OutputKind = OutputKind.ANY
    threshold: float = 0.5  # of the positive class, BINARY_PROBABILITY only
    tolerance: Tolerance | None = None
    tolerances: Mapping[str, Tolerance] | None = None  # by output, before `tolerance`
    classes: tuple[str, ...] = ()  # how a truth that is a name becomes an index
    logits: bool = False  # CLASS_SCORES before the softmax, BINARY_PROBABILITY before the sigmoid
    loss: Loss | None = None  # None: LOG for classes, SQUARED for REGRESSION
    reach: float | None = None  # of the loss before it is scaled to [0, 1]; None: log(100) or 1
    wrong_beyond: float | None = None  # REGRESSION: an answer further from the truth is wrong
    top: int = 1  # CLASS_SCORES: so many of the highest classes must be the same, in whatever order

    def __post_init__(self) -> None:
        if self.top < 1 or (self.top > 1 and self.kind is not OutputKind.CLASS_SCORES):
            raise ValueError(f"top is for class_scores, and at least 1; got {self.top} with {self.kind}")
        if self.reach is not None and not self.reach > 0:
            raise ValueError(f"reach must be positive, got {self.reach!r}")
        if self.loss in (Loss.SQUARED, Loss.ABSOLUTE) and self.of_classes:
            raise ValueError("a class output takes the loss log or brier")
        if self.loss in (Loss.LOG, Loss.BRIER) and self.kind is OutputKind.REGRESSION:
            raise ValueError("a regression takes the loss squared or absolute")

    @property
    def of_classes(self) -> bool:
        return self.kind in (OutputKind.BINARY_PROBABILITY, OutputKind.CLASS_SCORES)

    @property
    def judged_loss(self) -> Loss:
        return self.loss or (Loss.LOG if self.of_classes else Loss.SQUARED)

    @property
    def judged_reach(self) -> float:
        # log(100): a true class given less than 1 % counts as 1 %.
        return self.reach or (math.log(100.0) if self.judged_loss is Loss.LOG else 1.0)

    def tolerance_of(self, output: str) -> Tolerance | None:
        """None when this output is not compared by value."""
        given = (self.tolerances or {}).get(output, self.tolerance)
        return given if given is not None or self.of_classes else Tolerance()

    def name_in(self, answer: Answer) -> str | None:
        """The judged output's name in this answer; None when it has none."""
        if self.output:
            return self.output if self.output in answer else None
        if len(answer) == 1:
            return next(iter(answer))
        return "scores" if "scores" in answer else None

    def truth_number(self, truth: Truth) -> float:
        """The truth as a class index or a number; NaN when it cannot be read as one."""
        if truth is None:
            return math.nan
        if isinstance(truth, str) and truth in self.classes:
            return float(self.classes.index(truth))
        try:
            return float(truth)
        except (ValueError, OverflowError):  # an integer of hundreds of digits
            return math.nan


@dataclass(frozen=True, slots=True)
class Stack:
    """Answers of one layout, stacked: what is compared, instead of one answer after the other."""

    at: NDArray[np.intp]  # (n,) which of the pairs they belong to, ascending
    outputs: Answer  # output name -> (n, ...)

    def of(self, at: NDArray[np.intp]) -> Answer:
        """The outputs of these pairs only, all of which are in it."""
        if len(at) == len(self.at):
            return self.outputs
        rows = np.searchsorted(self.at, at)
        return {name: array[rows] for name, array in self.outputs.items()}


def stacked(answers: Sequence[Answer | None]) -> list[Stack]:
    """Answers of any layouts, None where there is none, as stacks."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for place, answer in enumerate(answers):
        if answer is not None:
            layout = tuple((name, answer[name].dtype.str, answer[name].shape) for name in sorted(answer))
            groups[layout].append(place)
    return [
        Stack(np.array(places), {name: np.stack([answers[place][name] for place in places]) for name, *_ in layout})  # type: ignore[index]
        for layout, places in groups.items()
    ]


@dataclass(frozen=True, slots=True)
class Scores:
    """The numbers of n pairs, as columns of Batch: shape (n,), float32, NaN where not known."""

    disagrees: Floats  # 0 or 1
    distance: Floats  # largest difference, unit of the output; inf: not comparable
    stable_wrong: Floats  # 0 or 1
    canary_wrong: Floats
    stable_loss: Floats  # 0 to 1
    canary_loss: Floats
    stable_output: Floats  # the judged output of one-row requests as one number; inf: answered, but not a number
    canary_output: Floats

    @classmethod
    def unknown(cls, n: int) -> "Scores":
        return cls(*(np.full(n, np.nan, np.float32) for _ in fields(cls)))


@dataclass(frozen=True, slots=True)
class Scored:
    """The numbers of n pairs, and which answers could not be read: bool (n,) each."""

    scores: Scores
    stable_unreadable: NDArray[np.bool_]
    canary_unreadable: NDArray[np.bool_]
