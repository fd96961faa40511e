"""Late labels: which answers are kept for them, and how a label that came becomes an entry of the evidence log.

A label is joined with its pair by the request's key. The store sees to it that a
pair starts to wait with the entry that brings it and is judged once; what a label
proves is the judge's affair.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields

import numpy as np
import structlog

from haldane.domain.entries import LABEL_DTYPE, Entry
from haldane.domain.fleet import ModelName
from haldane.domain.labels import Arrived, Awaiting, Label, Receipt
from haldane.domain.rollout import Rollout, RolloutId
from haldane.domain.traffic import Api, Batch, Request
from haldane.engine.batches import Score
from haldane.judge.columns import Flags
from haldane.judge.outputs import Scored, Scores
from haldane.ports import Clock, Store
from haldane.telemetry import Telemetry

log = structlog.get_logger()

# Labels joined in one go; each is two answers to score, so some milliseconds.
_AT_ONCE = 500
_STORED_AT_ONCE = 5000  # some 0.2 s on a slow disk
MOST_KEPT_BYTES = 16 * 1024  # of one answer that waits: the scores of a few thousand classes


@dataclass(frozen=True, slots=True)
class LabelTerms:
    """What the config says of one model's labels."""

    wait_seconds: float  # after its answer a label is on time
    count_late: bool  # one that is not is judged all the same


@dataclass(slots=True)
class Answers:
    """Answers of pairs that are back but not on record yet, by `seq`: (api, stable's, canary's), cut down."""

    too_large: int = 0  # pairs that cannot wait
    _held: dict[int, tuple[Api, bytes | None, bytes | None]] = field(default_factory=dict)

    def keep(self, seq: int, api: Api, stable: bytes | None, canary: bytes | None) -> None:
        if max(len(stable or b""), len(canary or b"")) > MOST_KEPT_BYTES:
            self.too_large += 1
        else:
            self._held[seq] = api, stable, canary

    def clear(self) -> None:
        """Shadowing begins anew: pairs that were out are lost."""
        self._held.clear()

    def take(self, batch: Batch, which: Flags, now: float) -> list[Awaiting]:
        """The rows of a batch that are to wait for their label; the answers of all its rows are let go."""
        found = []
        for row, waits in zip(batch, which.tolist(), strict=True):
            held = self._held.pop(int(row["seq"]), None)
            if waits and held is not None:
                api, stable, canary = held
                found.append(
                    Awaiting(
                        request=int(row["request"]),
                        at=now,
                        answered_at=float(row["at"]),
                        server=int(row["server"]),
                        slices=int(row["slices"]),
                        api=api,
                        stable=stable,
                        canary=canary,
                    )
                )
        return found


