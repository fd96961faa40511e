"""Slices: the requests whose field has a given value, judged beside all requests.

A canary can be better on the whole and worse for a few. Slices are named
before the hearing and take their share of alpha from the start, so that
looking at many of them finds nothing by chance more often than looking at none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from haldane.domain.evidence import Role
from haldane.judge.margin import Margin
from haldane.judge.rules import MetricRule, Slice

# What a slice is judged on when nothing else is said. Latency is left out: it is judged in blocks of as many pairs as
# all requests need to outlast noise, of which a slice seldom fills enough.
SLICED = ("errors", "accuracy", "loss")
# All slices of a metric together weigh half as much as the metric itself: they see fewer pairs, and share what harm
# they have with it. A third of alpha costs the whole some 0.4 nats, 5 to 8 % more pairs.
SLICE_WEIGHT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRule:
    """How one slice is judged: the margins of its metrics by name, None for the metric's own."""

    slice: Slice
    role: Role
    margins: Mapping[str, Margin | None]
    share: float = 1.0  # of all requests, at most


def sliced(metrics: Sequence[MetricRule], slices: Sequence[SliceRule], *, weight: float) -> tuple[MetricRule, ...]:
    """The rules of all slices, in the slices' order.

    All slices of a metric that can roll back weigh together `weight` times what it
    weighs, in equal parts. ValueError when a slice is to be judged on a metric that is not there.
    """
    by_name = {rule.name: rule for rule in metrics}
    able = [one for one in slices if one.role.rolls_back]
    counts = {name: max(1, sum(name in one.margins for one in able)) for name in by_name}
    rules = []
    for index, one in enumerate(slices):
        if not one.margins:
            raise ValueError(f"slice {one.slice.name}: no metric is judged in it")
        for name, margin in one.margins.items():
            if name not in by_name:
                raise ValueError(f"slice {one.slice.name}: {name} is not judged; judged are {', '.join(by_name)}")
            base = by_name[name]
            rules.append(
                replace(
                    base,
                    name=f"{name} {one.slice.name}",
                    kind=base.measures,
                    slice=index,
                    share=one.share,
                    role=one.role,
                    margin=margin or base.margin,
                    weight=base.weight * weight / counts[name],
                    # A tail watch needs more pairs than a slice has, and 20 kB each.
                    tails=(),
                )
            )
    return tuple(rules)


def membership(fields: Mapping[str, str], slices: Sequence[Slice]) -> int:
    """The bits of a pair: bit i is set when its request belongs to slice i."""
    return sum(1 << index for index, one in enumerate(slices) if fields.get(one.field) == one.value)


def as_text(value: object) -> str | None:
    """A field's value as slices name it: text, whole numbers without a point, true and false; None for all else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating) and np.isfinite(value):
        return str(int(value)) if float(value).is_integer() else str(value)
    return None
