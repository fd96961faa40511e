"""Bad input is refused by every public entry of `stats`: evidence folded from it would be wrong for good."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from haldane.stats.betting import Evidence
from haldane.stats.blocks import RatioEvidence
from haldane.stats.bounds import bounded_interval, count_interval, count_ratio_interval, log_e_signs, sign_interval
from haldane.stats.drift import DriftEvidence
from haldane.stats.floor import FloorEvidence
from haldane.stats.limits import LimitEvidence
from haldane.stats.means import BoundedEvidence, CountEvidence
from haldane.stats.order import Order
from haldane.stats.quantiles import Quantiles
from haldane.stats.tail import LatencyEvidence, TailEvidence


def latency() -> LatencyEvidence:
    return LatencyEvidence(margin=0.1, block_pairs=3, horizon_pairs=1000, tails=[(0.95, 0.1)])


KINDS: dict[str, tuple[Callable[[], Evidence], tuple[float, ...]]] = {
    "counts": (lambda: CountEvidence(absolute=0.01), (math.nan, math.inf, -1.0, 0.5, 2.0)),
    "losses": (lambda: BoundedEvidence(absolute=0.01), (math.nan, math.inf, -0.1, 1.1)),
    "ratio": (lambda: RatioEvidence(margin=0.1), (math.nan, math.inf, 0.0, -1.0)),
    "latency": (latency, (math.nan, math.inf, 0.0, -1.0)),
    "limit": (lambda: LimitEvidence(share=0.01), (math.nan, math.inf, -1.0, 0.5)),
    "floor": (lambda: FloorEvidence(margin=0.01), (math.inf, 0.5)),
    "drift": (lambda: DriftEvidence(margin=0.1), (math.nan,)),
}
READINGS = [(name, make, bad) for name, (make, bads) in KINDS.items() for bad in bads]
PAIRED = {name: make for name, (make, _) in KINDS.items() if name != "limit"}  # a limit reads the canary alone
every_pair = pytest.mark.parametrize("make", PAIRED.values(), ids=PAIRED.keys())


@pytest.mark.parametrize(("name", "make", "bad"), READINGS, ids=[f"{name} {bad}" for name, _, bad in READINGS])
def test_a_reading_that_cannot_be_is_refused_and_leaves_no_trace(
    name: str, make: Callable[[], Evidence], bad: float
) -> None:
    evidence = make()
    with pytest.raises(ValueError, match=r"must|number"):
        evidence.fold(np.ones(3), np.array([1.0, bad, 1.0]))
    assert evidence.pairs == 0
    assert evidence.log_harm() == pytest.approx(0.0, abs=1e-12)


@every_pair
@pytest.mark.parametrize("canary", [np.ones(2), np.ones((3, 1)), np.float64(1.0)], ids=["short", "column", "scalar"])
def test_sides_that_do_not_belong_together_are_refused(
    make: Callable[[], Evidence], canary: np.typing.NDArray[np.float64]
) -> None:
    with pytest.raises(ValueError, match="arrays of one length"):
        make().fold(np.ones(3), canary)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_tail_watch_refuses_logarithms_that_are_no_numbers(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        TailEvidence(quantile=0.95, margin=0.1).fold(np.zeros(2), np.array([0.0, bad]), block_pairs=3)
    with pytest.raises(ValueError, match="at least a pair"):
        TailEvidence(quantile=0.95, margin=0.1).fold(np.zeros(2), np.zeros(2), block_pairs=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("make", [Quantiles, lambda: Order(block_pairs=3)], ids=["quantiles", "order"])
def test_what_describes_latency_refuses_readings_that_cannot_be(
    make: Callable[[], Quantiles | Order], bad: float
) -> None:
    with pytest.raises(ValueError, match="finite"):
        make().fold(np.ones(2), np.array([1.0, bad]))
    with pytest.raises(ValueError, match="arrays of one length"):
        make().fold(np.ones(2), np.ones(3))


@pytest.mark.parametrize("level", [0.0, 1.0, -0.05, math.nan])
def test_a_level_that_is_no_chance_is_refused(level: float) -> None:
    counts = np.array([1.0, 2.0, 3.0, 4.0])
    for ask in (
        lambda: count_interval(counts, level=level),
        lambda: count_ratio_interval(counts, absolute=0.0, level=level),
        lambda: bounded_interval(np.array([-1.0, 1.0]), np.ones(2), level=level),
        lambda: sign_interval(np.array([0.0]), np.array([1, 1]), level=level),
    ):
        with pytest.raises(ValueError, match="level must lie between 0 and 1"):
            ask()


@pytest.mark.parametrize("count", [-1.0, math.nan, math.inf])
def test_counts_that_cannot_be_are_refused(count: float) -> None:
    counts = np.array([1.0, count, 3.0, 4.0])
    for ask in (
        lambda: count_interval(counts, level=0.05),
        lambda: count_ratio_interval(counts, absolute=0.0, level=0.05),
        lambda: log_e_signs(1.0, count),
    ):
        with pytest.raises(ValueError, match="counts must be 0 or more"):
            ask()
