"""Pairs made up column by column; state only what matters."""

from typing import Any

import numpy as np

from haldane.domain.entries import LABEL_DTYPE, Entry
from haldane.domain.evidence import Role
from haldane.domain.traffic import PAIR_DTYPE, Batch
from haldane.judge.margin import parse_margin
from haldane.judge.rules import MetricRule, Rules


def pairs(n: int, *, first: int = 0, **columns: Any) -> Batch:
    """Healthy pairs, 10 ms on both sides, outputs known and right, unless told otherwise."""
    batch = np.zeros(n, PAIR_DTYPE)
    batch["seq"] = first + np.arange(n)
    batch["at"] = 0.01 * batch["seq"]
    batch["row"] = -1
    batch["fresh"] = True
    batch["stable_seconds"] = batch["canary_seconds"] = 0.01
    batch["stable_loss"] = batch["canary_loss"] = np.nan
    batch["stable_output"] = batch["canary_output"] = np.nan
    for name, values in columns.items():
        batch[name] = values
    return batch


def labels(n: int, *, first: int = 0, **columns: Any) -> Entry:
    """Labels that came a minute late for healthy pairs, both sides right, unless told otherwise."""
    entry = np.zeros(n, LABEL_DTYPE)
    entry["request"] = 1 + first + np.arange(n)
    entry["answered_at"] = 0.01 * (first + np.arange(n))
    entry["at"] = entry["answered_at"] + 60.0
    entry["stable_loss"] = entry["canary_loss"] = np.nan
    for name, values in columns.items():
        entry[name] = values
    return entry


def metric(name: str, margin: str, role: Role = Role.OBJECTIVE, **more: Any) -> MetricRule:
    return MetricRule(name=name, role=role, margin=parse_margin(margin, more.get("kind") or name), **more)


def rules(*metrics: MetricRule, **more: Any) -> Rules:
    """Short rules without warm-up."""
    settings: dict[str, Any] = {
        "warmup_pairs": 0,
        "least_pairs": 100,
        "entry_pairs": 100,
        "dependence_seconds": 0.0,
        "horizon_pairs": 20_000,
    }
    return Rules(metrics=metrics or (metric("errors", "1pp"),), **{**settings, **more})
