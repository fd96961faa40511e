"""Evidence is small whatever the traffic, and goes on after a restart with the same bits."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest

from haldane.stats.betting import LATE_STARTS, Evidence, Floats
from haldane.stats.blocks import RatioEvidence, block_length
from haldane.stats.drift import DriftEvidence
from haldane.stats.limits import LimitEvidence
from haldane.stats.means import BoundedEvidence, CountEvidence
from haldane.stats.tail import LatencyEvidence

METRIC_BYTES, TAIL_BYTES = 8_000, 20_000


def outcomes(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    stable, canary = (rng.random((2, n)) < 0.2).astype(float)
    return stable, canary


def losses(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    stable, canary = rng.random((2, n))
    return stable, canary


def latencies(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    stable, canary = np.exp(rng.normal(0, 0.3, (2, n)) + np.repeat(rng.normal(0, 0.3, (2, 1)), n, axis=1))
    return stable, canary


def ratio(pairs_per_second: float) -> RatioEvidence:
    size = block_length(dependence_seconds=2.0, pairs_per_second=pairs_per_second)
    return RatioEvidence(margin=0.1, block_pairs=size, horizon_pairs=10**7, opening=True)


def latency() -> LatencyEvidence:
    return LatencyEvidence(margin=0.1, block_pairs=70, horizon_pairs=10**7, tails=[(0.99, 0.2)], opening=True)


Draw = Callable[[np.random.Generator, int], tuple[Floats, Floats]]
KINDS: dict[str, tuple[Callable[[], Evidence], Draw, int]] = {
    "counts": (lambda: CountEvidence(absolute=0.01), outcomes, METRIC_BYTES),
    "losses": (lambda: BoundedEvidence(absolute=0.01), losses, METRIC_BYTES),
    "limit": (lambda: LimitEvidence(share=0.01), outcomes, METRIC_BYTES),
    "drift": (lambda: DriftEvidence(margin=0.05), losses, METRIC_BYTES),
    "ratio at 5 pairs/s": (lambda: ratio(5.0), latencies, METRIC_BYTES),
    "ratio at 2,000 pairs/s": (lambda: ratio(2_000.0), latencies, METRIC_BYTES),
    "latency with a tail": (latency, latencies, METRIC_BYTES + TAIL_BYTES),
}
every_kind = pytest.mark.parametrize(("make", "draw", "most"), KINDS.values(), ids=KINDS.keys())


@every_kind
def test_the_state_stays_small(make: Callable[[], Evidence], draw: Draw, most: int) -> None:
    rng, evidence, sizes = np.random.default_rng(1), make(), []
    for _ in range(LATE_STARTS + 8):
        evidence.fold(*draw(rng, 1501))
        evidence.start()
        sizes.append(len(pickle.dumps(evidence)))
    assert max(sizes) <= most


@every_kind
def test_stored_evidence_goes_on_with_the_same_bits(make: Callable[[], Evidence], draw: Draw, most: int) -> None:
    rng, kept, stored = np.random.default_rng(2), make(), make()
    for look in range(12):
        batch = draw(rng, 37 + 50 * look)
        for evidence in (kept, stored := pickle.loads(pickle.dumps(stored))):
            evidence.fold(*batch)
            evidence.start()
        assert (kept.log_harm(), kept.log_harmless(), kept.estimate(), kept.detail()) == (
            stored.log_harm(),
            stored.log_harmless(),
            stored.estimate(),
            stored.detail(),
        )
        assert kept.interval(0.025) == stored.interval(0.025)
