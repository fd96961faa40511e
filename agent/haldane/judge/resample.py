"""Recorded pairs drawn anew: sides swapped, stretches put together afresh, harm of a known size put in.

Owns what makes recorded traffic into trials with a known truth, and keeps its
noise as it was: whole stretches move, and their seconds change sides as a
whole, so what slowed one arm for long still does. Chance is passed in.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from haldane.domain.entries import LABEL_DTYPE, Entry
from haldane.domain.traffic import PAIR_DTYPE, Batch, Status, empty_batch
from haldane.judge.rules import MetricRule, Rules

OK = int(Status.OK)
HARMED = ("errors", "accuracy", "loss", "latency")  # harm of a known size can be put into these
LEFT_OUT = ("disagreement",)  # has no sides, so swapping them says nothing of it
SHORTEST_STRETCH = 200  # pairs, also where no dependence is declared: it may be there all the same
STRETCH_DEPENDENCE = 20  # a stretch lasts that many times the declared dependence (judge.md, 13.3)

Rng = np.random.Generator
_SIDES = [name.removeprefix("stable_") for name in PAIR_DTYPE.names or () if name.startswith("stable_")]


def comparable(rules: Rules) -> tuple[Rules, tuple[str, ...]]:
    """The rules of what can be tried on swapped pairs, and the names left out; ValueError when nothing is left.

    Gauges are not in the pairs, a limit knows one side only, and whether two
    answers differ does not depend on which side gave which.
    """
    kept = tuple(rule for rule in rules.metrics if rule.measures not in LEFT_OUT)
    gone = (rule.name for rule in rules.metrics if rule not in kept)
    names = (*gone, *(limit.name for limit in rules.limits), *(gauge.name for gauge in rules.gauges))
    if not kept:
        raise ValueError(f"nothing to try on pairs: {', '.join(names)} cannot be")
    return replace(rules, metrics=kept, limits=(), gauges=(), late_labels=False), names


def paired(entries: Iterable[Entry]) -> Batch:
    """The pairs of a log as one table: without A/A pairs, with labels that came later filled in."""
    entries = tuple(entries)
    batches = [entry[~entry["aa"]] for entry in entries if entry.dtype == PAIR_DTYPE]
    table = np.concatenate(batches) if batches else empty_batch()
    labels = [entry for entry in entries if entry.dtype == LABEL_DTYPE]
    if labels:
        _join(table, np.concatenate(labels))
    return table


def _join(table: Batch, labels: Entry) -> None:
    order = np.argsort(table["request"], kind="stable")
    at = np.searchsorted(table["request"], labels["request"], sorter=order)
    inside = at < len(table)
    rows, labels = order[at[inside]], labels[inside]
    same = table["request"][rows] == labels["request"]
    for name in ("stable_wrong", "canary_wrong", "stable_loss", "canary_loss"):
        table[name][rows[same]] = labels[name][same]


def swapped(pairs: Batch, *, block: int, rng: Rng, lasting: int | None = None) -> Batch:
    """The pairs with the sides of every block of so many changed or not, as a coin says.

    However the versions differ, the two sides of the result do not: each is a
    mixture of both. With `lasting`, the seconds of answered pairs change sides
    in blocks of that many instead, so that what slows one side for long still
    does. Source: the randomization test, Fisher, The Design of Experiments.
    """
    turned = _coins(len(pairs), block, rng)
    slow = turned
    if lasting is not None:  # the seconds of a failure belong to it
        answered = (pairs["stable_status"] == OK) & (pairs["canary_status"] == OK)
        slow = np.where(answered, _coins(len(pairs), lasting, rng), turned)
    made = pairs.copy()
    for name in _SIDES:
        rows = slow if name == "seconds" else turned
        made[f"stable_{name}"][rows] = pairs[f"canary_{name}"][rows]
        made[f"canary_{name}"][rows] = pairs[f"stable_{name}"][rows]
    return made


def _coins(n: int, block: int, rng: Rng) -> NDArray[np.bool_]:
    """One toss for each block of rows; shape (n,)."""
    tosses = rng.integers(0, 2, math.ceil(n / block)).astype(np.bool_)
    return np.repeat(tosses, block)[:n]


@dataclass(frozen=True, slots=True)
class Noise:
    """Recorded pairs to draw streams from, with the typical difference in latency taken out.

    `starts` are the places where a whole `stretch` begins, never across two logs.
    """

    pairs: Batch
    starts: NDArray[np.int64]
    stretch: int
    rate: float  # pairs a second, as recorded

    def stream(self, length: int, rng: Rng) -> Batch:
        """An A/A stream of that many pairs: stretches drawn with replacement, sides swapped.

        Pair by pair where answers are right or wrong, which only count; for
        seconds stretch by stretch, since what is tried is how long noise lasts.

        Source: Künsch, The jackknife and the bootstrap for general stationary
        observations (moving blocks).
        """
        firsts = rng.choice(self.starts, math.ceil(length / self.stretch))
        rows = (firsts[:, None] + np.arange(self.stretch)).ravel()[:length]
        made = swapped(self.pairs[rows], block=1, lasting=self.stretch, rng=rng)
        made["seq"] = np.arange(length)
        made["at"] = made["seq"] / self.rate
        return made


def noise(tables: Sequence[Batch], rules: Rules) -> Noise:
    """What those pairs are as noise, warm-up left out. ValueError when they are too few to draw from."""
    warm = [_warm(table, rules.warmup_pairs) for table in tables]
    wanted = max(
        SHORTEST_STRETCH,
        rules.block_pairs,
        math.ceil(STRETCH_DEPENDENCE * rules.dependence_seconds * rules.rate_per_second),
    )
    longest = max((len(table) for table in warm), default=0)
    stretch = min(wanted, longest // 4)  # fewer than four to choose from would be a copy
    if stretch < rules.block_pairs:
        raise ValueError(
            f"{longest:,} pairs past the warm-up are too few: give at least {4 * rules.block_pairs:,} of one rollout"
        )
    ends = np.cumsum([len(table) for table in warm])
    starts = [np.arange(end - len(table), end - stretch + 1) for end, table in zip(ends, warm, strict=True)]
    return Noise(
        np.concatenate([_centred(table) for table in warm]), np.concatenate(starts), stretch, _rate(warm, rules)
    )


def _centred(table: Batch) -> Batch:
    """Without the typical ratio of latency: else each stretch that is swapped would look like a burst in one arm."""
    made, stable, canary = table.copy(), table["stable_seconds"], table["canary_seconds"]
    timed = (stable > 0) & (canary > 0) & np.isfinite(stable) & np.isfinite(canary)
    if timed.any():
        made["canary_seconds"] /= np.exp(np.median(np.log(canary[timed] / stable[timed])))
    return made


def _warm(table: Batch, warmup_pairs: int) -> Batch:
    kept = np.ones(len(table), np.bool_)
    for server in np.unique(table["server"]).tolist():
        kept[np.flatnonzero(table["server"] == server)[:warmup_pairs]] = False
    return table[kept]


def _rate(tables: Sequence[Batch], rules: Rules) -> float:
    seconds = sum(float(table["at"].max() - table["at"].min()) for table in tables if len(table))
    pairs = sum(len(table) for table in tables)
    return pairs / seconds if seconds > 0 else rules.rate_per_second


@dataclass(frozen=True, slots=True)
class Harm:
    """Harm of a known size in one metric. At `times` 1 the canary sits on its margin, where the promises are hardest.

    Failures, wrong answers and full losses are put in at random, `chance` per
    margin for an answer that was good; latency is stretched.
    """

    rule: MetricRule
    chance: float  # 0 for latency
    size: float  # of one margin, in `unit`
    unit: str

    @property
    def most(self) -> float:
        """Margins that can be put in: then every answer is bad."""
        return 1.0 / self.chance if self.chance else math.inf

    def into(self, pairs: Batch, times: float, rng: Rng) -> Batch:
        """The pairs with so many margins of harm on the canary's side."""
        measures, made = self.rule.measures, pairs.copy()
        rows = _of_slice(made, self.rule)
        if measures == "latency":
            made["canary_seconds"][rows] *= 1 + times * self.rule.margin.relative
            return made
        rows &= rng.random(len(made)) < min(1.0, times * self.chance)
        rows &= made["canary_status"] == OK
        if measures == "errors":
            made["canary_status"][rows] = int(Status.INTERNAL)
            made["fresh"][rows] = False  # else it would be harm in accuracy, too
        elif measures == "accuracy":
            rows &= made["canary_wrong"] == 0
            made["canary_wrong"][rows] = 1
        else:
            rows &= np.isfinite(made["canary_loss"])
            made["canary_loss"][rows] = self.rule.reach
        return made


