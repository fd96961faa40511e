"""A Batch of pairs as readings per rule: which pair may say what.

The rules of handling are all here. A failed answer is an outcome, never a
missing one: leaving slow or failed canary answers out would hide exactly the
harm that is looked for.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from haldane.domain.traffic import Batch, Status
from haldane.judge.limit import LimitRule
from haldane.judge.rules import MetricRule
from haldane.stats.betting import Floats

# Plain numbers: looking a member up for every comparison costs more than the comparison.
OK, TIMEOUT, NOT_FOUND, EXHAUSTED = (
    int(status) for status in (Status["OK"], Status["TIMEOUT"], Status["NOT_FOUND"], Status["EXHAUSTED"])
)

Flags = NDArray[np.bool_]
Readings = Mapping[str, tuple[Floats, Floats]]  # a rule's name -> (stable, canary), shape (n,) each
Columns = tuple[Flags, Floats, Floats]  # rows that say something, (n,), and what: stable, canary, shape (n,) each


@dataclass(slots=True)
class Tally:
    """What became of all pairs so far; `lost` and `rejected` by side: stable, then canary."""

    pairs: int = 0  # counted: neither warm-up, nor poisoned, nor lost, nor rejected
    warmup: int = 0
    masked: int = 0  # a model was loading on their server, so not for latency
    poisoned: int = 0  # both sides failed: says nothing about the versions
    rejected: list[int] = field(default_factory=lambda: [0, 0])  # readings that cannot be: NaN, infinite, negative
    lost: list[int] = field(default_factory=lambda: [0, 0])  # not found, or no server thread free
    aa_pairs: int = 0
    by_server: dict[int, int] = field(default_factory=dict)  # canary pairs sent, warm-up included
    labels: int = 0  # that came after their pair was judged without


def split(
    batch: Batch,
    rules: Iterable[MetricRule],
    *,
    limits: Iterable[LimitRule] = (),
    tally: Tally,
    warmup_pairs: int,
) -> Readings:
    """Readings of each rule and limit, by its name, from the next batch, counting into `tally`.

    A rule with a slice gets that slice's pairs only. Losses are divided by the
    rule's reach and clipped to [0, 1]. Output metrics take fresh rows only, and
    during warm-up only rows both sides answered: a cold start changes how long
    an answer takes, not what it is. A limit takes canary's side alone.
    """
    whole, batch = batch, batch[~batch["aa"]]
    tally.aa_pairs += len(whole) - len(batch)
    use = _use(batch, tally, warmup_pairs)
    stable, canary = batch["stable_status"], batch["canary_status"]
    ways: dict[str, Callable[[], Columns]] = {
        "errors": lambda: (use.counted, (stable != OK).astype(np.float64), (canary != OK).astype(np.float64)),
        "latency": lambda: _latency(batch, use.counted & ~batch["masked"]),
        "accuracy": lambda: _outputs(batch, "wrong", use.judged, tally),
        "loss": lambda: _outputs(batch, "loss", use.judged, tally),
        "disagreement": lambda: _disagreement(whole, use.judged & (stable == OK)),
        "drift": lambda: _drift(batch, use.judged & (stable == OK) & (canary == OK)),
    }
    rules = tuple(rules)
    # Once per measure, however many slices share it: what cannot be scored is counted once.
    columns = {measure: ways[measure]() for measure in sorted({rule.measures for rule in rules})}
    slices = {measure: (whole if measure == "disagreement" else batch)["slices"] for measure in columns}
    found = {rule.name: of(rule, slices[rule.measures], *columns[rule.measures]) for rule in rules}
    return found | {limit.name: _beyond(limit, batch, use.alone) for limit in limits}


@dataclass(frozen=True, slots=True)
class _Use:
    """Which pairs of a batch without A/A may say what; flags of shape (n,)."""

    counted: Flags  # for errors and latency: past the warm-up
    judged: Flags  # for outputs: not judged before, and in the warm-up answered by both
    alone: Flags  # for limits: canary's side can be used, whatever stable's says


def _use(batch: Batch, tally: Tally, warmup_pairs: int) -> _Use:
    """Sorts out what can say nothing, and counts it."""
    early = cold(batch["server"], tally.by_server, warmup_pairs)
    ok = batch["stable_status"] == OK, batch["canary_status"] == OK
    gone = lost(batch["stable_status"]), lost(batch["canary_status"])
    poisoned = ~ok[0] & ~ok[1] & ~gone[0] & ~gone[1]
    impossible = _impossible(batch, "stable"), _impossible(batch, "canary")
    asked = ~gone[0] & ~gone[1] & ~poisoned
    usable = asked & ~impossible[0] & ~impossible[1]
    counted = usable & ~early
    tally.pairs += int(counted.sum())
    tally.masked += int((counted & batch["masked"]).sum())
    tally.warmup += int(early.sum())
    tally.poisoned += int(poisoned.sum())
    for side in (0, 1):
        tally.rejected[side] += int((impossible[side] & asked).sum())
        tally.lost[side] += int(gone[side].sum())
    return _Use(
        counted=counted,
        judged=usable & batch["fresh"] & ((ok[0] & ok[1]) | ~early),
        alone=~gone[1] & ~poisoned & ~impossible[1] & ~early,
    )


def of(
    rule: MetricRule, slices: NDArray[np.uint32], rows: Flags, stable: Floats, canary: Floats
) -> tuple[Floats, Floats]:
    """One rule's share of what its measure says."""
    if rule.slice is not None:
        rows = rows & ((slices >> np.uint32(rule.slice)) & 1).astype(np.bool_)
    stable, canary = stable[rows], canary[rows]
    if rule.measures == "loss":
        return np.minimum(stable / rule.reach, 1.0), np.minimum(canary / rule.reach, 1.0)
    if rule.measures == "disagreement" and not rule.floor:
        canary = canary[~np.isnan(canary)]
        return np.zeros(len(canary)), canary
    return stable, canary


