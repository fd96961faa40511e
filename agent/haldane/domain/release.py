"""What people say of versions: that one is there to be rolled out, or must not be deleted."""

from dataclasses import dataclass
from enum import StrEnum

from haldane.domain.fleet import ModelName


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
