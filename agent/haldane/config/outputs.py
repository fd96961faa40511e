"""Settings of outputs: which one is judged, and when two answers differ."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from haldane.config.base import Section
from haldane.judge.outputs import Loss, OutputKind, OutputRule, Tolerance


class ToleranceSection(Section):
    """Two numbers agree when |canary - stable| <= absolute + relative * |stable|."""

    absolute: Annotated[float, Field(ge=0)] = 1e-6
    """In the unit of the output."""

    relative: Annotated[float, Field(ge=0)] = 1e-5
    """As a share of stable's value."""

    def tolerance(self) -> Tolerance:
        return Tolerance(self.absolute, self.relative)


class OutputsSection(Section):
    """Which output is judged, and when two answers count as different."""

    kind: OutputKind = OutputKind.ANY
    """What the output is: `binary_probability`, `class_scores`, `regression`, or `any` (compared only). Needed when the
    right answer is known (traffic.label)."""

    output: str = ""
    """Its name; by default the only one, or "scores" of several."""

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Of the positive class, for binary_probability."""

    tolerance: ToleranceSection | None = None
    """When numbers agree. For classes only the class counts unless this is given."""

    tolerances: dict[str, ToleranceSection] = Field(default_factory=dict)
    """The same for single outputs, by name."""

    classes: tuple[str, ...] = ()
    """Class names in index order, when the right answers are names; of two, the second is positive."""

    top: Annotated[int, Field(ge=1)] = 1
    """For class_scores: two answers differ when others are among their so many highest classes, in whatever order."""

    logits: bool = False
    """The output is before the softmax or sigmoid."""

    loss: Loss | None = None
    """`log` or `brier` for classes, `squared` or `absolute` for regression; by default log and squared."""

    reach: Annotated[float, Field(gt=0)] | None = None
    """The largest loss that counts, before it is scaled to 0..1: in nats for log, in the output's unit for absolute, in
    its square for squared. By default log(100), or 1."""

    wrong_beyond: Annotated[float, Field(gt=0)] | None = None
    """Regression only: an answer further from the right one is wrong."""

    def rule(self) -> OutputRule:
        """The same as the judge takes it; ValueError says what would be right."""
        return OutputRule(
            output=self.output,
            kind=self.kind,
            threshold=self.threshold,
            tolerance=self.tolerance.tolerance() if self.tolerance else None,
            tolerances={name: given.tolerance() for name, given in self.tolerances.items()} or None,
            classes=self.classes,
            logits=self.logits,
            loss=self.loss,
            reach=self.reach,
            wrong_beyond=self.wrong_beyond,
            top=self.top,
        )

    @model_validator(mode="after")
    def _makes_a_rule(self) -> Self:
        self.rule()
        return self