@dataclass(frozen=True, slots=True)
class Joined:
    """Labels that came: an entry for the evidence log, what to note when it is stored, and where to go on."""

    entry: Entry
    requests: Sequence[int]  # all of them, those too late to be judged included
    late: int
    unusable: int  # could not be held against either answer
    last: int
    full: bool  # there may be more right now


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of all models. `terms` is None for a model that has none declared."""

    store: Store
    clock: Clock
    telemetry: Telemetry
    terms: Callable[[ModelName], LabelTerms | None]
    score: Callable[[ModelName], Score]

    async def put(self, model: ModelName, labels: Sequence[Label], terms: LabelTerms) -> Receipt:
        """Durable when it returns; taken in portions, so that whoever writes beside it need not wait long."""
        at, keep = self.clock.now(), terms.wait_seconds
        total: Counter[str] = Counter()
        for start in range(0, len(labels), _STORED_AT_ONCE):
            some = labels[start : start + _STORED_AT_ONCE]
            receipt = await asyncio.to_thread(self.store.put_labels, model, some, at=at, keep_seconds=keep)
            total.update(asdict(receipt))
        for result, count in (
            ("accepted", total["accepted"]),
            ("duplicate", total["duplicate"]),
            ("unknown", total["expired"]),
            ("dropped", total["dropped"]),
        ):
            self._count(model, result, count)
        return Receipt(**total)

    def joined(self, rollout: Rollout, *, after: int, at: float) -> Joined:
        """Labels of pairs of one rollout that came after that place; `at` is the rollout's time. May take milliseconds.

        Nothing is changed: append the entry with its requests, then `note` it.
        """
        arrivals = self.store.arrived(rollout.id, rollout.model, after=after, limit=_AT_ONCE)
        terms = self.terms(rollout.model)
        on_time = [one for one in arrivals.found if terms and one.at - one.pair.at <= terms.wait_seconds]
        judged = arrivals.found if terms and terms.count_late else on_time
        entry = self._entry(rollout.model, judged, at)
        known = np.isfinite(entry["stable_wrong"]) | np.isfinite(entry["stable_loss"])
        return Joined(
            entry=entry,
            requests=[one.pair.request for one in arrivals.found],
            late=len(arrivals.found) - len(on_time),
            unusable=len(entry) - int(np.count_nonzero(known)),
            last=arrivals.last,
            full=len(arrivals.found) == _AT_ONCE,
        )

    def _entry(self, model: ModelName, arrived: Sequence[Arrived], at: float) -> Entry:
        """Each label held against both answers, exactly as if it had come with its request."""
        entry = np.zeros(len(arrived), LABEL_DTYPE)
        if not arrived:
            return entry
        answers = [[one.pair.stable for one in arrived], [one.pair.canary for one in arrived]]
        asked = [Request("", one.pair.api, b"", truth=one.truth) for one in arrived]
        scored = self._scored(model, asked, *answers)
        entry["at"] = at
        for name in ("answered_at", "request", "server", "slices"):
            entry[name] = [getattr(one.pair, name) for one in arrived]
        lost = scored.stable_unreadable, scored.canary_unreadable
        for side, given, unreadable in zip(("stable", "canary"), answers, lost, strict=True):
            entry[f"{side}_wrong"] = getattr(scored.scores, f"{side}_wrong")
            loss = getattr(scored.scores, f"{side}_loss")
            silent = np.array([answer is None for answer in given]) | unreadable
            # No answer is as bad as can be, whatever the largest loss that a rule counts.
            entry[f"{side}_loss"] = np.where(silent & ~np.isnan(loss), np.inf, loss)
        return entry

    def _scored(
        self, model: ModelName, asked: Sequence[Request], stable: Sequence[bytes | None], canary: Sequence[bytes | None]
    ) -> Scored:
        """As the model's scorer has it. A label that breaks it is unusable: it is stored, and would come again."""
        try:
            return self.score(model)(asked, stable, canary)
        except Exception as error:
            if len(asked) == 1:
                log.error("label_broke", model=model, truth=asked[0].truth, error=f"{type(error).__name__}: {error}")
                return Scored(Scores.unknown(1), np.zeros(1, bool), np.zeros(1, bool))
        each = [self._scored(model, [one], [old], [new]) for one, old, new in zip(asked, stable, canary, strict=True)]
        columns = {
            field.name: np.concatenate([getattr(one.scores, field.name) for one in each]) for field in fields(Scores)
        }
        sides = ([getattr(one, side) for one in each] for side in ("stable_unreadable", "canary_unreadable"))
        return Scored(Scores(**columns), *map(np.concatenate, sides))

    def note(self, rollout: Rollout, joined: Joined) -> None:
        """The entry is on record: count it."""
        for result, count in (
            ("joined", len(joined.entry) - joined.unusable),
            ("late", joined.late),
            ("unusable", joined.unusable),
        ):
            self._count(rollout.model, result, count)

    def no_room(self, rollout: Rollout, pairs: int) -> None:
        self._count(rollout.model, "no_room", pairs)

    def stop_waiting(self, rollout: RolloutId) -> int:
        """No label of this rollout is waited for any more; how many pairs stayed without. May take a second."""
        return self.store.stop_waiting(rollout)

    def _count(self, model: ModelName, result: str, count: int) -> None:
        if count:
            self.telemetry.shadow.labels.labels(model, result).inc(count)
