"""Judging again: a recorded evidence log under its own rules, or under others.

The log is the evidence and the judge a fold over it, so the same entries under
the same rules give back every recorded ruling, bit for bit. Under other rules
they show what those would have said, as far as the recorded evidence reaches.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from haldane.domain.entries import LABEL_DTYPE, READING_DTYPE, Entry
from haldane.domain.evidence import Ruling, Verdict
from haldane.domain.record import Record
from haldane.domain.rollout import Rollout
from haldane.domain.traffic import PAIR_DTYPE
from haldane.judge.analysis import Analysis
from haldane.judge.rules import Rules, Slice


@dataclass(frozen=True, slots=True)
class Recorded:
    """A ruling as the audit log has it, as JSON values; `seq` is its record's."""

    seq: int
    ruling: Mapping[str, Any]

    @property
    def entries(self) -> int | None:
        """How many entries it rests on; None in a record of a release that did not say."""
        value = self.ruling.get("entries")
        return value if isinstance(value, int) else None

    @property
    def verdict(self) -> Verdict:
        return Verdict(self.ruling["verdict"])


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFile:
    """All it takes to judge a rollout again: its frozen rules, its evidence, and what was ruled."""

    rollout: Rollout
    recorded: tuple[Recorded, ...]
    entries: Iterable[Entry]

    @property
    def rules(self) -> Rules:
        """The frozen rules; ValueError when they cannot be read."""
        return Rules.from_json(self.rollout.analysis)

    @property
    def lasted(self) -> float:
        """Seconds of judging at the last ruling on record: a budget runs out without pairs, too."""
        return max((float(one.ruling["seconds"]) for one in self.recorded), default=0.0)


def recorded_rulings(records: Iterable[Record]) -> tuple[Recorded, ...]:
    """The rulings among the audit records of a rollout, oldest first."""
    return tuple(Recorded(one.seq, one.data["ruling"]) for one in records if one.data.get("ruling"))


@dataclass(frozen=True, slots=True)
class Change:
    """One value that is not as recorded: its path in the ruling, then and now."""

    path: str
    then: Any
    now: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """The first recorded ruling that does not come out again.

    What made it differ is among the entries after `agreed` (the last ones that
    gave a ruling as recorded) up to `entries`, or in the judge itself.
    """

    seq: int
    agreed: int
    entries: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """What became of the recorded rulings."""

    entries: int  # in the log
    pairs: int
    compared: int  # rulings that came out as recorded
    unplaced: int  # that do not say how many entries they rest on
    difference: Difference | None


def reproduce(
    rules: Rules, entries: Iterable[Entry], recorded: Sequence[Recorded], servers: Sequence[str] = ()
) -> Reproduction:
    """Ask for every recorded ruling again, where and when it was given; stops at the first that differs.

    `servers` are the rollout's, which the sentences name.
    """
    placed = sorted((one for one in recorded if one.entries is not None), key=lambda one: (one.entries, one.seq))
    analysis, agreed, compared = Analysis(rules, servers), 0, 0
    difference = None
    for _ in _folds(analysis, entries):
        while difference is None and compared < len(placed) and placed[compared].entries == analysis.entries:
            one = placed[compared]
            if changes := _changes(one.ruling, _asked_again(analysis, one)):
                difference = Difference(one.seq, agreed, analysis.entries, changes)
            else:
                agreed, compared = analysis.entries, compared + 1
    if difference is None and compared < len(placed):
        one = placed[compared]
        missing = Change("entries of the log", one.entries, analysis.entries)
        difference = Difference(one.seq, agreed, analysis.entries, (missing,))
    return Reproduction(
        entries=analysis.entries,
        pairs=analysis.hearing.judged,
        compared=compared,
        unplaced=len(recorded) - len(placed),
        difference=difference,
    )


def _folds(analysis: Analysis, entries: Iterable[Entry]) -> Iterator[None]:
    """Stops before the first entry and after each."""
    yield
    for entry in entries:
        analysis.fold(entry)
        yield


def _asked_again(analysis: Analysis, one: Recorded) -> dict[str, Any]:
    """The ruling in the form of a record, which is what can be compared: JSON keeps every bit of a number."""
    analysis.extend(int(one.ruling.get("extensions", 0)))
    spread = any(found.get("spread") for found in one.ruling.get("findings", ()))  # not every ruling shows it
    again = analysis.ruling(float(one.ruling["seconds"]), spread=spread)
    ruling: dict[str, Any] = json.loads(json.dumps(asdict(again)))
    return ruling


