"""A Batch of pairs as readings per metric: which pair may say what.

The rules of handling are all here. A failed answer is an outcome, never a
missing one: leaving slow or failed canary answers out would hide exactly the
harm that is looked for.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from haldane.domain.traffic import Batch, Status
from haldane.stats.betting import Floats

# Plain numbers: looking a member up for every comparison costs more than the comparison.
OK, TIMEOUT, NOT_FOUND, EXHAUSTED = (
    int(status) for status in (Status["OK"], Status["TIMEOUT"], Status["NOT_FOUND"], Status["EXHAUSTED"])
)

Flags = NDArray[np.bool_]
Readings = Mapping[str, tuple[Floats, Floats]]  # metric -> (stable, canary), shape (n,) each


@dataclass(slots=True)
class Tally:
    """What became of all pairs so far; `lost` and `rejected` by side: stable, then canary."""

    pairs: int = 0  # counted: neither warm-up, nor poisoned, nor lost, nor rejected
    warmup: int = 0
    poisoned: int = 0  # both sides failed: says nothing about the versions
    rejected: list[int] = field(default_factory=lambda: [0, 0])  # readings that cannot be: NaN, infinite, negative
    lost: list[int] = field(default_factory=lambda: [0, 0])  # not found, or no server thread free
    aa_pairs: int = 0
    aa_compared: int = 0  # A/A pairs whose outputs were compared
    aa_disagreed: int = 0
    by_server: dict[int, int] = field(default_factory=dict)  # canary pairs sent, warm-up included


def split(batch: Batch, names: Set[str], *, tally: Tally, warmup_pairs: int, reach: float) -> Readings:
    """Readings of the named metrics from the next batch, counting into `tally`.

    Values of "loss" are divided by `reach` and clipped to [0, 1]. Output
    metrics take fresh rows only, and during warm-up only rows both sides
    answered: a cold start changes how long an answer takes, not what it is.
    """
    _count_noise_floor(batch, tally)
    batch = batch[~batch["aa"]]
    cold = _cold(batch["server"], tally, warmup_pairs)
    stable, canary = batch["stable_status"], batch["canary_status"]
    lost = _lost(stable), _lost(canary)
    poisoned = (stable != OK) & (canary != OK) & ~lost[0] & ~lost[1]
    usable = ~lost[0] & ~lost[1] & ~poisoned
    impossible = _impossible(batch, "stable") & usable, _impossible(batch, "canary") & usable
    usable &= ~impossible[0] & ~impossible[1]
    counted = usable & ~cold
    tally.pairs += int(counted.sum())
    tally.warmup += int(cold.sum())
    tally.poisoned += int(poisoned.sum())
    for side in (0, 1):
        tally.rejected[side] += int(impossible[side].sum())
        tally.lost[side] += int(lost[side].sum())
    answered = (stable == OK) & (canary == OK)
    judged = usable & batch["fresh"] & (answered | ~cold)
    ways: dict[str, Callable[[], tuple[Floats, Floats]]] = {
        "errors": lambda: ((stable != OK)[counted].astype(np.float64), (canary != OK)[counted].astype(np.float64)),
        "latency": lambda: _latency(batch, counted & ~batch["masked"]),
        "accuracy": lambda: _outputs(batch, "wrong", judged, tally, reach=1.0),
        "loss": lambda: _outputs(batch, "loss", judged, tally, reach=reach),
        "disagreement": lambda: _disagreement(batch, judged & (stable == OK)),
    }
    return {name: ways[name]() for name in sorted(names)}


def _count_noise_floor(batch: Batch, tally: Tally) -> None:
    same = batch[batch["aa"]]
    tally.aa_pairs += len(same)
    compared = same["disagrees"][np.isfinite(same["disagrees"])]
    tally.aa_compared += len(compared)
    tally.aa_disagreed += int((compared > 0).sum())


def _cold(servers: NDArray[np.int16], tally: Tally, warmup_pairs: int) -> Flags:
    """True for the first pairs of each server."""
    cold = np.zeros(len(servers), np.bool_)
    for server in np.unique(servers).tolist():
        places = np.flatnonzero(servers == server)
        before = tally.by_server.get(server, 0)
        cold[places[: max(0, warmup_pairs - before)]] = True
        tally.by_server[server] = before + len(places)
    return cold


def _lost(status: NDArray[np.uint8]) -> Flags:
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


def _latency(batch: Batch, rows: Flags) -> tuple[Floats, Floats]:
    """Seconds of both sides; a time-out counts as the deadline, other failures have no latency."""
    stable, canary = batch["stable_status"], batch["canary_status"]
    timed = ((stable == OK) | (stable == TIMEOUT)) & ((canary == OK) | (canary == TIMEOUT))
    rows = rows & timed
    return batch["stable_seconds"][rows].astype(np.float64), batch["canary_seconds"][rows].astype(np.float64)


def _outputs(batch: Batch, what: str, rows: Flags, tally: Tally, *, reach: float) -> tuple[Floats, Floats]:
    """Badness in [0, 1] of both sides where the truth is known.

    A side that failed is as bad as can be. A truth known for one answer only
    is not a missing label but an answer nobody can score: rejected, and counted.
    """
    values = {side: batch[f"{side}_{what}"][rows].astype(np.float64) for side in ("stable", "canary")}
    failed = {side: batch[f"{side}_status"][rows] != OK for side in ("stable", "canary")}
    known = {side: ~np.isnan(values[side]) for side in ("stable", "canary")}
    both = ~failed["stable"] & ~failed["canary"]
    tally.rejected[0] += int((both & known["canary"] & ~known["stable"]).sum())
    tally.rejected[1] += int((both & known["stable"] & ~known["canary"]).sum())
    for side, other in (("stable", "canary"), ("canary", "stable")):
        values[side][failed[side] & known[other]] = reach
    keep = ~np.isnan(values["stable"]) & ~np.isnan(values["canary"])
    return (
        np.minimum(values["stable"][keep] / reach, 1.0),
        np.minimum(values["canary"][keep] / reach, 1.0),
    )


def _disagreement(batch: Batch, rows: Flags) -> tuple[Floats, Floats]:
    """1 where the canary's answer differs from stable's, or is missing; stable's column is 0."""
    differs = batch["disagrees"][rows].astype(np.float64)
    differs[batch["canary_status"][rows] != OK] = 1.0
    differs = (differs[~np.isnan(differs)] > 0).astype(np.float64)
    return np.zeros(len(differs)), differs
