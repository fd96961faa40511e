"""Folds batches of pairs into evidence under frozen Rules, and rules on it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from haldane.domain.entries import LABEL_DTYPE, READING_DTYPE, Entry, judged_until
from haldane.domain.evidence import Finding, Ruling
from haldane.domain.traffic import PAIR_DTYPE, Batch
from haldane.judge import first, late
from haldane.judge.columns import Flags, Tally, split
from haldane.judge.findings import Watch
from haldane.judge.health import Health
from haldane.judge.hearing import Hearing, Terms
from haldane.judge.limit import LimitRule
from haldane.judge.notes import left_out
from haldane.judge.readings import Blocks, gauge_watch, told
from haldane.judge.rules import MetricRule, Rules
from haldane.judge.spread import Distribution
from haldane.stats.betting import Evidence
from haldane.stats.blocks import RatioEvidence
from haldane.stats.bounds import log_e_signs
from haldane.stats.drift import DriftEvidence
from haldane.stats.floor import FloorEvidence
from haldane.stats.limits import LimitEvidence
from haldane.stats.means import BoundedEvidence, CountEvidence
from haldane.stats.tail import LatencyEvidence

REJECTED_SHARE = 0.01  # more readings than this that cannot be, and the measuring itself is in doubt


class Analysis:
    """One analysis over a whole rollout.

    `fold` each entry of the evidence log once, in the log's order and borders;
    folding the same entries again gives the same bits. `ruling` may be asked
    at any time and as often as one likes. `servers` are names by index, for
    the sentences only.
    """

    def __init__(self, rules: Rules, servers: Sequence[str] = ()) -> None:
        self.rules = rules
        self.entries = 0  # folded so far
        self.tally = Tally()
        self.health = Health(rules.baseline_errors, servers)
        watches = [
            *(_watch(rule, rules) for rule in rules.metrics),
            *(_limit_watch(limit) for limit in rules.limits),
            *(gauge_watch(rule) for rule in rules.gauges),
        ]
        self.hearing = Hearing(watches, _terms(rules))
        self.blocks = {rule.name: Blocks(rule) for rule in rules.gauges}
        self._seconds = 0.0
        self.distributions = {
            rule.name: Distribution(rules)
            for rule in rules.metrics
            if rule.measures == "latency" and rule.slice is None
        }
        self._floors = frozenset(rule.name for rule in rules.metrics if rule.floor)

    def fold(self, entry: Entry) -> None:
        """Take in the next entry, which may be empty, and look at the evidence; ValueError when it is of no kind."""
        if entry.dtype == PAIR_DTYPE:
            self._fold_pairs(entry)
        elif entry.dtype == LABEL_DTYPE:
            self._fold_labels(entry)
        elif entry.dtype == READING_DTYPE:
            self._fold_readings(entry)
        else:
            raise ValueError(f"entries with the columns {entry.dtype.names} are not judged")
        self.entries += 1

    def extend(self, extensions: int) -> None:
        """Horizon and budget are given so often once more, in all; the evidence stays as it is."""
        self.rules = replace(self.rules, extensions=extensions)
        self.hearing.terms = _terms(self.rules)

    def _fold_pairs(self, batch: Batch) -> None:
        readings = split(
            self.health.admit(batch) if self.rules.baseline else first.alone(batch),
            self.rules.metrics,
            limits=self.rules.limits,
            tally=self.tally,
            warmup_pairs=self.rules.warmup_pairs,
        )
        for name, distribution in self.distributions.items():
            distribution.fold(*readings[name])
        self._clock(batch)
        self.hearing.hear(readings, pairs=self.tally.pairs, seconds=self._seconds, doubts=self.doubts())

    def _fold_labels(self, labels: Entry) -> None:
        """The log holds at most one label of a pair, so nothing is counted twice."""
        readings = late.readings(labels, self.rules, self.tally)
        self._clock(labels)
        self.hearing.hear(readings, pairs=self.tally.pairs, seconds=self._seconds, doubts=self.doubts())

    def _fold_readings(self, rows: Entry) -> None:
        """Rows of a gauge that the rules do not have say nothing."""
        numbered = enumerate(self.blocks.items())
        readings = {name: blocks.take(rows[rows["metric"] == index]) for index, (name, blocks) in numbered}
        self._clock(rows)
        self.hearing.hear(readings, pairs=self.tally.pairs, seconds=self._seconds, doubts=self.doubts())

    def _clock(self, entry: Entry) -> None:
        """A clock that went back, or told no time at all, does not make the hearing any younger."""
        self._seconds = max(self._seconds, judged_until(entry))

    def awaits(self, batch: Batch) -> Flags:
        """Which rows of a batch not folded yet a later label may judge; shape (n,). None unless labels are declared."""
        flags = late.awaits(batch, self.tally, warmup_pairs=self.rules.warmup_pairs)
        return flags & self.health.admits(batch) & self.rules.late_labels

    def doubts(self) -> tuple[str, ...]:
        """Why the measuring itself cannot be trusted enough to promote on it."""
        found, tally = list(self.health.doubts()), self.tally
        rejected, lost = sum(tally.rejected), sum(tally.lost)
        seen = tally.pairs + tally.warmup + rejected
        if rejected > max(3, REJECTED_SHARE * seen):
            found.append(f"{rejected:,} of {seen:,} readings were rejected (not a number, infinite or negative)")
        if lost and self._lopsided(tally.lost):
            found.append(f"requests not served differ by side: {tally.lost[0]:,} stable, {tally.lost[1]:,} canary")
        if rejected and self._lopsided(tally.rejected):
            found.append(
                f"rejected readings differ by side: {tally.rejected[0]:,} stable, {tally.rejected[1]:,} canary"
            )
        return tuple(found)

    def _lopsided(self, sides: list[int]) -> bool:
        stable, canary = sides
        return max(log_e_signs(canary, stable), log_e_signs(stable, canary)) >= math.log(2 / self.rules.alpha)

    def ruling(self, seconds: float, *, final: bool = False, spread: bool = True) -> Ruling:
        """What the evidence says at `seconds` since the rollout started; `final`: no more will come.

        Intervals are computed here, so it costs about a millisecond per metric; with the `spread` of latency two.
        """
        spent = "no more pairs will come" if final else ""
        if seconds >= self.rules.last_second:
            spent = f"the budget of {self.rules.last_second:,.0f} s is spent"
        ruling = self.hearing.ruling(doubts=self.doubts(), spent=spent, dress=self._dressed)
        return replace(
            self._with_spreads(ruling) if spread else ruling,
            why=ruling.why if self.rules.baseline else f"no baseline; {ruling.why}",
            seconds=seconds,
            entries=self.entries,
            extensions=self.rules.extensions,
            notes=self.notes(),
            stable_fails=self.health.stable_fails,
            set_aside=self.health.set_aside,
        )

    def _with_spreads(self, ruling: Ruling) -> Ruling:
        shown = {name: distribution.spread() for name, distribution in self.distributions.items()}
        return replace(ruling, findings=tuple(replace(one, spread=shown.get(one.metric)) for one in ruling.findings))

    def notes(self) -> tuple[str, ...]:
        """What was left out, which metrics are missing, and what single replicas show, as short sentences."""
        told = () if self.rules.baseline else (first.NOTE,)
        return (*told, *left_out(self.tally), *self.hearing.notes(), *self.health.notes())

    def _dressed(self, found: Finding) -> Finding:
        """The finding with what only the whole analysis knows: the noise floor, late labels, readings left out."""
        tally = self.tally
        if (blocks := self.blocks.get(found.metric)) is not None:
            return told(found, blocks)
        if self.rules.late_labels and found.measures in late.MEASURES:
            labels = f"{tally.labels:,} labels came late" if found.pairs else "no label has come yet"
            return replace(found, detail=f"{found.detail}; {labels}" if found.pairs else labels)
        if found.measures == "disagreement" and found.metric not in self._floors:
            return replace(found, detail=f"{found.detail}; the noise floor is unknown")
        return found


def trace(rules: Rules, entries: Iterable[Entry], servers: Sequence[str] = ()) -> list[Ruling]:
    """The Ruling after every entry, for plots and for judging again with other rules; spreads in the last one only."""
    analysis = Analysis(rules, servers)
    rulings = []
    for entry in entries:
        analysis.fold(entry)
        rulings.append(analysis.ruling(analysis.hearing.seconds, spread=False))
    return [*rulings[:-1], analysis.ruling(analysis.hearing.seconds)] if rulings else []


def _terms(rules: Rules) -> Terms:
    return Terms(
        alpha=rules.alpha,
        beta=rules.beta,
        least_pairs=rules.least_pairs,
        horizon_pairs=rules.horizon_pairs,
        entry_pairs=rules.entry_pairs,
        last_pair=rules.last_pair,
        expected=frozenset(r.name for r in rules.metrics if rules.late_labels and r.measures in late.MEASURES),
    )


def _watch(rule: MetricRule, rules: Rules) -> Watch:
    relative, absolute = rule.margin.relative, rule.margin.absolute
    evidence: Evidence
    unit, margin, scale = "share", absolute, 1.0
    if rule.measures == "latency":
        evidence = _latency(rule, rules.seen_by(rule))
        unit, margin = "ratio", relative
    elif rule.measures == "loss":
        evidence = BoundedEvidence(absolute=absolute / rule.reach, relative=relative)
        unit, scale = "loss", rule.reach
    elif rule.measures == "drift":
        evidence = DriftEvidence(margin=absolute, classes=rule.classes)
    elif rule.floor:
        evidence = FloorEvidence(margin=absolute)
    else:
        evidence = CountEvidence(absolute=absolute, relative=relative, rare=rule.measures == "errors")
        if relative:
            unit, margin = "ratio", relative
    return Watch(
        rule.name,
        rule.role,
        rule.weight,
        evidence,
        measures=rule.measures,
        slice="" if rule.slice is None else rules.slices[rule.slice].name,
        unit=unit,
        margin=margin,
        scale=scale,
    )


def _limit_watch(limit: LimitRule) -> Watch:
    return Watch(
        limit.name,
        limit.role,
        limit.weight,
        LimitEvidence(share=limit.share),
        measures=limit.measures,
        unit="rate",
        margin=limit.share,
    )


def _latency(rule: MetricRule, rules: Rules) -> RatioEvidence:
    margin, size, horizon = rule.margin.relative, rules.block_pairs, rules.horizon_pairs
    opening = rules.dependence_seconds > 0
    if not rule.tails:
        return RatioEvidence(margin=margin, block_pairs=size, horizon_pairs=horizon, opening=opening)
    return LatencyEvidence(
        margin=margin,
        block_pairs=size,
        horizon_pairs=horizon,
        tails=[(tail.quantile, tail.margin) for tail in rule.tails],
        opening=opening,
    )
