"""The judge behind the plug-in interface of Monte-Carlo judge benchmarks.

    judge(config) -> object;  object.update(batch) -> "continue" | "rollback" | "promote"

A config names metrics of kind "binary", "bounded", "positive" or "gauge"; a
batch holds arrays NAME_s and NAME_c. What runs is the product's own Hearing,
so what is measured is what decides.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from haldane.domain.evidence import Role, Verdict
from haldane.judge.columns import Readings
from haldane.judge.findings import Watch
from haldane.judge.hearing import Hearing, Terms
from haldane.stats.betting import Evidence, Floats
from haldane.stats.blocks import RatioEvidence, block_length
from haldane.stats.means import BoundedEvidence, CountEvidence
from haldane.stats.tail import LatencyEvidence

WORDS = {Verdict.FAIL: "rollback", Verdict.PASS: "promote"}
# One scrape pair every 5 s; blocks of 60 s; a gauge's first 120 s are warm-up.
SCRAPES_A_BLOCK, GAUGE_WARMUP_SCRAPES, SCRAPE_SECONDS = 12, 24, 5.0


class Judge:
    """One analysis over simulated batches."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.hearing = Hearing(
            [_watch(metric, config) for metric in config["metrics"]],
            Terms(
                alpha=config["alpha"],
                beta=config["beta"],
                least_pairs=config["min_pairs"],
                horizon_pairs=config["horizon_pairs"],
                entry_pairs=config["horizon_pairs"],
            ),
        )
        self.kinds = {metric["name"]: metric["kind"] for metric in config["metrics"]}
        self.warmup = dict.fromkeys((name for name, kind in self.kinds.items() if kind == "gauge"), 0)

    def update(self, batch: Mapping[str, Any]) -> str:
        """One batch in, one word out."""
        pairs = self.hearing.pairs + int(batch["n"])
        self.hearing.hear(self._readings(batch), pairs=pairs, seconds=float(batch["t"]))
        return WORDS.get(self.hearing.verdict, "continue")

    def _readings(self, batch: Mapping[str, Any]) -> Readings:
        readings = {}
        for name, kind in self.kinds.items():
            stable, canary = batch[f"{name}_s"], batch[f"{name}_c"]
            known = np.isfinite(stable) & np.isfinite(canary)
            if kind in ("positive", "gauge"):
                known &= (stable > 0) & (canary > 0)
            stable, canary = stable[known], canary[known]
            readings[name] = self._after_warmup(name, stable, canary) if kind == "gauge" else (stable, canary)
        return readings

    def _after_warmup(self, name: str, stable: Floats, canary: Floats) -> tuple[Floats, Floats]:
        skip = min(len(stable), GAUGE_WARMUP_SCRAPES - self.warmup[name])
        self.warmup[name] += skip
        return stable[skip:], canary[skip:]


def judge(config: Mapping[str, Any]) -> Judge:
    """A fresh analysis for this config."""
    return Judge(config)


def _watch(metric: Mapping[str, Any], config: Mapping[str, Any]) -> Watch:
    return Watch(metric["name"], Role(metric["role"]), metric["weight"], _evidence(metric, config))


def _evidence(metric: Mapping[str, Any], config: Mapping[str, Any]) -> Evidence:
    horizon = config["horizon_pairs"]
    match metric["kind"]:
        case "binary":
            rare = metric["name"] == "errors"  # as for the product's measure of that name
            return CountEvidence(absolute=metric["margin_abs"], relative=metric["margin_rel"], rare=rare)
        case "bounded":
            return BoundedEvidence(absolute=metric["margin_abs"], relative=metric["margin_rel"])
        case "gauge":
            scrapes = int(horizon / config["rate"] / SCRAPE_SECONDS)
            return RatioEvidence(margin=metric["margin_rel"], block_pairs=SCRAPES_A_BLOCK, horizon_pairs=scrapes)
        case _:
            size = block_length(dependence_seconds=config["dependence_s"], pairs_per_second=config["rate"])
            opening, margin = config["dependence_s"] > 0, metric["margin_rel"]
            if "tail_q" not in metric:
                return RatioEvidence(margin=margin, block_pairs=size, horizon_pairs=horizon, opening=opening)
            return LatencyEvidence(
                margin=margin,
                block_pairs=size,
                horizon_pairs=horizon,
                tails=[(metric["tail_q"], metric["tail_margin_rel"])],
                opening=opening,
            )
