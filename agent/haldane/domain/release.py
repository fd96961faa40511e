"""What people say of versions: that one is there to be rolled out, or must not be deleted."""

from dataclasses import dataclass
from enum import StrEnum

from haldane.domain.fleet import ModelName, ServerName


class Newer(StrEnum):
    """What becomes of a release that is announced while another version of its model is on trial."""

    QUEUE = "queue"  # it waits for the end of that trial
    SUPERSEDE = "supersede"  # a trial that has not begun to promote is aborted for it
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """`key` is the same for what was said twice."""

    key: str
    model: ModelName
    version: int
    by: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Somebody's word that a version's files must stay. Wall-clock seconds; `until` None: until somebody ends it."""

    model: ModelName
    version: int
    by: str
    why: str
    since: float
    until: float | None = None

    def stands(self, at: float) -> bool:
        return self.until is None or at < self.until


@dataclass(frozen=True, slots=True)
class UnderLoad:
    """How fast a version answered `callers` that called without a pause for `seconds`, `calls` in all."""

    callers: int
    calls: int
    seconds: float
    p50_seconds: float
    p99_seconds: float

    @property
    def per_second(self) -> float:
        return self.calls / self.seconds


@dataclass(frozen=True, slots=True)
class Profile:
    """What a version took when it was validated: by itself, without Serving, on its publisher's machine."""

    load_seconds: float
    memory_bytes: int  # resident, that loading added; 0 where it was not told
    call_seconds: float | None = None  # median of single calls, the first of each kind left out; None without any
    under_load: UnderLoad | None = None  # None where nothing could be called


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What loading a version took on a server, as it was watched; None for what could not be told."""

    server: ServerName
    model: ModelName
    version: int
    seconds: float | None
    bytes: float | None


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A version that a rollout took back. `content`: the SHA-256 (hex) of its manifest, "" where it has none.

    `harmful`: it was shown to be, or could not be served; else a person ended it, or a newer one took its place.
    `exposed`: users had it. `at`: when it was withdrawn, wall-clock seconds.
    """

    rollout: str
    version: int
    content: str
    harmful: bool
    exposed: bool = False
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Past:
    """What became of one model's rollouts: those withdrawn, newest first, and when a person last started one."""

    withdrawn: tuple[Withdrawn, ...] = ()
    by_person_at: float = float("-inf")
