"""What the gallery shows: the fleet as it is now, and the story of one rollout."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from haldane.domain.evidence import Ruling, Verdict
from haldane.domain.fleet import Condition, ModelName, Seen, Server
from haldane.domain.record import Record
from haldane.domain.release import Hold, Load
from haldane.domain.rollout import Mode, Rollout
from haldane.rollout.ramp import GatewayView

Labels = Mapping[str, Mapping[str, int | None]]  # server -> label -> version (None: resolves to nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """What the agent knows now. `seen` has None for a server that could not be seen."""

    at: float  # wall clock, seconds
    version: str
    mode: Mode
    servers: tuple[Server, ...]
    seen: Seen
    stable: Mapping[ModelName, int | None] = field(default_factory=dict)
    namespaces: Mapping[ModelName, str] = field(default_factory=dict)  # of the models that are in one
    rollouts: tuple[Rollout, ...] = ()  # live ones
    conditions: tuple[Condition, ...] = ()
    trouble: Mapping[str, str] = field(default_factory=dict)  # server -> why it could not be seen
    lists: Mapping[str, str] = field(default_factory=dict)  # list of servers -> how reading it stands
    boot: Mapping[str, str] = field(default_factory=dict)  # config that servers boot with -> how it stands
    announced: tuple[str, ...] = ()  # what was announced and has not been rolled out, a sentence each
    # model -> reason -> records of its traffic that are no request
    unusable: Mapping[ModelName, Mapping[str, int]] = field(default_factory=dict)
    stalled: Mapping[ModelName, str] = field(default_factory=dict)  # model -> why no pair of its rollout is sent now
    # model ("": of none of ours) -> what the tap counted of its mirrored calls; why it could not be asked, or ""
    tap: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tap_away: str = ""
    holds: tuple[Hold, ...] = ()  # versions that must not be deleted
    loads: tuple[Load, ...] = ()  # what loading took, where that was watched
    registry: Mapping[ModelName, str] = field(default_factory=dict)  # model -> how its aliases in MLflow stand
    gateways: Mapping[str, GatewayView] = field(default_factory=dict)
    share: float | None = None  # of users' calls that gateways should send to the canary's servers; None: left alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All a report needs of one rollout. Empty `rulings` means no evidence, and the report says so.

    The label "(unversioned)" stands for the version that answers calls naming
    neither. `alpha` and `beta` give the thresholds drawn.
    """

    rollout: Rollout
    rulings: Sequence[Ruling] = ()  # oldest first
    records: Sequence[Record] = ()
    labels_before: Labels | None = None
    labels_after: Labels | None = None  # now, or when it ended
    alpha: float = 0.01
    beta: float = 0.05
    title: str = ""  # e.g. what was done to this version
    sentences: Sequence[str] = field(default_factory=tuple)  # shown under the banner, unless the judge says them too

    @property
    def release(self) -> Mapping[str, Any] | None:
        """What was found when the new version's files were last looked into; None when they were not."""
        found = (record.data for record in reversed(self.records) if record.kind == "release_checked")
        return next(found, None)

    @property
    def ruling(self) -> Ruling | None:
        """What to tell of the evidence: the newest ruling, None when nothing was judged.

        A PASS the rollout carries stays given: where the newest ruling has only
        a doubt, its numbers are told under the PASS that was given before.
        """
        newest = self.rulings[-1] if self.rulings else None
        if newest is None or (newest.verdict, self.rollout.verdict) != (Verdict.CONTINUE, Verdict.PASS):
            return newest
        proof = next((one for one in reversed(self.rulings) if one.verdict is Verdict.PASS), None)
        if proof is None:
            return newest
        return replace(
            newest,
            verdict=proof.verdict,
            why=proof.why,
            decided_pairs=proof.decided_pairs,
            decided_seconds=proof.decided_seconds,
        )

    @property
    def reverts(self) -> list[str]:
        """The rollout that took its promotion back, as its records name it."""
        return [str(record.data["revert"]) for record in self.records if record.kind == "promotion_taken_back"]

    @property
    def doubt(self) -> str:
        """Why the newest ruling alone would not pass, though the rollout has; else empty."""
        told = self.ruling
        return self.rulings[-1].why if told is not None and told.why != self.rulings[-1].why else ""


MOST_SAID = 30  # lines of a report; the record has all
MOST_SAID_CHARS = 200


def said_of(release: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What the publisher said of a release, flat: {"metrics": {"auc": 0.8}} is ("metrics.auc", "0.8")."""
    return list(islice(_flat(release.get("metadata", {}) if release else {}, ""), MOST_SAID))


def data_of(release: Mapping[str, Any] | None) -> list[str]:
    """The data a release was trained on, as its publisher or its MLflow run names it; empty when neither does."""
    metadata = release.get("metadata", {}) if release else {}
    run = metadata.get("mlflow")
    logged = run.get("data") if isinstance(run, Mapping) else None
    found = [metadata.get("data_version"), *(logged if isinstance(logged, list) else ())]
    return [str(one)[:MOST_SAID_CHARS] for one in found if one is not None][:MOST_SAID]


def _flat(metadata: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
    for key, value in metadata.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{above}{key}", text[:MOST_SAID_CHARS]