def _changes(then: Any, now: Any, path: str = "") -> tuple[Change, ...]:
    """Every recorded value that is another now. What only a later release says is no difference."""
    if isinstance(then, dict) and isinstance(now, dict):
        return tuple(
            change for key in then for change in _changes(then[key], now.get(key), f"{path}.{key}".lstrip("."))
        )
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = zip(then, now, strict=True)
        return tuple(change for i, (a, b) in enumerate(pairs) for change in _changes(a, b, f"{path}[{_name(a, i)}]"))
    # As text: NaN is itself there, and 1 is not 1.0.
    return () if json.dumps(then) == json.dumps(now) else (Change(path, then, now),)


def _name(item: Any, index: int) -> str:
    """Findings are known by their metric."""
    return str(item.get("metric", index)) if isinstance(item, dict) else str(index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What rules say of a log.

    `decided` is the first ruling that is not CONTINUE, which is where a rollout
    would have been acted on; None when the log ends before. `trail` is the
    joint evidence over time, as (seconds, log10 e-value).
    """

    decided: Ruling | None
    end: Ruling
    trail: tuple[tuple[float, float], ...]

    @property
    def ruling(self) -> Ruling:
        """The one that counts: where it was decided, else what stands at the end."""
        return self.decided or self.end


def opinion(rules: Rules, entries: Iterable[Entry], *, seconds: float = 0.0, servers: Sequence[str] = ()) -> Opinion:
    """Judge the log under these rules. Judging lasted `seconds` at least, whenever the last entry came."""
    analysis, decided, trail = Analysis(rules, servers), None, [(0.0, 0.0)]
    for entry in entries:
        analysis.fold(entry)
        hearing = analysis.hearing
        trail.append((hearing.seconds, hearing.log10_harm))
        if decided is None and (
            hearing.verdict is not Verdict.CONTINUE
            or hearing.pairs >= rules.last_pair
            or hearing.seconds >= rules.last_second
        ):
            ruling = analysis.ruling(hearing.seconds)
            decided = None if ruling.verdict is Verdict.CONTINUE else ruling
    end = analysis.ruling(max(seconds, analysis.hearing.seconds))
    if decided is None and end.verdict is not Verdict.CONTINUE:
        decided = end
    return Opinion(decided=decided, end=end, trail=tuple(trail))


def retold(entries: Iterable[Entry], *, told: Rules, asked: Rules) -> Iterator[Entry]:
    """Entries logged under `told`, as `asked` would have had them logged.

    Readings name a gauge by its place in the rules, pairs and labels their
    slices by bit; both are moved. What `told` did not ask for was never
    written down, so it stays without data.
    """
    slices, places = _slice_bits(told.slices, asked.slices), _gauge_places(told, asked)
    for entry in entries:
        if entry.dtype == READING_DTYPE:
            yield _readings(entry, places)
        elif entry.dtype in (PAIR_DTYPE, LABEL_DTYPE) and told.slices != asked.slices:
            yield _in_slices(entry, slices)
        else:
            yield entry


def _slice_bits(told: Sequence[Slice], asked: Sequence[Slice]) -> dict[int, int]:
    return {told.index(one): place for place, one in enumerate(asked) if one in told}


def _gauge_places(told: Rules, asked: Rules) -> dict[int, int]:
    names = [rule.name for rule in asked.gauges]
    return {at: names.index(rule.name) for at, rule in enumerate(told.gauges) if rule.name in names}


def _readings(entry: Entry, places: Mapping[int, int]) -> Entry:
    kept = entry[np.isin(entry["metric"], list(places))].copy()
    kept["metric"] = [places[metric] for metric in kept["metric"].tolist()]
    return kept


def _in_slices(entry: Entry, bits: Mapping[int, int]) -> Entry:
    moved = np.zeros(len(entry), np.uint32)
    for told, asked in bits.items():
        moved |= ((entry["slices"] >> np.uint32(told)) & np.uint32(1)) << np.uint32(asked)
    kept = entry.copy()
    kept["slices"] = moved
    return kept
