"""The evidence log of a rollout: what was seen, in the order in which it was seen.

Append-only entries of three kinds, each a structured array; what the judge
holds in memory is a fold over them, so the same log gives the same verdict,
bit for bit. A schema number names kind and form of what is stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from haldane.domain.traffic import PAIR_DTYPE, Batch

# One row per reading of a metric that no single pair can show. Order is stable, then canary.
READING_DTYPE = np.dtype(
    [
        ("at", "<f8"),  # seconds of judging since the rollout started, and of `held`
        ("metric", "<i2"),  # index into the rules' gauges
        ("server", "<i2"),  # index into the rollout's server list; -1: the fleet as a whole
        ("stable", "<f8"),
        ("canary", "<f8"),
        ("held", "<f8"),  # seconds in which a person was waited for: gauges were read, and the budget stood still
    ]
)

# One row per label that arrived after its pair was judged without it.
LABEL_DTYPE = np.dtype(
    [
        ("at", "<f8"),  # seconds of judging since the rollout started, when the label was joined
        ("answered_at", "<f8"),  # the same, when the pair was answered
        ("request", "<u8"),  # hash of the request's id, as in its pair
        ("server", "<i2"),
        ("slices", "<u4"),
        ("stable_wrong", "<f4"),  # 0, 1, NaN when the label cannot be held against the answer
        ("canary_wrong", "<f4"),
        ("stable_loss", "<f4"),
        ("canary_loss", "<f4"),
    ]
)

Entry = Batch  # shape (n,), dtype PAIR_DTYPE, READING_DTYPE or LABEL_DTYPE

# Pairs as release 0.1 first wrote them, before slices, late labels and drift.
_PAIRS_1 = np.dtype([(name, PAIR_DTYPE[name]) for name in (PAIR_DTYPE.names or ())[:18]])

# Readings before any was taken while a rollout was held.
_READINGS_101 = np.dtype([(name, READING_DTYPE[name]) for name in (READING_DTYPE.names or ())[:5]])


@dataclass(frozen=True, slots=True)
class _Form:
    dtype: np.dtype[Any]
    now: np.dtype[Any]  # what it is read as
    missing: Mapping[str, float]  # what a column it lacks is read as


_UNKNOWN_OUTPUTS = {"stable_output": np.nan, "canary_output": np.nan}
_FORMS: Mapping[int, _Form] = {
    1: _Form(_PAIRS_1, PAIR_DTYPE, _UNKNOWN_OUTPUTS),
    2: _Form(PAIR_DTYPE, PAIR_DTYPE, {}),
    101: _Form(_READINGS_101, READING_DTYPE, {}),
    102: _Form(READING_DTYPE, READING_DTYPE, {}),
    201: _Form(LABEL_DTYPE, LABEL_DTYPE, {}),
}
_SCHEMAS = {PAIR_DTYPE: 2, READING_DTYPE: 102, LABEL_DTYPE: 201}


def judged_until(entry: Entry) -> float:
    """The latest second of judging that an entry tells of, without those held; 0 of an empty one, or without a time."""
    with np.errstate(invalid="ignore"):  # of times that cannot be
        at = entry["at"] - entry["held"] if entry.dtype == READING_DTYPE else entry["at"]
    return float(np.max(at, initial=0.0, where=np.isfinite(at)))


def schema_of(entry: Entry) -> int:
    """The number under which this entry is stored; ValueError when it is of no known kind."""
    if entry.dtype not in _SCHEMAS:
        raise ValueError(f"no entry of the evidence log has the columns {entry.dtype.names}")
    return _SCHEMAS[entry.dtype]


def read_entry(schema: int, rows: bytes) -> Entry:
    """An entry from its stored bytes, older forms brought up to date; ValueError on an unknown schema or a torn row."""
    if schema not in _FORMS:
        known = ", ".join(str(number) for number in _FORMS)
        raise ValueError(f"evidence of schema {schema}; this release reads {known}")
    form = _FORMS[schema]
    stored = np.frombuffer(rows, form.dtype)
    if form.dtype == form.now:
        return stored
    entry = np.zeros(len(stored), form.now)
    for name, value in form.missing.items():
        entry[name] = value
    for name in form.dtype.names or ():
        entry[name] = stored[name]
    return entry
