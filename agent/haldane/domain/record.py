"""The append-only audit log: one Record per stored fact, chained by hash."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One entry. `hash` covers every other field and the hash before it."""

    seq: int
    at: float
    kind: str  # past tense, closed set: "rollout_started", "phase_changed", "config_sent", ...
    rollout: str  # "" when it belongs to none
    model: str
    data: dict[str, Any]  # JSON values only
    previous: str
    hash: str


def digest(seq: int, at: float, kind: str, rollout: str, model: str, data: dict[str, Any], previous: str) -> str:
    """SHA-256 over the canonical JSON of the entry and the hash before it, as hex."""
    body = json.dumps([seq, at, kind, rollout, model, data, previous], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()


def chain(
    after: Record | None, *, at: float, kind: str, rollout: str = "", model: str = "", data: dict[str, Any]
) -> Record:
    """The next Record after that one (None: the first)."""
    seq, previous = (after.seq + 1, after.hash) if after else (1, GENESIS)
    own = digest(seq, at, kind, rollout, model, data, previous)
    return Record(seq=seq, at=at, kind=kind, rollout=rollout, model=model, data=data, previous=previous, hash=own)


def flaw(record: Record, before: Record | None) -> str:
    """Why this Record cannot be the one after `before` (None: it is to be the first), as a sentence; "" when it can."""
    seq, previous = (before.seq + 1, before.hash) if before else (1, GENESIS)
    if record.seq > seq:
        what = f"record {seq} is" if record.seq == seq + 1 else f"records {seq} to {record.seq - 1} are"
        return f"{what} missing, or out of order: record {record.seq} stands there"
    if record.seq < seq:
        return f"record {record.seq} stands where record {seq} should be: the order was changed, or it is there twice"
    if record.previous != previous:
        return f"record {seq} does not follow from the one before it, which was put in another's place"
    if record.hash != digest(seq, record.at, record.kind, record.rollout, record.model, record.data, previous):
        return f"record {seq} was changed: its hash does not fit its content"
    return ""


def first_break(records: Iterable[Record]) -> int | None:
    """The seq at which the chain no longer holds (changed, missing or reordered), or None when it holds."""
    before: Record | None = None
    for record in records:
        if flaw(record, before):
            return before.seq + 1 if before else 1
        before = record
    return None


def to_line(record: Record) -> str:
    """The Record as one line of JSON, without a line break; every number as it was hashed."""
    return json.dumps(asdict(record), sort_keys=True, separators=(",", ":"))


def from_line(line: str) -> Record:
    """The Record of such a line; ValueError, with what is wrong, for anything else."""
    found = json.loads(line)
    names = [field.name for field in fields(Record)]
    if not isinstance(found, dict) or set(found) != set(names):
        raise ValueError(f"a record has the keys {', '.join(names)}")
    kinds: dict[str, type | tuple[type, ...]] = {"seq": int, "at": (int, float), "data": dict}
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, kinds.get(name, str)):
            raise ValueError(f"{name} is {value!r}")
    return Record(**found)
