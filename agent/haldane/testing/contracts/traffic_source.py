"""What every TrafficSource promises."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from haldane.domain.traffic import Api, Request
from haldane.ports import TrafficSource
from haldane.serving import splice
from haldane.wire import CLASSIFY, PREDICT, REGRESS

_MESSAGES = {Api.PREDICT: PREDICT.request, Api.CLASSIFY: CLASSIFY.request, Api.REGRESS: REGRESS.request}


@dataclass(frozen=True)
class Supply:
    """What the suite needs: a source that holds `rows` different requests, opened anew at each call."""

    open: Callable[[], TrafficSource]
    rows: int
    finite: bool = True  # a set that is read again when it ends

    async def take(self, count: int) -> list[Request]:
        taken: list[Request] = []
        requests = cast(AsyncGenerator[Request, None], self.open().requests())
        async with asyncio.timeout(30), aclosing(requests):
            async for request in requests:
                taken.append(request)
                if len(taken) == count:
                    break
        return taken


class TrafficSourceContract:
    """Subclass it and give the fixture `supply`."""

    async def test_bodies_are_requests_of_their_method_that_name_no_version(self, supply: Supply) -> None:
        for request in await supply.take(supply.rows):
            spec = _MESSAGES[request.api].FromString(request.body).model_spec
            assert not spec.name
            assert spec.WhichOneof("version_choice") is None

    async def test_a_version_can_be_chosen_by_adding_bytes(self, supply: Supply) -> None:
        (request,) = await supply.take(1)
        body = splice.addressed(request.body, cast(Any, "credit"), 7)
        spec = _MESSAGES[request.api].FromString(body).model_spec
        assert (spec.name, spec.version.value) == ("credit", 7)

    async def test_ids_are_unique_among_different_requests(self, supply: Supply) -> None:
        taken = await supply.take(supply.rows)
        assert len({request.id for request in taken}) == supply.rows

    async def test_a_set_is_read_again_with_the_same_rows_and_a_stream_has_none(self, supply: Supply) -> None:
        if not supply.finite:
            assert {request.row for request in await supply.take(supply.rows)} == {-1}
            return
        twice = await supply.take(2 * supply.rows)
        first, second = twice[: supply.rows], twice[supply.rows :]
        assert first == second
        assert len({request.row for request in first}) == supply.rows
        assert min(request.row for request in first) >= 0

    async def test_it_can_be_left_in_the_middle_and_opened_again(self, supply: Supply) -> None:
        assert await supply.take(1) == (await supply.take(supply.rows))[:1]