def harm(rule: MetricRule, source: Noise) -> Harm | None:
    """How harm of that metric is put into this noise; None when it cannot be, or there are no data of it."""
    margin, rows = rule.margin, _of_slice(source.pairs, rule)
    if rule.measures == "latency":
        timed = rows & (source.pairs["stable_seconds"] > 0) & (source.pairs["canary_seconds"] > 0)
        return Harm(rule, 0.0, margin.relative, "ratio") if timed.any() else None
    if rule.measures not in HARMED:
        return None
    bad = _badness(source.pairs, rows, rule)
    reach = rule.reach if rule.measures == "loss" else 1.0
    if not len(bad) or bad.mean() >= reach:
        return None
    size = margin.absolute + margin.relative * float(bad.mean())
    return Harm(rule, size / (reach - float(bad.mean())), size, "loss" if rule.measures == "loss" else "share")


def _of_slice(pairs: Batch, rule: MetricRule) -> NDArray[np.bool_]:
    if rule.slice is None:
        return np.ones(len(pairs), np.bool_)
    inside: NDArray[np.bool_] = ((pairs["slices"] >> np.uint32(rule.slice)) & 1).astype(np.bool_)
    return inside


def _badness(pairs: Batch, rows: NDArray[np.bool_], rule: MetricRule) -> NDArray[np.float64]:
    """Of both sides together: swapped, they have the same mean."""
    sides = []
    for side in ("stable", "canary"):
        status = pairs[f"{side}_status"]
        if rule.measures == "errors":
            sides.append((status[rows] != OK).astype(np.float64))
            continue
        values = pairs[f"{side}_{'wrong' if rule.measures == 'accuracy' else 'loss'}"].astype(np.float64)
        sides.append(np.minimum(values[rows & pairs["fresh"] & np.isfinite(values)], rule.reach))
    return np.concatenate(sides)
