"""Whether gateways can carry a rollout's steps is asked before anything is touched."""

from collections.abc import Sequence

import pytest

from haldane.app.gateways import check_gateways
from haldane.domain.fleet import ModelName
from haldane.domain.rollout import Plan, Rollout
from haldane.ports import PortError, Refused, Unavailable
from haldane.testing.builders import MODEL, a_rollout

STEPS = Plan(traffic_steps=(0.1, 1.0))


class Router:
    """Says what it is told to say; an order would be a mistake."""

    def __init__(self, share: float = 0.0, error: PortError | None = None) -> None:
        self._share, self._error, self.checked = share, error, list[float]()

    async def share(self) -> float:
        return self._share

    async def check(self, shares: Sequence[float]) -> None:
        if self._error:
            raise self._error
        self.checked = list(shares)

    async def set_share(self, share: float) -> None:
        raise AssertionError("nothing may be changed")


async def refusal(router: Router, live: Sequence[Rollout] = ()) -> str:
    with pytest.raises(Refused) as caught:
        await check_gateways(ModelName(MODEL), STEPS, {"g": router}, live)
    return caught.value.detail


async def test_one_that_can_carry_all_steps_and_is_at_rest_is_fine() -> None:
    router = Router()
    await check_gateways(ModelName(MODEL), STEPS, {"g": router}, [a_rollout()])
    assert router.checked == [0.1, 1.0]


async def test_without_steps_none_is_asked() -> None:
    await check_gateways(ModelName(MODEL), Plan(), {"g": Router(error=Unavailable("g", "away"))}, [])


async def test_one_that_is_away_or_says_no_is_told_by_name() -> None:
    assert await refusal(Router(error=Unavailable("g", "no answer within 2 s"))) == "gateway g: no answer within 2 s"
    assert await refusal(Router(error=Refused("g", "Permission denied"))) == "gateway g: Permission denied"


async def test_one_that_sends_users_there_already_would_hand_them_an_unjudged_version() -> None:
    says = "gateway g sends 33.3 % of the calls to the canary's servers already; at rest that must be 0"
    assert await refusal(Router(share=1 / 3)) == says


async def test_two_ramps_at_once_are_one_too_many() -> None:
    says = "rollout credit-2-test goes by steps of traffic through the same gateways; wait for its end"
    assert await refusal(Router(), [a_rollout(plan=STEPS)]) == says
