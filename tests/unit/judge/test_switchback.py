"""The schedule of A/A and A/B blocks, and what two blocks cost."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haldane.judge.switchback import BlockCost, Schedule, couple

PLAN = Schedule(block_seconds=60.0, warmup_seconds=120.0)
AA = BlockCost(aa=True, seconds=60.0, pairs=600, cpu_seconds=1.2)
AB = BlockCost(aa=False, seconds=60.0, pairs=600, cpu_seconds=1.8)


def test_warm_up_is_no_block() -> None:
    assert [PLAN.block(at) for at in (0.0, 119.9, 120.0, 179.9, 180.0)] == [None, None, 0, 0, 1]
    assert PLAN.ends(0) == 180.0


def test_every_couple_has_both_kinds_and_a_steady_drift_cancels() -> None:
    kinds = [PLAN.aa(block) for block in range(8)]
    assert all(kinds[first] != kinds[first + 1] for first in range(0, 8, 2))
    aa, ab = (sum(block for block in range(8) if kinds[block] is kind) for kind in (True, False))
    assert aa == ab  # the mean time of both kinds is the same


@pytest.mark.parametrize("order", [(AA, AB), (AB, AA)])
def test_a_couple_tells_the_cost_of_a_pair_of_each_kind(order: tuple[BlockCost, BlockCost]) -> None:
    assert couple(*order, 60.0) == (pytest.approx(0.002), pytest.approx(0.003))


@given(
    other=st.floats(0, 1e3),
    stable=st.floats(1e-4, 1),
    margin=st.floats(0.01, 2),
    n=st.integers(1, 999),
    m=st.integers(1, 999),
)
def test_what_else_runs_there_never_makes_up_a_difference(
    other: float, stable: float, margin: float, n: int, m: int
) -> None:
    """A canary on its margin, however many pairs of each kind came through."""
    aa = BlockCost(aa=True, seconds=60.0, pairs=m, cpu_seconds=other + 2 * stable * m)
    ab = BlockCost(aa=False, seconds=60.0, pairs=n, cpu_seconds=other + stable * (2 + margin) * n)
    costs = couple(aa, ab, 60.0)
    assert costs is not None and costs[1] / costs[0] <= (1 + margin / 2) * (1 + 1e-9)


@pytest.mark.parametrize(
    "spoilt",
    [
        replace(AB, aa=True),
        replace(AB, seconds=40.0),
        replace(AB, seconds=80.0),
        replace(AB, pairs=0),
        replace(AB, cpu_seconds=-3.0),  # the process was restarted
        replace(AB, cpu_seconds=math.nan),
    ],
)
def test_a_spoilt_block_takes_its_couple_with_it(spoilt: BlockCost) -> None:
    assert couple(AA, spoilt, 60.0) is None
