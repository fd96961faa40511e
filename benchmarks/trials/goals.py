"""What the product's judge is held to, in one table."""

from collections.abc import Iterator
from dataclasses import dataclass

from .run import Result
from .scenario import Scenario
from .scenarios import LASTING, identical

EDGE_TRIALS, IDENTICAL_TRIALS, OTHER_TRIALS, BASELINE_TRIALS = 2000, 3000, 400, 200


@dataclass(frozen=True, slots=True)
class Speed:
    """At most this many median pairs, or this many times the floor."""

    ratio: float | None = None
    pairs: int | None = None

    def __str__(self) -> str:
        return f"{self.pairs} pairs" if self.pairs is not None else f"{self.ratio:.1f}"


SPEED: dict[str, Speed] = {
    **dict.fromkeys(
        (
            *("acc-aa-b02-m1", "acc-aa-b10-m1", "acc-better-b10-m.5", "acc-half-b02-m1"),
            *("acc+1-b02-m.5", "acc+2-b02-m1", "acc+5-b02-m1", "acc+5-b10-m1", "acc+3-labels20"),
            *("err-aa-m1e-3", "err-1e-3", "err-1e-2", "loss-aa", "loss+20"),
        ),
        Speed(ratio=1.4),
    ),
    "disagree-aa": Speed(ratio=1.6),
    "acc+5-late": Speed(ratio=3.5),
    "lat+5-m2": Speed(ratio=2.0),
    "lat+10-m5": Speed(ratio=2.0),
    "lat+25-m5": Speed(pairs=80),
    "lat+10-burst": Speed(ratio=8.0),
    "lat-tail-x1.5": Speed(ratio=5.0),
    "lat-bimodal": Speed(ratio=2.5),
    "multi-aa": Speed(ratio=2.0),
    "multi-err+1": Speed(ratio=1.5),
    "multi-lat+15": Speed(ratio=4.0),
}


def trials(scenario: Scenario) -> int:
    """How many trials of the product's judge a goal of this scenario needs."""
    if scenario.truth == "edge":
        return EDGE_TRIALS
    return IDENTICAL_TRIALS if identical(scenario) else OTHER_TRIALS


def most_rollbacks(scenario: Scenario) -> float | None:
    """Share of trials that may be rolled back; None where that is right."""
    if scenario.truth == "bad":
        return None
    if identical(scenario):
        return 0.0
    return 0.02 if scenario in LASTING else scenario.alpha


def most_promotions(scenario: Scenario) -> float | None:
    """Share of trials that may be promoted; None where that is right."""
    return None if scenario.truth == "good" else scenario.beta


def missed(scenario: Scenario, result: Result) -> Iterator[str]:
    """Each goal that this result misses, in words."""
    rollbacks, promotions = most_rollbacks(scenario), most_promotions(scenario)
    if rollbacks is not None and result.rollback_ratio > rollbacks:
        yield f"false rollback {result.rollback_ratio:.2%} > {rollbacks:.0%}"
    if promotions is not None and result.promotion_ratio > promotions:
        yield f"false promotion {result.promotion_ratio:.2%} > {promotions:.0%}"
    if result.early_promotions:
        yield f"promoted before the least pairs in {result.early_promotions} trials"
    if result.early_rollbacks > scenario.alpha * result.trials:
        yield f"rolled back before the change in {result.early_rollbacks} trials"
    speed = SPEED.get(scenario.name)
    if speed is None:
        return
    if result.median is None:
        yield "no right verdict in half of the trials"
    elif speed.pairs is not None and result.median > speed.pairs:
        yield f"median {result.median:.0f} > {speed.pairs} pairs"
    elif speed.ratio is not None and result.ratio is not None and result.ratio > speed.ratio:
        yield f"median / floor {result.ratio:.2f} > {speed.ratio}"
