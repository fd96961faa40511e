"""Gauges on the report's page: blocks, bytes and limits, in their own words."""

import re

import numpy as np

from haldane.domain.entries import READING_DTYPE, Entry
from haldane.judge.analysis import trace
from haldane.judge.gauges import Gauge, GaugeRule
from haldane.testing.builders import a_rollout
from haldane.testing.pairs import metric, pairs, rules
from haldane.web.report import page
from haldane.web.story import Story

GAUGES = (
    GaugeRule(name="queue", kind=Gauge.QUERY, margin=0.1, query="q", warmup_seconds=0),
    GaugeRule(name="leak", kind=Gauge.GROWTH, limit=100e6, warmup_seconds=0),
    GaugeRule(name="memory", kind=Gauge.MEMORY, limit=1e9),
    GaugeRule(name="silent", kind=Gauge.LOAD, limit=30.0),
)


def rows(gauge: int, at: np.ndarray, stable: object, canary: object) -> Entry:
    entry = np.zeros(len(at), READING_DTYPE)
    entry["at"], entry["metric"], entry["stable"], entry["canary"] = at, gauge, stable, canary
    return entry


def test_gauges_are_told_in_their_own_units() -> None:
    made = rules(metric("errors", "1pp"), gauges=GAUGES)
    at, rng = np.arange(0.0, 1300, 5), np.random.default_rng(1)
    log = [
        rows(2, np.array([1.0]), np.nan, 7.5e8),
        pairs(500),
        np.concatenate(
            [
                rows(1, at, np.nan, 2e9 + 4e8 * at / 3600),
                rows(0, at, 1.0, np.exp(rng.normal(0, 0.05, len(at)))),
            ]
        ),
    ]
    rollout = a_rollout(analysis=made.to_json())
    story = Story(
        rollout=rollout,
        rulings=trace(made, log),
        records=(),
        labels_before=None,
        labels_after=None,
        alpha=made.alpha,
        beta=made.beta,
    )
    shown = re.sub(r"<[^>]+>", " ", page(story))
    for words in (" 750 MB", " 1 GB", "1 server ", "MB/h", "10 couples of blocks", "21 blocks", "+10.0 %", "silent"):
        assert words in shown, words
