"""What evidence says: a Finding per metric, one Verdict for all."""

from dataclasses import dataclass, replace
from enum import StrEnum


class Role(StrEnum):
    """What a metric may do."""

    OBJECTIVE = "objective"  # must be shown harmless to promote; can roll back
    GUARDRAIL = "guardrail"  # can only roll back
    SIGNAL = "signal"  # harm shown by it holds a promotion, and never rolls back
    INFO = "info"  # shown only

    @property
    def rolls_back(self) -> bool:
        """Harm shown by it withdraws a canary, so it has a share of alpha."""
        return self in (Role.OBJECTIVE, Role.GUARDRAIL)

    @property
    def holds(self) -> bool:
        """Suspicion of harm by it keeps a promotion waiting."""
        return self is not Role.INFO


class State(StrEnum):
    """What one metric's evidence says."""

    HARMLESS = "harmless"  # harm beyond the margin is excluded, at level beta
    HARMFUL = "harmful"  # harm beyond the margin is proven, and this metric is named for it
    UNDECIDED = "undecided"
    NO_DATA = "no data"


class Verdict(StrEnum):
    """All findings together."""

    PASS = "pass"
    FAIL = "fail"
    CONTINUE = "continue"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Span:
    """An estimate with the ends of a confidence sequence; None: not bounded on that side yet."""

    estimate: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True)
class Quantile:
    """The value below which this share of readings lies, on both sides, and their ratio minus 1."""

    share: float
    stable: Span
    canary: Span
    ratio: Span


@dataclass(frozen=True, slots=True)
class Exceedance:
    """Shares of readings above a threshold; `proven` is how much canary's is larger at least, 0.0 when neither is."""

    threshold: float
    stable: float
    canary: float
    proven: float


@dataclass(frozen=True, slots=True)
class Spread:
    """How a metric's readings are distributed on both sides, in the unit of the readings. Shown; decides nothing."""

    quantiles: tuple[Quantile, ...]
    exceedance: Exceedance | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one metric's evidence says, in numbers a reader can check.

    Estimate, lower, upper and margin share `unit`; positive is worse. Lower
    and upper bound a confidence sequence: they hold at all times at once.
    `log10_harm` and `log10_harmless` are log10 e-values for rollback and for
    promotion.
    """

    metric: str
    measures: str = ""  # the kind of metric, such as "latency"; "" when the name says it
    slice: str = ""  # of these requests only, such as "country=DE"; "" for all
    role: Role
    state: State
    unit: str  # "ratio" (of canary to stable, minus 1), "share" or the loss's own; of the canary alone: see `bound`
    pairs: int
    estimate: float | None = None
    lower: float | None = None
    upper: float | None = None
    margin: float | None = None
    log10_harm: float = 0.0
    log10_harmless: float = 0.0
    detail: str = ""  # counts or votes, as a short phrase
    crossed_pairs: int | None = None  # when the evidence for a harmful or harmless state first sufficed
    crossed_seconds: float | None = None
    since_pair: int | None = None  # the late start that carried it; None: the beginning
    spread: Spread | None = None  # of latency, in the newest ruling only

    @property
    def bound(self) -> str:
        """What it is held to: a "margin" against stable, or a "limit" on the canary alone."""
        return "limit" if self.unit in ("rate", "bytes", "bytes/h", "seconds") else "margin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A Verdict with its reasons."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    pairs: int
    seconds: float  # since the rollout started
    log10_harm: float  # combined over metrics; FAIL at log10(1/alpha)
    why: str
    named: tuple[str, ...] = ()  # metrics proven harmful one by one (closed testing)
    decided_pairs: int | None = None  # when the evidence for this FAIL or PASS first sufficed
    decided_seconds: float | None = None
    entries: int = 0  # of the evidence log, that it rests on: folding so many again gives the same ruling
    extensions: int = 0  # of horizon and budget by a person, when it was given
    notes: tuple[str, ...] = ()  # what was left out and why, as short sentences
    stable_fails: bool = False  # now, beyond what is accepted of a baseline
    set_aside: tuple[str, ...] = ()  # servers that are sick now, by name

    def without_spreads(self) -> "Ruling":
        """The same for a history, in which only the newest one shows distributions."""
        return replace(self, findings=tuple(replace(one, spread=None) for one in self.findings))
