"""What the agent asks of the outside, and how the outside may fail it.

PortError
├── Unavailable   no answer in time, or "later"     retry until the deadline
├── Refused       a clear no; asking again is idle  hold, and tell a person
├── Malformed     an answer in the wrong shape      count it, keep the bytes
├── NoData        an answer that holds no number    no reading; nothing passes on it
└── StaleWrite    another writer was first          reload, decide again
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar

from haldane.domain.entries import Entry
from haldane.domain.fleet import Condition, ModelName, ModelView, ReplicaView, Server, ServerConfig
from haldane.domain.labels import Arrivals, Awaiting, Label, Receipt
from haldane.domain.record import Record
from haldane.domain.rollout import Rollout, RolloutId
from haldane.domain.traffic import Choice, Outcome, Request

T = TypeVar("T")


class PortError(Exception):
    """Base of every failure an adapter may raise; anything else is our bug."""

    reason: ClassVar[str] = "other"  # one of a few fixed words: it becomes a Prometheus label

    def __init__(self, target: str, detail: str) -> None:
        super().__init__(f"{target}: {detail}")
        self.target = target  # a name from the config, never a URL with secrets
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        """As every exception, but for arguments that are not its message: it may come from another process."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


class Unavailable(PortError):
    """No answer in time, or "later"."""

    reason = "unavailable"


class Refused(PortError):
    """A clear no; asking again is idle."""

    reason = "refused"


class Malformed(PortError):
    """An answer in the wrong shape."""

    reason = "malformed"


class Flaw(StrEnum):
    """Why one record of a source is no request; a closed set, for it becomes a Prometheus label."""

    TRUNCATED = "truncated"  # the file ends inside a record, or its framing is lost
    CHECKSUM = "checksum"  # a TFRecord whose data does not fit its CRC
    FORMAT = "format"  # not the kind of record the source is said to hold
    OTHER_MODEL = "other_model"  # logged for another model
    SIGNATURE = "signature"  # not what the model's signature takes
    LABEL = "label"  # the right answer is missing or no answer
    EXCLUDED = "excluded"  # calls a signature that the config says must not be called once more


class Unusable(Malformed):
    """One record among others, in whose place this stands; the rest of the source is used."""

    def __init__(self, target: str, detail: str, flaw: Flaw) -> None:
        super().__init__(target, detail)
        self.flaw = flaw


class NoData(PortError):
    """A sound answer that holds no number."""

    reason = "no_data"


class StaleWrite(PortError):
    """Another writer was first."""

    reason = "stale_write"


class ModelServer(Protocol):
    """One TF Serving process, seen, changed and asked to predict."""

    async def look(
        self, models: Mapping[ModelName, Sequence[str]], golden: Mapping[ModelName, Sequence[tuple[int, Request]]]
    ) -> ReplicaView:
        """What it holds now of these models (name -> labels to probe).

        Each golden (version, request) not yet proven on this process is sent
        when that version is AVAILABLE; those of one version stand together, and
        prove it when all are answered, and as recorded where that is known. Unavailable when it does not answer;
        a model it does not know is an empty ModelView, not an error.
        """

    async def reload(self, config: ServerConfig) -> None:
        """Send the whole config once. Returning means "accepted", never "loaded".

        Refused with the server's own words when it says no. Unavailable when
        the outcome is not known (deadline, connection): look before acting.
        """

    async def predict(
        self, model: ModelName, request: Request, *, version: int | str | None, deadline: float
    ) -> Outcome:
        """One call, addressed by number, label (str) or neither. Never raises for what the server says."""

    def predict_both(
        self, model: ModelName, request: Request, *, first: Choice, second: Choice, deadline: float
    ) -> Awaitable[tuple[Outcome, Outcome]]:
        """Two calls of one request, sent together in that order, each timed by itself; as `predict` otherwise."""

    async def scrape(self) -> str | None:
        """Its metrics page, or None when it has none."""


class Workers(Protocol):
    """Other processes, maybe on other machines, that run functions of ours."""

    async def names(self) -> Sequence[str]:
        """Those that can be asked now. Unavailable when nobody can say; Refused, with what to do, when none is fit."""

    async def ask(self, worker: str, deed: Callable[..., Awaitable[T]], *given: object, seconds: float = 10.0) -> T:
        """What `deed`, a coroutine function of a module, returns there. Unavailable when no answer came in time: it
        may have run all the same."""


class ServerList(Protocol):
    """A list of servers that somebody else keeps."""

    async def read(self) -> Sequence[Server]:
        """Every server on it now, ready or not; PortError when it cannot be told, NoData when none is on it.

        Repeats are left in: who reads the list refuses them.
        """


class ConfigSink(Protocol):
    """A text that servers boot with, kept somewhere outside."""

    async def read(self) -> str:
        """The text now; PortError when it is not there."""

    async def write(self, before: str, after: str) -> None:
        """Replace it whole. StaleWrite, with nothing written, when it is no longer `before`."""


class TrafficSource(Protocol):
    """Yields Requests, once or for ever."""

    def requests(self) -> AsyncIterator[Request]: ...


class MetricSource(Protocol):
    """Numbers by a query in the source's own language."""

    async def ask(self, query: str) -> float:
        """The one finite number that this query gives now; PortError, NoData among them, when there is none."""


class ProcessMeter(Protocol):
    """What one server's process has used so far; PortError when it cannot be read."""

    async def cpu_seconds(self) -> float: ...

    async def resident_bytes(self) -> float: ...


