"""Gauges are read by a clock; what cannot be read is written down as missing, and why is told once."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from haldane.domain.entries import Entry
from haldane.domain.fleet import Placement, ServerName
from haldane.domain.rollout import Phase
from haldane.engine.readings import Gauging, Meters, fill_in, names_of
from haldane.engine.switchback import Switchback
from haldane.judge.gauges import Gauge, GaugeRule
from haldane.judge.switchback import Schedule
from haldane.ports import NoData, PortError, Unavailable
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout

ROLLOUT = replace(a_rollout(), servers=(ServerName("r0"), ServerName("r1")), dedicated=())
QUERY = GaugeRule(
    name="queue", kind=Gauge.QUERY, margin=0.1, query='q{v="$version"}', every_seconds=0.01, warmup_seconds=0
)


class Numbers:
    """A source and a meter: what it gives is up to the test."""

    def __init__(self, answer: Callable[[str], float]) -> None:
        self.answer, self.asked = answer, list[str]()

    async def ask(self, query: str) -> float:
        self.asked.append(query)
        return self.answer(query)

    async def cpu_seconds(self) -> float:
        return self.answer("cpu")

    async def resident_bytes(self) -> float:
        return self.answer("memory")


class Bench:
    """A Gauging and what it told."""

    def __init__(
        self, *rules: GaugeRule, numbers: Numbers, source: bool = True, measured: frozenset[int] = frozenset()
    ) -> None:
        self.notes: list[tuple[str, str]] = []
        self.facts: dict[tuple[str, int], float] = {}
        self.switchback: Switchback | None = None
        self.began = asyncio.get_running_loop().time()
        self.telemetry = Telemetry.on(CollectorRegistry())
        meters = Meters(
            source=numbers if source else None,
            processes={ServerName("r0"): numbers, ServerName("r1"): numbers},
            fact=self.fact,
            loading=lambda server: False,
            telemetry=self.telemetry,
        )
        self.gauging = Gauging(ROLLOUT, rules, meters, self.elapsed, self.note, measured, self.follow)

    async def fact(self, kind: Gauge, server: ServerName, version: int) -> float | None:
        return self.facts.get((server, version))

    def elapsed(self) -> float:
        return asyncio.get_running_loop().time() - self.began

    async def note(self, gauge: str, why: str) -> None:
        self.notes.append((gauge, why))

    def follow(self, switchback: Switchback | None) -> None:
        self.switchback = switchback

    @asynccontextmanager
    async def entries(self) -> AsyncIterator[Callable[[], "asyncio.Future[Entry]"]]:
        async with aclosing(self.gauging.entries()) as entries:
            yield lambda: asyncio.ensure_future(asyncio.wait_for(anext(entries), 10))


async def test_both_sides_are_asked_for_their_version() -> None:
    numbers = Numbers(lambda query: float(ROLLOUT.old if f'"{ROLLOUT.old}"' in query else 10))
    async with Bench(QUERY, numbers=numbers).entries() as next_entry:
        first, second = await next_entry(), await next_entry()
    assert (first["stable"][0], first["canary"][0], first["server"][0]) == (ROLLOUT.old, 10.0, -1)
    assert second["at"][0] > first["at"][0]


async def test_a_query_by_server_gives_a_row_for_each() -> None:
    rule = replace(QUERY, query='q{v="$version",pod="$server"}')
    numbers = Numbers(lambda query: 1.0 if "r0" in query else 2.0)
    async with Bench(rule, numbers=numbers).entries() as next_entry:
        entry = await next_entry()
    assert entry["server"].tolist() == [0, 1]
    assert entry["stable"].tolist() == [1.0, 2.0]


async def test_a_canary_with_a_name_of_its_own_is_read_by_that_name_until_servers_are_promoted() -> None:
    trial = replace(ROLLOUT, placement=Placement.SECOND_NAME, phase=Phase.SHADOWING)
    numbers = Numbers(lambda query: 2.0 if 'm="credit_canary"' in query else 1.0)
    rule = replace(QUERY, query='latency{m="$model"}')
    bench = Bench(rule, numbers=numbers)
    bench.gauging.meters.names = lambda: names_of(trial)
    async with bench.entries() as next_entry:
        first = await next_entry()
        assert (first["stable"][0], first["canary"][0]) == (1.0, 2.0)
        trial = replace(trial, phase=Phase.PROMOTING, promoted=trial.servers[:1])
        while not np.isnan((await next_entry())["canary"][0]):
            pass
    assert "do not tell the versions apart" in bench.notes[-1][1]


async def test_a_query_that_asks_for_no_name_goes_on_when_servers_are_promoted() -> None:
    bench = Bench(QUERY, numbers=Numbers(lambda query: 1.0))
    bench.gauging.meters.names = lambda: None
    async with bench.entries() as next_entry:
        assert (await next_entry())["canary"][0] == 1.0


@pytest.mark.parametrize("error", [Unavailable("prometheus", "ConnectError"), NoData("prometheus", "no series")])
async def test_what_cannot_be_read_is_missing_and_told_once(error: PortError) -> None:
    up = False

    def answer(query: str) -> float:
        if not up:
            raise error
        return 1.0

    bench = Bench(QUERY, numbers=Numbers(answer))
    async with bench.entries() as next_entry:
        for _ in range(3):
            assert math.isnan((await next_entry())["canary"][0])
        up = True
        while np.isnan((await next_entry())["canary"]).any():
            pass
    assert bench.notes == [("queue", str(error)), ("queue", "")]
    count = bench.telemetry.registry.get_sample_value(
        "haldane_reading_errors_total", {"model": ROLLOUT.model, "metric": "queue", "reason": error.reason}
    )
    assert count is not None and count >= 3


async def test_a_source_that_never_answers_is_no_reading_and_holds_nothing_up() -> None:
    class Hangs(Numbers):
        async def ask(self, query: str) -> float:
            await asyncio.Event().wait()
            return 0.0

    bench = Bench(QUERY, numbers=Hangs(lambda _: 0.0))
    async with bench.entries() as next_entry:
        assert np.isnan((await next_entry())["stable"]).all()
    assert "no answer within" in bench.notes[0][1]


async def test_without_a_prometheus_a_query_says_what_to_configure() -> None:
    bench = Bench(QUERY, numbers=Numbers(lambda _: 1.0), source=False)
    async with bench.entries() as next_entry:
        assert np.isnan((await next_entry())["stable"]).all()
    assert bench.notes == [("queue", "no prometheus is configured")]


async def test_growth_is_resident_bytes_by_server() -> None:
    rule = GaugeRule(name="leak", kind=Gauge.GROWTH, limit=1e6, every_seconds=0.01)
    async with Bench(QUERY, rule, numbers=Numbers(lambda _: 5e8)).entries() as next_entry:
        entry = await next_entry()
        while entry["metric"][0] != 1:
            entry = await next_entry()
    assert entry["canary"].tolist() == [5e8, 5e8]


async def test_while_held_readings_say_how_long_and_cpu_is_not_told_apart() -> None:
    cpu = GaugeRule(name="cpu", kind=Gauge.CPU, margin=0.1, block_seconds=0.02, every_seconds=0.01, warmup_seconds=0)
    bench = Bench(cpu, QUERY, numbers=Numbers(lambda query: 1.0))
    bench.gauging.rollout = replace(ROLLOUT, phase=Phase.HELD, held_from=Phase.BAKING)
    bench.gauging.held = lambda: 7.0
    async with bench.entries() as next_entry:
        for _ in range(5):
            entry = await next_entry()
            assert (entry["metric"].tolist(), entry["held"].tolist()) == ([1], [7.0])
    assert bench.switchback is None


async def test_an_error_of_ours_is_not_hidden() -> None:
    def broken(query: str) -> float:
        raise RuntimeError("a bug")

    async with Bench(QUERY, numbers=Numbers(broken)).entries() as next_entry:
        with pytest.raises(RuntimeError, match="a bug"):
            await next_entry()


def test_names_are_written_into_a_query_as_promql_quotes_them() -> None:
    query = 'q{p="$server",s="$side",r="x$$"}'
    assert fill_in(query, ROLLOUT.model, 2, "canary", ServerName('a"b\\c')) == ('q{p="a\\"b\\\\c",s="canary",r="x$"}')


MEMORY = GaugeRule(name="memory", kind=Gauge.MEMORY, limit=1e9, every_seconds=0.01, warmup_seconds=0.2)


async def test_a_fact_is_written_once_when_every_server_has_it() -> None:
    bench = Bench(MEMORY, numbers=Numbers(lambda _: 1.0))
    bench.facts = {("r0", ROLLOUT.new): 3e8}
    with pytest.raises(StopAsyncIteration):
        async with bench.entries() as next_entry:
            waiting = next_entry()
            await asyncio.sleep(0.05)
            bench.facts |= {("r1", ROLLOUT.new): 4e8, ("r1", ROLLOUT.old): 2e8}
            entry = await waiting
            assert entry["canary"].tolist() == [3e8, 4e8]
            assert np.isnan(entry["stable"][0]) and entry["stable"][1] == 2e8
            await next_entry()
    assert bench.notes == []


async def test_a_fact_nobody_knows_is_missing_once_the_warm_up_is_over() -> None:
    bench = Bench(MEMORY, numbers=Numbers(lambda _: 1.0))
    async with bench.entries() as next_entry:
        entry = await next_entry()
    assert np.isnan(entry["canary"]).all() and entry["at"][0] >= 0.2
    assert "watched" in bench.notes[0][1]


async def test_a_fact_that_the_log_has_is_not_measured_again() -> None:
    bench = Bench(MEMORY, numbers=Numbers(lambda _: 1.0), measured=frozenset({0}))
    with pytest.raises(StopAsyncIteration):
        async with bench.entries() as next_entry:
            await next_entry()


# --- the switchback -----------------------------------------------------------

CPU = GaugeRule(name="cpu", kind=Gauge.CPU, margin=0.1, every_seconds=0.2, block_seconds=0.4, warmup_seconds=0.1)


async def test_pairs_follow_the_switchback_and_their_cost_is_told_apart() -> None:
    used = 0.0
    bench = Bench(CPU, numbers=Numbers(lambda _: used))

    async def send() -> None:
        nonlocal used
        while True:
            await asyncio.sleep(0.01)
            if bench.switchback:
                used += 0.002 if bench.switchback.aa(ServerName("r0")) else 0.004

    sending = asyncio.create_task(send())
    async with bench.entries() as next_entry:
        entry = await next_entry()
        while np.isnan(entry["canary"][0]):  # a block cut short by a busy machine is no measurement
            entry = await next_entry()
    sending.cancel()
    assert entry["server"].tolist() == [0, 1]
    assert entry["stable"][0] == pytest.approx(0.002, rel=0.2)
    assert entry["canary"][0] == pytest.approx(0.004, rel=0.2)
    assert np.isnan(entry["canary"][1])  # nothing was sent there
    assert bench.switchback is None  # when reading ends, chance says again which pairs are A/A


async def test_a_clock_that_cannot_be_read_gives_the_switchback_up_and_says_why() -> None:
    def down(_: str) -> float:
        raise Unavailable("r0", "process page: ConnectError")

    rule = replace(CPU, block_seconds=0.05, every_seconds=0.05, warmup_seconds=0.01)
    bench = Bench(rule, numbers=Numbers(down))
    with pytest.raises(StopAsyncIteration):
        async with bench.entries() as next_entry:
            while True:
                assert np.isnan((await next_entry())["canary"]).all()
    assert bench.notes[0] == ("cpu", "r0: process page: ConnectError")
    assert bench.switchback is None


async def test_a_switchback_that_gave_readings_before_is_not_given_up_for_a_bad_start() -> None:
    def down(_: str) -> float:
        raise Unavailable("r0", "process page: ConnectError")

    rule = replace(CPU, block_seconds=0.02, every_seconds=0.02, warmup_seconds=0.0)
    bench = Bench(rule, numbers=Numbers(down), measured=frozenset({0}))
    async with bench.entries() as next_entry:
        while bench.elapsed() < 2 * rule.last_entry:
            await next_entry()
        assert bench.switchback is not None


async def test_without_any_clock_no_pair_is_spent_on_a_switchback() -> None:
    bench = Bench(CPU, numbers=Numbers(lambda _: 1.0))
    bench.gauging.meters.processes = {}
    with pytest.raises(StopAsyncIteration):
        async with bench.entries() as next_entry:
            await next_entry()
    assert (bench.switchback, "process_url" in bench.notes[0][1]) == (None, True)


async def test_a_block_in_which_a_model_loads_is_spoilt() -> None:
    at, loading = 0.0, False
    schedule = Schedule(block_seconds=0.1, warmup_seconds=0.0)
    name = ServerName("r0")
    loop = asyncio.get_running_loop()
    began = loop.time()
    numbers = Numbers(lambda _: at)
    switchback = Switchback(
        schedule, (name,), {name: numbers}, elapsed=lambda: loop.time() - began, loading=lambda _: loading
    )
    couples = switchback.couples()
    waiting = asyncio.ensure_future(anext(couples))
    while not waiting.done():
        await asyncio.sleep(0.01)
        at += 0.001
        loading = True
        switchback.aa(name)
    assert await waiting == {0: None}
    await couples.aclose()
