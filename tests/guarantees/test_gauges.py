"""Promises of gauges: on the margin a rollback is seldom, with noise that lasts, and a clear harm is found in time."""

from collections.abc import Callable, Iterator

import numpy as np

from haldane.domain.entries import READING_DTYPE, Entry
from haldane.domain.evidence import Role, Verdict
from haldane.judge.analysis import Analysis
from haldane.judge.gauges import Gauge, GaugeRule
from haldane.testing.pairs import metric, rules

MARGIN = 0.1
TRIALS = 300
# Only the gauge can roll back, so that all of alpha is at stake.
SHOWN_ONLY = metric("errors", "1pp", Role.INFO)
QUERY = GaugeRule(name="queue", kind=Gauge.QUERY, margin=MARGIN, query="q", warmup_seconds=0)
CPU = GaugeRule(name="cpu", kind=Gauge.CPU, margin=MARGIN, warmup_seconds=0)
LEAK = GaugeRule(name="leak", kind=Gauge.GROWTH, limit=100e6, warmup_seconds=0)


def lasting(rng: np.random.Generator, steps: int, *, size: float, seconds: float) -> np.ndarray:
    """Noise of one side, every 5 s, whose memory fades within so many seconds."""
    keep = float(np.exp(-5.0 / seconds))
    shocks = rng.normal(0, size * np.sqrt(1 - keep**2), steps)
    noise = np.zeros(steps)
    for i in range(1, steps):
        noise[i] = keep * noise[i - 1] + shocks[i]
    return noise


def entries(stable: np.ndarray, canary: np.ndarray, *, every: float, portion: int) -> Iterator[Entry]:
    rows = np.zeros(len(canary), READING_DTYPE)
    rows["at"], rows["stable"], rows["canary"] = every * np.arange(len(canary)), stable, canary
    yield from (rows[i : i + portion] for i in range(0, len(rows), portion))


def withdrawn(rule: GaugeRule, *log: Entry) -> bool:
    analysis = Analysis(rules(SHOWN_ONLY, gauges=(rule,)))
    for entry in log:
        analysis.fold(entry)
    return analysis.hearing.verdict is Verdict.FAIL


def seldom(withdrawals: int) -> bool:
    """Within 1 % of the trials, up to three standard deviations."""
    return withdrawals <= 0.01 * TRIALS + 3 * (0.01 * TRIALS) ** 0.5


def test_a_gauge_on_its_margin_is_seldom_withdrawn_though_noise_of_one_side_lasts(
    record_property: Callable[[str, object], None],
) -> None:
    rng, steps = np.random.default_rng(1), 12 * 60
    count = 0
    for _ in range(TRIALS):
        stable, canary = (np.exp(lasting(rng, steps, size=0.2, seconds=20)) for _ in range(2))
        count += withdrawn(QUERY, *entries(stable, (1 + MARGIN) * canary, every=5, portion=12))
    record_property("summary", f"query on the margin: {count} of {TRIALS} withdrawn")
    assert seldom(count)


def test_a_canary_on_its_margin_in_cpu_is_seldom_withdrawn_though_load_drifts(
    record_property: Callable[[str, object], None],
) -> None:
    rng, couples = np.random.default_rng(2), 60
    count = 0
    for _ in range(TRIALS):
        load = np.exp(np.cumsum(rng.normal(0, 0.02, 2 * couples)))  # of everything, from block to block
        aa_first = np.arange(couples) % 2 == 0
        first, second = load[::2], load[1::2]
        aa = 2 * np.where(aa_first, first, second) * np.exp(rng.normal(0, 0.05, couples))
        ab = (2 + MARGIN) * np.where(aa_first, second, first) * np.exp(rng.normal(0, 0.05, couples))
        count += withdrawn(CPU, *entries(aa, ab, every=120, portion=1))
    record_property("summary", f"cpu on the margin: {count} of {TRIALS} withdrawn")
    assert seldom(count)


def test_memory_that_grows_as_much_as_allowed_is_seldom_withdrawn(
    record_property: Callable[[str, object], None],
) -> None:
    rng, steps = np.random.default_rng(3), 12 * 60
    count = 0
    for _ in range(TRIALS):
        grown = 100e6 / 3600 * 5 * np.arange(steps)
        resident = 2e9 + grown + 5e6 * lasting(rng, steps, size=1.0, seconds=20)
        count += withdrawn(LEAK, *entries(np.full(steps, np.nan), resident, every=5, portion=12))
    record_property("summary", f"growth on the limit: {count} of {TRIALS} withdrawn")
    assert seldom(count)


def test_a_quarter_more_is_found_within_a_quarter_of_an_hour() -> None:
    rng, steps = np.random.default_rng(4), 12 * 15
    found = 0
    for _ in range(50):
        stable, canary = np.exp(rng.normal(0, 0.1, (2, steps)))
        found += withdrawn(QUERY, *entries(stable, 1.25 * canary, every=5, portion=12))
    assert found >= 48
