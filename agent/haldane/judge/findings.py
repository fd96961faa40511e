"""One metric's evidence as a Finding, in numbers a reader can check."""

import math
from dataclasses import dataclass, replace

from haldane.domain.evidence import Finding, Role, State
from haldane.stats.betting import Evidence

LOG10 = math.log(10)
COLD = frozenset({"errors", "latency"})  # measures that leave out the warm-up
SHOWN_LEVEL = 0.025  # each side of the interval people are shown, so 95 % together


@dataclass(slots=True)
class Watch:
    """A metric under judgement: its role, its share of alpha, its evidence."""

    name: str
    role: Role
    weight: float
    evidence: Evidence
    measures: str = ""  # "" when the name says it
    slice: str = ""  # the name of the slice it is of, "" for all pairs
    unit: str = "share"
    margin: float = 0.0  # in `unit`
    scale: float = 1.0  # one unit of the evidence, in `unit`
    last_entry: float | None = None  # second by which it must have data; None: fed by pairs, so counted in pairs
    patience: float = math.inf  # seconds without data, of one not fed by pairs, before it is called silent


def finding(
    watch: Watch, *, entered: bool, harmful: bool, log_harm: float, log_harmless: float, beta: float
) -> Finding:
    """What this evidence says now, without the interval (see `with_interval`)."""
    evidence = watch.evidence
    state = State.UNDECIDED
    if not entered or not evidence.pairs:
        state = State.NO_DATA
    elif harmful:
        state = State.HARMFUL
    elif log_harmless >= math.log(1 / beta):
        state = State.HARMLESS
    estimate = evidence.estimate()
    return Finding(
        metric=watch.name,
        measures=watch.measures or watch.name,
        slice=watch.slice,
        role=watch.role,
        state=state,
        unit=watch.unit,
        pairs=evidence.pairs,
        estimate=None if estimate is None else estimate * watch.scale,
        margin=watch.margin,
        log10_harm=log_harm / LOG10,
        log10_harmless=log_harmless / LOG10,
        detail=_detail(watch, entered),
    )


def _detail(watch: Watch, entered: bool) -> str:
    """What the numbers rest on; without any, the usual reason why not."""
    if not entered:
        of = f" of {watch.slice}" if watch.slice else ""
        return f"no data{of} when the metrics to judge were fixed"
    if (watch.measures or watch.name) in COLD and not watch.evidence.pairs:
        return "the first pairs of each server, its warm-up, do not count here"
    return watch.evidence.detail()


def with_interval(found: Finding, watch: Watch) -> Finding:
    """The same with its confidence sequence; costs about a millisecond, so only where it is shown."""
    if found.state is State.NO_DATA:
        return found
    low, high = watch.evidence.interval(SHOWN_LEVEL)
    scale = watch.scale
    return replace(found, lower=None if low is None else low * scale, upper=None if high is None else high * scale)
