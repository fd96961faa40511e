"""The append-only audit log: one Record per stored fact, chained by hash."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
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


def first_break(records: Iterable[Record]) -> int | None:
    """The seq at which the chain no longer holds (changed, missing or reordered), or None when it holds."""
    seq, previous = 1, GENESIS
    for record in records:
        own = digest(record.seq, record.at, record.kind, record.rollout, record.model, record.data, previous)
        if (record.seq, record.previous, record.hash) != (seq, previous, own):
            return seq
        seq, previous = seq + 1, record.hash
    return None
