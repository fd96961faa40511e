"""What every Router promises, measured on calls that really went through the gateway."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from haldane.ports import Router
from haldane.stats.binomial import chance_beyond

STEPS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
CALLS = 1000
UNLIKELY = 1e-6  # of a sound gateway, per look


@dataclass(frozen=True)
class Routed:
    """A gateway at rest before one canary server and at least one other."""

    router: Router
    count: Callable[[int], int]  # of so many calls through the gateway, those a canary server answered


class RouterContract:
    """Subclass it and give the fixture `routed`, anew for each test."""

    async def test_at_rest_no_call_reaches_a_canary_server(self, routed: Routed) -> None:
        assert await routed.router.share() == 0.0
        assert routed.count(100) == 0

    @pytest.mark.parametrize("share", STEPS)
    async def test_a_share_is_read_back_as_it_was_set(self, routed: Routed, share: float) -> None:
        await routed.router.set_share(share)
        assert await routed.router.share() == pytest.approx(share, rel=0.1)

    @pytest.mark.parametrize("share", [0.1, 0.5])
    async def test_that_share_of_real_calls_goes_to_the_canary(self, routed: Routed, share: float) -> None:
        await routed.router.set_share(share)
        hits = routed.count(CALLS)
        assert chance_beyond(hits, CALLS, share) > UNLIKELY, f"{hits} of {CALLS} calls at {share:.0%}"

    async def test_all_means_all_and_none_means_none(self, routed: Routed) -> None:
        await routed.router.set_share(1.0)
        assert (await routed.router.share(), routed.count(100)) == (1.0, 100)
        await routed.router.set_share(0.0)
        assert (await routed.router.share(), routed.count(100)) == (0.0, 0)

    async def test_setting_it_again_changes_nothing(self, routed: Routed) -> None:
        for _ in range(2):
            await routed.router.set_share(0.25)
        before = await routed.router.share()
        await routed.router.set_share(0.25)
        assert await routed.router.share() == before

    async def test_checking_moves_no_call(self, routed: Routed) -> None:
        await routed.router.check(STEPS)
        assert await routed.router.share() == 0.0
