"""What is tried, what the right verdict is, and whether it was given. Pure.

Owns the five acts and how an ended act is held against them. Leaves playing
them to `story` and showing them to `show`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from haldane.domain.evidence import Finding, Role, Ruling, State, Verdict
from haldane.domain.rollout import Phase, Rollout

MODEL = "credit"
FIRST_STABLE = 1

Labels = Mapping[str, Mapping[str, int | None]]  # server -> label -> version


class Expected(StrEnum):
    """The right end of an act."""

    WITHDRAWN_ON_ACCURACY = "withdrawn on accuracy"
    WITHDRAWN_ON_LATENCY = "withdrawn on latency"
    PROMOTED = "promoted on both replicas"
    NEVER_LABELLED = "never labelled, failed-load alert fired"
    NOT_ROLLED_BACK = "not rolled back"


@dataclass(frozen=True, slots=True)
class Act:
    """One canary. `wrong` is what is wrong with it, in a few words; `plot` what will be seen, in a sentence."""

    version: int
    wrong: str
    plot: str
    expected: Expected


ACTS = (
    Act(
        2,
        "learnt from shuffled rows",
        "Version 2 learnt from a table whose rows were shuffled: features no longer belong to their applicants.",
        Expected.WITHDRAWN_ON_ACCURACY,
    ),
    Act(
        3,
        "nothing, it is better",
        "Version 3 also knows home, job and past records of an applicant, and is right more often.",
        Expected.PROMOTED,
    ),
    Act(
        4,
        "right, but slower",
        "Version 4 gives the same scores as version 3, and takes at most 1.3 times as long.",
        Expected.WITHDRAWN_ON_LATENCY,
    ),
    Act(
        5,
        "truncated SavedModel",
        "Version 5 was cut in half while it was copied: it cannot be loaded.",
        Expected.NEVER_LABELLED,
    ),
    Act(
        6,
        "nothing, identical to 3",
        "Version 6 is version 3 under another number. Rolling it back would be a false alarm.",
        Expected.NOT_ROLLED_BACK,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an act ended. `labelled` says that some label was seen on the version; `alert` is what the pager got."""

    act: Act
    rollout: Rollout
    ruling: Ruling | None
    seconds: float
    before: Labels
    after: Labels
    labelled: bool
    alert: Mapping[str, Any] | None = None
    pairs: int = 0
    mistakes: Sequence[str] = field(default_factory=tuple)

    @property
    def right(self) -> bool:
        return not self.mistakes

    @property
    def outcome(self) -> str:
        """The verdict in a few words, as the table shows it."""
        phase = self.rollout.phase
        if phase is Phase.SUCCEEDED:
            return "promoted"
        if phase is Phase.ROLLED_BACK and self.rollout.verdict is Verdict.FAIL:
            if self.ruling is None:
                return "never served"
            return f"withdrawn: {', '.join(culprits(self.ruling)) or 'harm shown'}"
        return "inconclusive, held" if phase is Phase.HELD else phase.value.lower().replace("_", " ")


def culprits(ruling: Ruling) -> tuple[str, ...]:
    """The metrics a FAIL is due to: those named, or with none named the one with most evidence."""
    if ruling.named:
        return ruling.named
    judged = [finding for finding in ruling.findings if finding.role is not Role.INFO]
    return (max(judged, key=lambda finding: finding.log10_harm).metric,) if judged else ()


def mistakes(ended: Ended, stable_before: int) -> tuple[str, ...]:
    """Why this end is not the right one, in sentences; empty when it is."""
    match ended.act.expected:
        case Expected.WITHDRAWN_ON_ACCURACY:
            found = [*_withdrawn(ended, "accuracy"), *_stable(ended, stable_before)]
        case Expected.WITHDRAWN_ON_LATENCY:
            found = [*_withdrawn(ended, "latency"), *_stable(ended, stable_before)]
        case Expected.PROMOTED:
            found = [*_phase(ended, Phase.SUCCEEDED), *_stable(ended, ended.act.version)]
        case Expected.NEVER_LABELLED:
            found = [*_phase(ended, Phase.ROLLED_BACK), *_stable(ended, stable_before)]
            found += ["a label pointed at the version"] if ended.labelled else []
            found += [] if ended.alert else ["no alert of a failed load arrived"]
        case Expected.NOT_ROLLED_BACK:
            found = _kept(ended, stable_before)
    return tuple(found)


def stable_after(ended: Ended) -> int | None:
    """The version `stable` means on every replica, None when they differ or it means nothing."""
    versions = {labels.get("stable") for labels in ended.after.values()}
    return versions.pop() if len(versions) == 1 else None


def evidence_of(finding: Finding) -> str:
    """One finding in a few words for people: `accuracy +13.4 pp, evidence 120:1 of harm`."""
    if finding.estimate is None or finding.state is State.NO_DATA:
        return f"{finding.metric} no data yet"
    amount = f"{finding.estimate * 100:+.1f} {'%' if finding.metric == 'latency' else 'pp'}"
    return f"{finding.metric} {amount} ({finding.state})"


def _withdrawn(ended: Ended, metric: str) -> list[str]:
    found = _phase(ended, Phase.ROLLED_BACK)
    if ended.ruling is None:
        return [*found, "it was never judged"]
    named = culprits(ended.ruling)
    return found if metric in named else [*found, f"the evidence names {', '.join(named) or 'nothing'}, not {metric}"]


def _kept(ended: Ended, stable_before: int) -> list[str]:
    if ended.rollout.phase is Phase.SUCCEEDED:
        return _stable(ended, ended.act.version)
    if ended.rollout.phase is Phase.HELD and ended.rollout.verdict is Verdict.INCONCLUSIVE:
        return _stable(ended, stable_before)
    return [f"it ended {ended.rollout.phase}: {ended.rollout.why}"]


def _phase(ended: Ended, phase: Phase) -> list[str]:
    if ended.rollout.phase is phase:
        return []
    return [f"it ended {ended.rollout.phase}, not {phase}: {ended.rollout.why}"]


def _stable(ended: Ended, version: int) -> list[str]:
    return [
        f"on {server} stable means version {labels.get('stable')}, not {version}"
        for server, labels in sorted(ended.after.items())
        if labels.get("stable") != version
    ]
