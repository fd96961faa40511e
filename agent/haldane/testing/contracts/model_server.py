"""What every ModelServer promises."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest

from haldane.domain.fleet import Availability, ModelEntry, ModelName, ModelView, ServerConfig
from haldane.domain.traffic import Outcome, Request, Status
from haldane.ports import ModelServer, Refused

MODEL = ModelName("toy")
LABELS = ("stable", "canary")


@dataclass(frozen=True)
class Bench:
    """What the suite needs: one server with versions 1 and 2 of `toy` loaded, no label, no version 9.

    `entry` makes a list entry for exactly these versions and labels; `golden`
    is answered by both versions.
    """

    client: ModelServer
    entry: Callable[[Sequence[int], Mapping[str, int]], ModelEntry]
    golden: Request

    def config(self, versions: Sequence[int], labels: Mapping[str, int] | None = None) -> ServerConfig:
        return ServerConfig((self.entry(versions, labels or {}),))

    async def look(self, *golden: int, labels: Sequence[str] = LABELS) -> ModelView:
        proofs = [(version, self.golden) for version in golden]
        view = await self.client.look({MODEL: labels}, {MODEL: proofs} if proofs else {})
        return view.models[MODEL]

    async def wait_until(self, claim: Callable[[ModelView], bool], *golden: int) -> ModelView:
        """Looks until the claim holds; a server acts on a reload in its own time."""
        async with asyncio.timeout(60):
            while not claim(view := await self.look(*golden)):  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.05)
        return view

    async def ask(self, version: int | str | None, *, seconds: float = 20.0) -> Outcome:
        deadline = asyncio.get_running_loop().time() + seconds
        return await self.client.predict(MODEL, self.golden, version=version, deadline=deadline)


class ModelServerContract:
    """Subclass it and give the fixture `bench`, fresh for each test."""

    async def test_both_versions_are_seen_available(self, bench: Bench) -> None:
        view = await bench.look()
        assert view.loaded == (1, 2)
        assert view.labels == {}

    async def test_requests_that_name_nothing_get_the_highest_version(self, bench: Bench) -> None:
        view = await bench.look(1, 2)
        assert view.unversioned == 2
        assert (await bench.ask(None)).version == 2

    async def test_a_model_it_does_not_know_is_an_empty_view(self, bench: Bench) -> None:
        view = await bench.client.look({ModelName("unknown"): LABELS}, {})
        assert view.models[ModelName("unknown")] == ModelView()

    async def test_a_version_is_proven_by_an_answered_golden_request_only(self, bench: Bench) -> None:
        assert (await bench.look()).proven == frozenset()
        assert (await bench.look(2)).proven == {2}
        assert (await bench.look(1)).proven == {1, 2}

    async def test_a_label_moves_and_is_seen_to_have_moved(self, bench: Bench) -> None:
        await bench.look()
        await bench.client.reload(bench.config([1, 2], {"stable": 1}))
        assert (await bench.look()).labels == {"stable": 1}
        await bench.client.reload(bench.config([1, 2], {"stable": 2}))
        assert (await bench.look()).labels == {"stable": 2}

    async def test_an_answer_says_which_version_gave_it(self, bench: Bench) -> None:
        await bench.client.reload(bench.config([1, 2], {"stable": 1}))
        assert [(await bench.ask(version)).version for version in (1, 2, "stable", None)] == [1, 2, 1, 2]

    async def test_a_refused_flip_leaves_the_label_where_it_was(self, bench: Bench) -> None:
        await bench.client.reload(bench.config([1, 2], {"stable": 1}))
        with pytest.raises(Refused):
            await bench.client.reload(bench.config([1, 2, 9], {"stable": 9}))
        assert (await bench.look()).labels == {"stable": 1}

    async def test_a_version_left_out_is_unloaded_and_stays_in_the_history(self, bench: Bench) -> None:
        await bench.client.reload(bench.config([1]))
        view = await bench.wait_until(lambda view: view.loaded == (1,))
        ended = await bench.wait_until(lambda view: (s := view.status(2)) is not None and s.availability == "END")
        status = ended.status(2)
        assert view.unversioned == 1
        assert status is not None
        assert not status.failed
        assert status.availability is Availability.END

    async def test_calls_to_what_is_not_there_are_outcomes_not_errors(self, bench: Bench) -> None:
        assert (await bench.ask(9)).status is Status.NOT_FOUND
        assert (await bench.ask("nope")).status is Status.NOT_FOUND

    async def test_a_call_without_time_left_times_out(self, bench: Bench) -> None:
        assert (await bench.ask(1, seconds=-1.0)).status is Status.TIMEOUT

    async def test_a_request_the_model_cannot_take_is_invalid(self, bench: Bench) -> None:
        empty = replace(bench, golden=replace(bench.golden, body=b""))
        outcome = await empty.ask(1)
        assert outcome.status is Status.INVALID
        assert outcome.detail

    async def test_a_config_that_could_harm_is_never_sent(self, bench: Bench) -> None:
        for harmful in (ServerConfig(), bench.config([1], {"stable": 2})):
            with pytest.raises(Refused, match="not sent"):
                await bench.client.reload(harmful)
        assert (await bench.look()).loaded == (1, 2)

    async def test_the_metrics_page_is_text_or_nothing(self, bench: Bench) -> None:
        page = await bench.client.scrape()
        assert page is None or page.endswith("\n")
