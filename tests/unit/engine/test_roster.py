"""Who is in the fleet: what lists say is followed, and what they cannot say changes nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from haldane.domain.fleet import Server, ServerName
from haldane.domain.rollout import Mode, Phase
from haldane.engine.desk import Desk
from haldane.engine.roster import GONE_SECONDS, Listed, Names, Roster
from haldane.ports import NoData, PortError, Unavailable
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_config, a_rollout


def server(name: str, address: str = "") -> Server:
    return Server(ServerName(name), address or f"{name}:8500")


class AList:
    """A list that says what it is told to."""

    def __init__(self, *names: str) -> None:
        self.says: Sequence[Server] | PortError = [server(name) for name in names]

    async def read(self) -> Sequence[Server]:
        if isinstance(self.says, PortError):
            raise self.says
        return self.says


class Office:
    """A roster over lists, with a clock of its own; what is looked after, and what is remembered, is noted."""

    def __init__(self, recalled: Names | None = None, **lists: AList) -> None:
        self.desk = Desk(mode=Mode.ENFORCE, servers={}, base=a_config(), watched={})
        self.at, self.begun, self.ended = 0.0, list[str](), list[str]()
        self.remembered: Names = {}
        self.telemetry = Telemetry.on(CollectorRegistry())
        self.roster = Roster(
            desk=self.desk,
            fixed=[server("fixed")],
            lists={name: Listed(one, 3600.0) for name, one in lists.items()},
            telemetry=self.telemetry,
            look_after=self.look_after,
            now=lambda: self.at,
            recalled=recalled or {},
            remember=self.remember,
        )
        self.roster._recall()
        self.group = asyncio.TaskGroup()

    async def look_after(self, one: Server) -> None:
        self.begun.append(one.address)
        self.desk.put_server(one)
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(one.address)
            self.desk.drop_server(one.name)

    def remember(self, known: Names) -> None:
        self.remembered = dict(known)

    async def turn(self, seconds: float = 0.0) -> None:
        """Time passes, every list is read, and what follows is done."""
        self.at += seconds
        for name in self.roster.lists:
            await self.roster.read(name)
        await self.roster._settle(self.group)
        await asyncio.sleep(0)

    def value(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(name, labels)

    async def __aenter__(self) -> "Office":
        await self.group.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        for _, task in self.roster._tasks.values():
            task.cancel()
        await self.group.__aexit__(None, None, None)


async def test_servers_come_at_once_and_leave_a_minute_after_they_left_the_list():
    names = AList("a", "b")
    async with Office(names=names) as office:
        await office.turn()
        assert sorted(office.desk.servers) == ["a", "b"]
        names.says = [server("a"), server("c")]
        await office.turn(GONE_SECONDS - 1)
        await office.turn(GONE_SECONDS - 1)
        assert sorted(office.desk.servers) == ["a", "b", "c"]
        await office.turn(1)
        assert sorted(office.desk.servers) == ["a", "c"]
        assert office.ended == ["b:8500"]


async def test_another_pod_of_the_same_name_and_address_is_another_process():
    names = AList()
    names.says = [replace(server("a"), process="first")]
    async with Office(names=names) as office:
        await office.turn()
        await office.turn()
        assert (office.begun, office.ended) == (["a:8500"], [])
        names.says = [replace(server("a"), process="second")]
        await office.turn()
        await asyncio.sleep(0)
        assert (office.begun, office.ended) == (["a:8500"] * 2, ["a:8500"])


async def test_one_that_comes_back_within_the_minute_never_left():
    names = AList("a", "b")
    async with Office(names=names) as office:
        await office.turn()
        names.says = [server("a")]
        await office.turn(GONE_SECONDS / 2)
        names.says = [server("a"), server("b")]
        await office.turn(GONE_SECONDS)
        names.says = [server("a")]
        await office.turn(GONE_SECONDS)
        assert office.ended == []


@pytest.mark.parametrize("trouble", [Unavailable("names", "cannot be read"), NoData("names", "nobody"), []])
async def test_a_list_that_fails_or_is_empty_keeps_its_last_word_and_says_so(trouble):
    names = AList("a")
    async with Office(names=names) as office:
        await office.turn()
        names.says = trouble
        await office.turn(10 * GONE_SECONDS)
        assert list(office.desk.servers) == ["a"]
        assert "the 1 server(s) it named last are kept" in office.desk.lists["names"]
        assert office.value("haldane_server_list_failing", list="names") == 1
        assert office.value("haldane_listed_servers", list="names") == 1
        names.says = [server("a")]
        await office.turn()
        assert office.desk.lists["names"] == "1 server(s)"
        assert office.value("haldane_server_list_failing", list="names") == 0


async def test_a_list_that_was_never_read_keeps_the_agent_from_starting_anything_and_nobody_is_gone():
    names = AList()
    async with Office(names=names) as office:
        office.desk.put_rollout(a_rollout(Phase.SHADOWING), 1)
        await office.turn()
        await office.turn(10 * GONE_SECONDS)
        assert "it was never read" in office.roster.unread[0]
        assert office.desk.gone == frozenset()
        names.says = [server("r0")]
        await office.turn()
        assert office.roster.unread == []
        await office.turn(GONE_SECONDS)
        assert office.desk.gone == {"r1"}


async def test_servers_of_a_live_rollout_that_no_list_has_hold_it_for_a_minute_and_no_longer():
    async with Office(names=AList("r0")) as office:
        rollout = a_rollout(Phase.SHADOWING)
        office.desk.put_rollout(rollout, 1)
        await office.turn()
        assert (office.desk.looked(rollout, 0.0).gone, office.desk.looked(rollout, 0.0).joined) == (frozenset(), ())
        await office.turn(GONE_SECONDS)
        assert office.desk.looked(rollout, 0.0).gone == {"r1"}


async def test_a_newcomer_is_told_to_the_rollout():
    async with Office(names=AList("r0", "r1", "r2")) as office:
        await office.turn()
        assert office.desk.looked(a_rollout(Phase.SHADOWING), 0.0).joined == ("r2",)


@pytest.mark.parametrize(
    "twins",
    [
        [server("a", "h:1"), server("b", "h:1")],
        [server("a", "h:1"), server("a", "h:2")],
        [server("x", "fixed:8500")],
        [server("fixed", "h:1")],
        [server("x", "other:8500")],
    ],
)
async def test_a_list_that_names_a_server_twice_is_refused_whole(twins):
    names = AList("a")
    async with Office(other=AList("other"), names=names) as office:
        await office.turn()
        names.says = twins
        await office.turn(10 * GONE_SECONDS)
        assert sorted(office.desk.servers) == ["a", "other"]
        assert "list every server once" in office.desk.lists["names"]
        assert office.value("haldane_server_list_errors_total", list="names", reason="malformed") == 1


async def test_the_same_name_at_another_address_is_another_process():
    names = AList("a")
    async with Office(names=names) as office:
        await office.turn()
        names.says = [server("a", "elsewhere:8500")]
        await office.turn()
        assert (office.begun, office.ended) == (["a:8500", "elsewhere:8500"], ["a:8500"])
        assert office.desk.servers[ServerName("a")].address == "elsewhere:8500"


async def test_lists_are_read_again_and_again_until_cancelled():
    names = AList("a")
    office = Office()
    office.roster.lists = {"names": Listed(names, 0.01)}
    task = asyncio.create_task(office.roster.run())
    async with asyncio.timeout(10):
        await office.desk.wait_until(lambda: len(office.begun) == 1)
        names.says = [server("a"), server("b")]
        await office.desk.wait_until(lambda: len(office.begun) == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert sorted(office.ended) == ["a:8500", "b:8500"]


async def test_a_list_that_is_away_when_the_agent_starts_is_as_it_was_and_nothing_new_starts_on_it():
    names = AList()
    names.says = Unavailable("names", "no such host")
    async with Office({"names": [server("a"), server("b")]}, names=names) as office:
        await office.turn(GONE_SECONDS + 1)
        assert sorted(office.desk.servers) == ["a", "b"]
        assert office.roster.unread == ["names: no such host; the 2 server(s) it named last are kept"]
        names.says = [server("a"), server("c")]
        await office.turn()
        assert (sorted(office.desk.servers), office.roster.unread) == (["a", "b", "c"], [])
        assert office.remembered == {"names": (server("a"), server("c"))}
        await office.turn(GONE_SECONDS)
        assert sorted(office.desk.servers) == ["a", "c"]


async def test_what_the_config_names_itself_since_is_not_recalled_from_a_list():
    names = AList()
    names.says = Unavailable("names", "no such host")
    async with Office({"names": [server("a", "fixed:8500")], "gone": [server("z")]}, names=names) as office:
        await office.turn()
        assert office.begun == []


async def test_a_disk_that_takes_no_more_costs_only_the_memory():
    names = AList("a")
    async with Office(names=names) as office:

        def full(known: Names) -> None:
            raise OSError("No space left on device")

        office.roster.remember = full
        await office.turn()
        assert sorted(office.desk.servers) == ["a"]
