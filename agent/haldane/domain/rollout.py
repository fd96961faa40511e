"""One attempt to move a fleet from one version to another: the value and its events."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import Clients, ModelName, Placement, ServerName

RolloutId = NewType("RolloutId", str)


class Phase(StrEnum):
    """Where the rollout machine stands."""

    PENDING = "PENDING"
    LOADING = "LOADING"
    SHADOWING = "SHADOWING"
    RAMPING = "RAMPING"  # users' calls go to the canary's servers, in steps
    PROMOTING = "PROMOTING"
    BAKING = "BAKING"
    HELD = "HELD"
    ROLLING_BACK = "ROLLING_BACK"
    SUCCEEDED = "SUCCEEDED"
    ROLLED_BACK = "ROLLED_BACK"
    STUCK = "STUCK"

    @property
    def final(self) -> bool:
        """Over: no more pairs, no more changes. A STUCK rollout still wants its rollback."""
        return self in (Phase.SUCCEEDED, Phase.ROLLED_BACK)

    @property
    def withdrawing(self) -> bool:
        """The new version is being taken back, or was."""
        return self in (Phase.ROLLING_BACK, Phase.STUCK, Phase.ROLLED_BACK)

    @property
    def judging(self) -> bool:
        """Pairs are sent and judged, and may carry the rollout on."""
        return self in (Phase.SHADOWING, Phase.RAMPING, Phase.PROMOTING, Phase.BAKING)


class Mode(StrEnum):
    """OBSERVE watches, judges and recommends; ENFORCE also changes servers."""

    OBSERVE = "observe"
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Time limits and pace of one rollout; all durations in seconds."""

    load_seconds: float = 600.0  # for a version to be AVAILABLE and proven on every server
    at_once: int = 1  # servers flipped at the same time while promoting
    bake_seconds: float = 300.0  # judged on after the last flip, old version warm
    change_seconds: float = 120.0  # for servers and gateways to settle on a flip, a step or a rollback
    traffic_steps: tuple[float, ...] = ()  # shares, 0 to 1, of users' calls for the dedicated servers; none: no RAMPING
    step_seconds: float = 120.0  # least time at each step, and
    step_pairs: int = 200  # least pairs judged at each,
    step_budget_seconds: float = 1800.0  # which must have come by then
    approvals: int = 0  # people, not counting who started it, that must approve what has passed


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The state of one rollout. Times are wall-clock seconds carried in by events."""

    id: RolloutId
    model: ModelName
    old: int
    new: int
    mode: Mode
    clients: Clients
    placement: Placement
    servers: tuple[ServerName, ...]  # every server that ever was in it; index = Batch["server"]
    dedicated: tuple[ServerName, ...] = ()  # the canary-only servers among them
    plan: Plan = field(default_factory=Plan)
    analysis: str = "{}"  # the frozen rules of judging, canonical JSON
    seed: int = 0
    phase: Phase = Phase.PENDING
    held_from: Phase | None = None
    promoted: tuple[ServerName, ...] = ()  # servers that should serve `new` as stable
    step: int = 0  # traffic steps ordered so far
    step_at: float | None = None  # when the newest one was seen to be taken; None: not yet
    step_from: int | None = None  # pairs judged by then
    started_at: float = 0.0
    phase_since: float = 0.0
    verdict: Verdict = Verdict.CONTINUE
    extensions: int = 0  # how often a person gave an inconclusive analysis its budget once more
    why: str = "started"
    reverts: RolloutId | None = None  # the rollout whose promotion this one takes back
    gone: tuple[ServerName, ...] = ()  # those that left the fleet: nobody waits for them
    joining: tuple[ServerName, ...] = ()  # those that came to the fleet since and have not settled yet
    joined_at: float = 0.0  # when the newest of `joining` came
    by: str = ""  # who started it
    approvals: tuple[str, ...] = ()  # who approved what had passed

    @property
    def present(self) -> tuple[ServerName, ...]:
        """The servers that have not left."""
        return tuple(name for name in self.servers if name not in self.gone)

    @property
    def shadowed(self) -> tuple[ServerName, ...]:
        """The servers that pairs may be sent to: a newcomer has no canary yet, so its refusals prove nothing."""
        return tuple(name for name in self.dedicated or self.servers if name not in (*self.gone, *self.joining))

    @property
    def exposed(self) -> bool:
        """Held, though users may have the new version by now."""
        return self.phase is Phase.HELD and self.held_from in (Phase.RAMPING, Phase.PROMOTING, Phase.BAKING)

    @property
    def judged(self) -> bool:
        """Pairs are sent and judged: harm to users is looked for also while a person is waited for."""
        return self.phase.judging or self.exposed

    @property
    def first(self) -> bool:
        """The model's first version: there is none before it, so `old` is the new one too."""
        return self.old == self.new

    @property
    def serving(self) -> tuple[ServerName, ...]:
        """The servers that take user traffic, in flip order."""
        return tuple(name for name in self.present if name not in self.dedicated)

    @property
    def waits_since(self) -> float:
        """When that began which has a time limit: the phase, or, if later, the newest of `joining`."""
        return max(self.phase_since, self.joined_at) if self.joining else self.phase_since

    @property
    def settles(self) -> int | None:
        """The version it has made stable; None while it has not ended, or where stable stays what it was."""
        if self.phase is Phase.SUCCEEDED:
            return self.new
        return self.old if self.reverts is not None and self.phase is Phase.ROLLED_BACK else None


class Progress(StrEnum):
    """How far one server is from what the rollout wants of it."""

    SETTLED = "settled"  # seen to hold exactly what is wanted
    BEHIND = "behind"  # a change is due or under way
    FAILED = "failed"  # the new version cannot be served there
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Judged:
    """The judge has looked, at so many pairs. `frozen`: why no promotion may begin now, or ""."""

    at: float
    verdict: Verdict
    why: str
    pairs: int = 0
    frozen: str = ""
    lasted: float | None = None  # seconds since `step_at`; None: as `at` says


@dataclass(frozen=True, slots=True)
class Looked:
    """The servers have been looked at (or could not be), the lists of them read, and the gateways before them seen.

    `gateway`: how far those are from the share that is wanted; SETTLED where the plan has no steps. `lasted` is for how
    many seconds the phase has, or since the newest of `joining` came; `watched`, how many of them the agent was there.
    """

    at: float
    progress: Mapping[ServerName, Progress]
    detail: Mapping[ServerName, str] = field(default_factory=dict)
    joined: tuple[ServerName, ...] = ()  # servers of the fleet that are not in the rollout yet, or had left it
    dedicated: tuple[ServerName, ...] = ()  # those of `joined` that are canary-only
    gone: frozenset[ServerName] = frozenset()  # servers of the rollout that no list has any more
    gateway: Progress = Progress.SETTLED
    gateway_detail: str = ""
    lasted: float | None = None  # None: as `at` says
    watched: float = math.inf


class CommandKind(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    APPROVE = "approve"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Command:
    """What a person asks; always with who and why."""

    at: float
    kind: CommandKind
    by: str
    why: str
    known: bool = False  # `by` is who showed a token of their own, not what somebody calls themselves


Event = Judged | Looked | Command


@dataclass(frozen=True, slots=True)
class Transition:
    """The rollout before and after an event, and one sentence of why.

    What servers should hold follows from the rollout (`rollout.wanted`), so a
    transition orders nothing: storing it is the order.
    """

    before: Rollout
    after: Rollout
    why: str
    refused: bool = False  # a Command that cannot be followed now

    @property
    def moved(self) -> bool:
        return self.before != self.after
