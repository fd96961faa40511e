"""The hearing: evidence of several metrics taken in together, looked at after every batch.

Knows nothing of where readings come from. Owns what must not depend on who
looks when: late starts, which metrics entered, and the moment a verdict fell.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from haldane.domain.evidence import Finding, Role, Ruling, State, Verdict
from haldane.judge import verdict as words
from haldane.judge.chronicle import Chronicle
from haldane.judge.columns import Readings
from haldane.judge.findings import LOG10, Watch, finding, with_interval
from haldane.stats.betting import HOLD_LOG_E, LATE_STARTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a hearing is held to."""

    alpha: float
    beta: float
    least_pairs: int
    horizon_pairs: int  # fixes the late starts
    entry_pairs: int
    last_pair: int | None = None  # when to give up; None: at the horizon
    expected: frozenset[str] = frozenset()  # watches that enter even without data: theirs may come late


class Hearing:
    """Streaming judgement: `hear` batches in order, `ruling` at any time.

    The same batches in the same order give the same bits. FAIL stands once
    given. PASS gives way to FAIL, and to CONTINUE while there are doubts; it
    does not run out with the budget.
    """

    def __init__(self, watches: Sequence[Watch], terms: Terms) -> None:
        self.watches = tuple(watches)
        self.terms = terms
        self.pairs = 0
        self.seconds = 0.0
        self.entered: frozenset[str] | None = None  # of those fed by pairs; None: not fixed yet, all may enter
        self._left_out: set[str] = set()  # gauges that had no data in time
        self.failed: tuple[int, float] | None = None  # pairs and seconds when it was shown
        self.passed: tuple[int, float] | None = None
        self.named: tuple[str, ...] = ()
        self.chronicle = Chronicle()
        self._starts = 0
        self._log_harm = {watch.name: 0.0 for watch in self.watches}
        self._log_harmless = dict(self._log_harm)
        self._joint = 0.0
        self._peak = 0.0  # of the joint evidence, when FAIL was given

    def hear(self, readings: Readings, *, pairs: int, seconds: float, doubts: Sequence[str] = ()) -> None:
        """Take in a batch and look. `pairs` and `seconds` are totals so far; doubts keep it from passing."""
        self.pairs, self.seconds = pairs, seconds
        for watch in self._entered():
            if watch.name in readings:
                watch.evidence.fold(*readings[watch.name])
                if len(readings[watch.name][0]):
                    self.chronicle.heard(watch.name, self.pairs, self.seconds)
        self._settle_entry()
        self._open_late_starts()
        self._look(doubts)

    @property
    def log10_harm(self) -> float:
        """Evidence for a rollback over all metrics together, at the last look."""
        return self._joint / LOG10

    @property
    def judged(self) -> int:
        """Pairs that have fed some metric: those of the warm-up feed output metrics alone."""
        return max(self.pairs, *(watch.evidence.pairs for watch in self.watches if watch.last_entry is None))

    def _entered(self) -> tuple[Watch, ...]:
        return tuple(watch for watch in self.watches if self._enters(watch))

    def _enters(self, watch: Watch) -> bool:
        if watch.last_entry is not None:
            return watch.name not in self._left_out
        return self.entered is None or watch.name in self.entered

    def _settle_entry(self) -> None:
        """Fix who takes part: at the end of the entry period, or as soon as all have data."""
        if self.entered is None:
            paired = [watch for watch in self.watches if watch.last_entry is None]
            present = frozenset(watch.name for watch in paired if watch.evidence.pairs) | self.terms.expected
            if len(present) == len(paired) or self.pairs >= self.terms.entry_pairs:
                self.entered = present
        for watch in self.watches:
            if watch.last_entry is not None and self.seconds > watch.last_entry and not watch.evidence.pairs:
                self._left_out.add(watch.name)

    def _open_late_starts(self) -> None:
        """At fixed shares of the horizon; the pairs of this batch belong to the time before."""
        while self._starts < LATE_STARTS and self.pairs >= (self._starts + 1) * self.terms.horizon_pairs / (
            LATE_STARTS + 1
        ):
            self._starts += 1
            self.chronicle.opened(self.judged)
            for watch in self.watches:
                watch.evidence.start()

    @property
    def weights(self) -> dict[str, float]:
        """Shares of alpha of the metrics that can roll back."""
        able = [watch for watch in self._entered() if watch.role.rolls_back]
        total = sum(watch.weight for watch in able)
        return {watch.name: watch.weight / total for watch in able}

    def _look(self, doubts: Sequence[str]) -> None:
        for watch in self._entered():
            self._log_harm[watch.name] = watch.evidence.log_harm()
            self._log_harmless[watch.name] = watch.evidence.log_harmless()
        weights, needed = self.weights, math.log(1 / self.terms.alpha)
        self._joint = words.combined(self._log_harm, weights)
        if self._joint >= needed:
            names = words.named(self._log_harm, weights, self.terms.alpha)
            self.named += tuple(name for name in names if name not in self.named)
            if self.failed is None:
                self.failed, self._peak = (self.judged, self.seconds), self._joint
        open_still = self.failed is None and self.passed is None
        if open_still and self._promising() and not self._doubts(doubts) and words.passes(self.findings()):
            self.passed = self.judged, self.seconds
        self._note_crossings()

    def _promising(self) -> bool:
        """No objective lacks evidence: asked first, since it costs least and is mostly answered no."""
        needed = math.log(1 / self.terms.beta)
        return all(self._log_harmless[watch.name] >= needed for watch in self.watches if watch.role is Role.OBJECTIVE)

    def _note_crossings(self) -> None:
        for watch in self._entered():
            if self._harmful(watch) and not self.chronicle.crossing(watch.name, State.HARMFUL):
                start = watch.evidence.carrier()
                self.chronicle.sufficed(watch.name, State.HARMFUL, self.judged, self.seconds, start=start)
            if self._log_harmless[watch.name] >= math.log(1 / self.terms.beta):
                self.chronicle.sufficed(watch.name, State.HARMLESS, self.judged, self.seconds)

    def notes(self) -> list[str]:
        """Which metrics are missing, and since when."""
        paired = [watch.name for watch in self.watches if watch.last_entry is None]
        told = self.chronicle.notes(paired, self.entered, pairs=self.pairs, patience=self.terms.entry_pairs)
        for watch in self.watches:
            if watch.last_entry is not None:
                entered = self._enters(watch)
                told += self.chronicle.timed(watch.name, entered=entered, now=self.seconds, patience=watch.patience)
        return told

    def findings(self) -> tuple[Finding, ...]:
        """What each metric says now, without intervals."""
        return tuple(
            finding(
                watch,
                entered=self._enters(watch),
                harmful=self._harmful(watch),
                log_harm=self._log_harm[watch.name],
                log_harmless=self._log_harmless[watch.name],
                beta=self.terms.beta,
            )
            for watch in self.watches
        )

    def _with_crossing(self, found: Finding) -> Finding:
        if (moment := self.chronicle.crossing(found.metric, found.state)) is None:
            return found
        return replace(
            found, crossed_pairs=moment.pairs, crossed_seconds=moment.seconds, since_pair=moment.since or None
        )

    def _harmful(self, watch: Watch) -> bool:
        if watch.role.rolls_back:
            return watch.name in self.named
        # It takes no share of alpha and cannot be named, so it is held to alpha on its own.
        return self._log_harm[watch.name] >= math.log(1 / self.terms.alpha)

    def _suspected(self, watch: Watch) -> bool:
        """Leaning towards harm. Of many slices with few pairs each one always leans, so there it takes evidence."""
        if watch.slice:
            return self._log_harm[watch.name] > HOLD_LOG_E
        return watch.evidence.holds()

    def _doubts(self, others: Sequence[str]) -> list[str]:
        """Everything that keeps it from passing, besides objectives not shown yet."""
        found = list(others)
        if not any(watch.role is Role.OBJECTIVE for watch in self.watches):
            found.append("no metric is an objective, so nothing can be shown")
        # One that is only shown may stay without data, as drift does where answers are no single numbers.
        awaited = [watch for watch in self.watches if watch.last_entry is None and watch.role is not Role.INFO]
        if self.entered is None and not all(watch.evidence.pairs for watch in awaited):
            found.append("some metrics have no data yet")
        if self.pairs < self.terms.least_pairs:
            found.append(f"{self.pairs:,} of at least {self.terms.least_pairs:,} pairs past the warm-up")
        holding = [watch for watch in self._entered() if watch.role.holds]
        shown = [watch.name for watch in holding if not watch.role.rolls_back and self._harmful(watch)]
        if shown:
            found.append(f"held: harm shown by the signal {' and '.join(shown)}, which cannot roll back")
        suspects = [watch.name for watch in holding if watch.name not in shown and self._suspected(watch)]
        if suspects:
            found.append(f"held: lately {' and '.join(suspects)} leaned beyond the margin")
        return found

    @property
    def verdict(self) -> Verdict:
        """The bare Verdict, as far as it was given: FAIL, PASS or CONTINUE."""
        if self.failed is not None:
            return Verdict.FAIL
        return Verdict.PASS if self.passed is not None else Verdict.CONTINUE

    def ruling(
        self,
        *,
        doubts: Sequence[str] = (),
        spent: str = "",
        dress: Callable[[Finding], Finding] = lambda found: found,
    ) -> Ruling:
        """The Verdict with intervals and reasons. `spent`: why no more evidence will come, "" when it will."""
        by_name = {watch.name: watch for watch in self.watches}
        plain = self.findings()
        found = tuple(dress(self._with_crossing(with_interval(each, by_name[each.metric]))) for each in plain)
        open_doubts = self._doubts(doubts)
        last = self.terms.horizon_pairs if self.terms.last_pair is None else self.terms.last_pair
        if self.pairs >= last:
            spent = spent or f"the horizon of {last:,} pairs is reached"
        outcome = words.judge(
            failed=self.failed is not None,
            passed=self.passed is not None,
            doubts=open_doubts,
            spent=spent,
        )
        decided = {Verdict.FAIL: self.failed, Verdict.PASS: self.passed}.get(outcome)
        return Ruling(
            verdict=outcome,
            findings=found,
            pairs=self.judged,
            seconds=self.seconds,
            log10_harm=self.log10_harm,
            why=self._why(outcome, found, open_doubts, spent),
            named=self.named,
            decided_pairs=decided[0] if decided else None,
            decided_seconds=decided[1] if decided else None,
        )

    def _why(self, outcome: Verdict, found: Sequence[Finding], doubts: Sequence[str], spent: str) -> str:
        if outcome is Verdict.FAIL and self.failed:
            return words.why_failed(
                found, self.named, log10_harm=self._peak / LOG10, alpha=self.terms.alpha, pairs=self.failed[0]
            )
        if outcome is Verdict.PASS and self.passed:
            return words.why_passed(found, pairs=self.passed[0])
        missing = words.why_open(found, doubts, beta=self.terms.beta)
        return f"{spent}: {missing}" if outcome is Verdict.INCONCLUSIVE else missing