def cold(servers: NDArray[np.int16], seen: dict[int, int], warmup_pairs: int) -> Flags:
    """True for the first pairs of each server; `seen` counts those before, and is added to."""
    flags = np.zeros(len(servers), np.bool_)
    for server in np.unique(servers).tolist():
        places = np.flatnonzero(servers == server)
        before = seen.get(server, 0)
        flags[places[: max(0, warmup_pairs - before)]] = True
        seen[server] = before + len(places)
    return flags


def lost(status: NDArray[np.uint8]) -> Flags:
    """The version was never asked: the label resolves to nothing, or the server had no thread free."""
    flags: Flags = (status == NOT_FOUND) | (status == EXHAUSTED)
    return flags


def _impossible(batch: Batch, side: str) -> Flags:
    seconds, wrong, loss = batch[f"{side}_seconds"], batch[f"{side}_wrong"], batch[f"{side}_loss"]
    status = batch[f"{side}_status"]
    timed = (status == OK) | (status == TIMEOUT)
    bad_time = timed & ~(np.isfinite(seconds) & (seconds > 0))
    bad_wrong = ~np.isnan(wrong) & (wrong != 0) & (wrong != 1)
    flags: Flags = bad_time | bad_wrong | (loss < 0)
    return flags


def _latency(batch: Batch, rows: Flags) -> Columns:
    """Seconds of both sides; a time-out counts as the deadline, other failures have no latency."""
    stable, canary = batch["stable_status"], batch["canary_status"]
    timed = ((stable == OK) | (stable == TIMEOUT)) & ((canary == OK) | (canary == TIMEOUT))
    return rows & timed, batch["stable_seconds"], batch["canary_seconds"]


def _beyond(limit: LimitRule, batch: Batch, rows: Flags) -> tuple[Floats, Floats]:
    """1 where canary alone failed, or took too long; a time-out always did. Stable's column is 0."""
    status = batch["canary_status"]
    bad = status != OK
    if limit.seconds is not None:
        rows = rows & ((status == OK) | (status == TIMEOUT)) & ~batch["masked"]
        bad = bad | (batch["canary_seconds"] > limit.seconds)
    return np.zeros(int(rows.sum())), bad[rows].astype(np.float64)


def _outputs(batch: Batch, what: str, rows: Flags, tally: Tally) -> Columns:
    """Badness of both sides where the truth is known; a side that failed is as bad as can be.

    A truth known for one answer only is not a missing label but an answer
    nobody can score: rejected, and counted.
    """
    as_bad_as_can_be = 1.0 if what == "wrong" else np.inf
    values = [batch[f"{side}_{what}"].astype(np.float64) for side in ("stable", "canary")]
    failed = [batch[f"{side}_status"] != OK for side in ("stable", "canary")]
    known = [~np.isnan(value) for value in values]
    both = rows & ~failed[0] & ~failed[1]
    for side, other in ((0, 1), (1, 0)):
        tally.rejected[side] += int((both & known[other] & ~known[side]).sum())
        values[side][failed[side] & known[other]] = as_bad_as_can_be
    return rows & ~np.isnan(values[0]) & ~np.isnan(values[1]), values[0], values[1]


def _disagreement(batch: Batch, rows: Flags) -> Columns:
    """1 where the second answer differs from the first, or is missing; `rows` are of the pairs that are not A/A.

    Canary's column holds pairs of stable with canary, stable's column those
    of stable with itself (A/A), in order of sending; NaN where it is the other.
    """
    alone = batch["aa"]
    differs = batch["disagrees"].astype(np.float64)
    differs[batch["canary_status"] != OK] = 1.0
    said = batch["fresh"] & (batch["stable_status"] == OK) & ~lost(batch["canary_status"])
    said[~alone] = rows
    said &= ~np.isnan(differs)
    differs = (differs > 0).astype(np.float64)
    return said, np.where(alone, differs, np.nan), np.where(alone, np.nan, differs)


def _drift(batch: Batch, rows: Flags) -> Columns:
    """The outputs of both sides, where both answered one."""
    stable, canary = (batch[f"{side}_output"].astype(np.float64) for side in ("stable", "canary"))
    return rows & ~np.isnan(stable) & ~np.isnan(canary), stable, canary