class Router(Protocol):
    """A gateway that sends a share of the users' calls to the canary servers, and the rest to the others."""

    async def share(self) -> float:
        """The share that the canary servers get now, 0 to 1, as the gateway says; PortError when that is not known."""

    async def set_share(self, share: float) -> None:
        """Order that share. Returning means "accepted": read it back. Doing it twice does no harm.

        Refused: it says no, or cannot express that share. Unavailable: whether it took is not known.
        """

    async def check(self, shares: Sequence[float]) -> None:
        """Refused when one of these shares could not be set, or would move nobody; calls go on as before."""


class Store(Protocol):
    """Keeps rollouts, evidence logs and Records. Synchronous: calls take milliseconds and run in a worker thread.

    Every write names the revision it read; StaleWrite when it is no longer the newest.
    """

    def live(self) -> list[tuple[Rollout, int]]:
        """Rollouts that are not final, with their revisions."""

    def rollouts(self, limit: int = 100) -> list[Rollout]:
        """The newest first."""

    def rollout(self, rollout: RolloutId) -> tuple[Rollout, int] | None: ...

    def commit(
        self,
        rollout: Rollout,
        revision: int | None,
        records: Iterable[tuple[str, dict[str, Any]]],
        *,
        settled: tuple[ModelName, int, int] | None = None,
    ) -> int:
        """Store the rollout (revision None: a new one) and its Records (kind, data) in one transaction.

        `settled` also stores the model's stable version from now on, and the one the config declared
        at that time. Returns the new revision.
        """

    def settled(self) -> dict[ModelName, tuple[int, int]]:
        """The stable version of each model as past rollouts left it, and what the config declared then."""

    def append_evidence(
        self, rollout: RolloutId, entry: Entry, *, awaiting: Sequence[Awaiting] = (), joined: Sequence[int] = ()
    ) -> int:
        """The next entry of its evidence log, and in the same transaction what it changes for labels.

        `awaiting`: pairs of the entry that wait for a label. A request that waited in this rollout before
        is left as it was. `joined`: requests whose label the entry holds; they are never given again.
        Returns how many pairs found no room to wait.
        """

    def evidence(self, rollout: RolloutId) -> Iterable[Entry]:
        """Its evidence log, in the order and the portions in which it was appended."""

    def put_labels(self, model: ModelName, labels: Sequence[Label], *, at: float, keep_seconds: float) -> Receipt:
        """Keep labels that came at `at`, for so long; those kept longer are forgotten. A request's first stands."""

    def arrived(self, rollout: RolloutId, model: ModelName, *, after: int, limit: int) -> Arrivals:
        """At most `limit` pairs of the rollout that wait and whose label is there, in the order in which labels came.

        `after`: the place the last call went to, 0 for all. A label that came before its pair comes up again
        when the pair is there.
        """

    def stop_waiting(self, rollout: RolloutId) -> int:
        """No label of this rollout is waited for any more; how many pairs still were without."""

    def record(self, kind: str, data: dict[str, Any], *, rollout: str = "", model: str = "") -> Record: ...

    def records(
        self, rollout: RolloutId | None = None, *, kinds: Collection[str] = (), after: int = 0, limit: int = 1000
    ) -> list[Record]:
        """Oldest first: those of one rollout, or of all; of these kinds, or of any."""

    def hold_lease(self, holder: str, *, seconds: float) -> bool:
        """Take or renew the one lease; False while another holds it.

        From then on rollouts, evidence and Records are stored only while no other has had it since: StaleWrite.
        """

    def lease_holder(self) -> str | None: ...

    def release_lease(self, holder: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something a receiver outside should hear once; it drops repeats by `id`. `at` in seconds; `data`: JSON values."""

    id: str
    type: str
    subject: str
    at: float
    data: Mapping[str, Any]


class Notifier(Protocol):
    """Takes notices, one at a time. Raises Unavailable (tell it again) or Refused (do not)."""

    async def tell(self, notice: Notice) -> None: ...


class AlertSink(Protocol):
    """Is told which Conditions hold now; the sink keeps them alive and resolves those that are gone."""

    async def tell(self, firing: Sequence[Condition]) -> None: ...


IntoVersions = Callable[[Collection[int]], Collection[int]]  # versions found -> those whose files are asked for
# Base path -> by version the bytes of its files by path, None for those not asked for; None: not there for us.
# Blocks; raises PortError.
ListStorage = Callable[[str, IntoVersions], Mapping[int, Mapping[str, int] | None] | None]


class Registry(Protocol):
    """A registry of trained models, with versions numbered by itself and aliases that name them."""

    async def version_of(self, name: str, run: str) -> str | None:
        """The newest version of that model that came out of that training run; None when there is none."""

    async def aliases(self, name: str) -> Mapping[str, str]:
        """Alias -> version; Refused when there is no such model."""

    async def set_alias(self, name: str, alias: str, version: str) -> None: ...

    async def drop_alias(self, name: str, alias: str) -> None: ...


class Clock(Protocol):
    """Wall time for records and people; loop time is asyncio's."""

    def now(self) -> float: ...


__all__ = [
    "AlertSink",
    "Clock",
    "ConfigSink",
    "Flaw",
    "IntoVersions",
    "ListStorage",
    "Malformed",
    "MetricSource",
    "ModelServer",
    "ModelView",
    "NoData",
    "Notice",
    "Notifier",
    "PortError",
    "ProcessMeter",
    "Refused",
    "Registry",
    "Router",
    "ServerList",
    "StaleWrite",
    "Store",
    "TrafficSource",
    "Unavailable",
    "Unusable",
    "Workers",
]
