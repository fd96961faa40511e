"""Truth that comes late: which pairs wait for a label, and what a label says when it has come.

A label is held against the answers of its pair exactly as if it had been known
when they came (`judge.scoring`); the counts do not care when it entered. Labels
must come for reasons unrelated to who was right: those that arrive because
somebody complained prove nothing, and no rule here can tell them apart.
"""

import numpy as np

from haldane.domain.entries import Entry
from haldane.domain.traffic import Batch
from haldane.judge.columns import OK, Flags, Readings, Tally, cold, lost, of
from haldane.judge.rules import Rules
from haldane.stats.betting import Floats

MEASURES = ("accuracy", "loss")  # what a label feeds


def awaits(batch: Batch, tally: Tally, *, warmup_pairs: int) -> Flags:
    """Which rows of the next batch a later label may still judge; shape (n,). `tally` is of all batches before.

    The same pairs that would feed accuracy and loss if their label were known by now: not A/A,
    not a row judged before, answered by one side at least, and during warm-up by both.
    """
    stable, canary = batch["stable_status"], batch["canary_status"]
    both, either = (stable == OK) & (canary == OK), (stable == OK) | (canary == OK)
    asked = ~lost(stable) & ~lost(canary)
    chilly = np.zeros(len(batch), np.bool_)
    ab = ~batch["aa"]
    chilly[ab] = cold(batch["server"][ab], dict(tally.by_server), warmup_pairs)
    unknown = np.ones(len(batch), np.bool_)
    for name in ("stable_wrong", "canary_wrong", "stable_loss", "canary_loss"):
        unknown &= np.isnan(batch[name])
    flags: Flags = ab & batch["fresh"] & (batch["request"] != 0) & unknown & asked & either & (both | ~chilly)
    return flags


def readings(labels: Entry, rules: Rules, tally: Tally) -> Readings:
    """What labels that came late say, per rule that takes truth; counts into `tally`.

    A label that cannot be held against either answer says nothing. One that fits a single answer, or a
    value that cannot be, is rejected and counted, as in a pair.
    """
    found = {}
    tally.labels += len(labels)
    for measure, column in (("accuracy", "wrong"), ("loss", "loss")):
        takers = [rule for rule in rules.metrics if rule.measures == measure]
        if not takers:
            continue
        stable, canary = (labels[f"{side}_{column}"].astype(np.float64) for side in ("stable", "canary"))
        fits = [_possible(values, binary=measure == "accuracy") for values in (stable, canary)]
        tally.rejected[0] += int((fits[1] & ~fits[0]).sum())
        tally.rejected[1] += int((fits[0] & ~fits[1]).sum())
        for rule in takers:
            found[rule.name] = of(rule, labels["slices"], fits[0] & fits[1], stable, canary)
    return found


def _possible(values: Floats, *, binary: bool) -> Flags:
    """0 or 1 for wrong; for a loss anything from 0 up, infinite where the side gave no answer."""
    flags: Flags = (values == 0) | (values == 1) if binary else values >= 0
    return flags
