import asyncio
import random
import threading
from contextlib import aclosing
from itertools import count

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from haldane.domain.fleet import Clients, Placement
from haldane.domain.rollout import Mode, Phase
from haldane.domain.traffic import GOLDEN_ROW, Api, Elsewhere, Outcome, Request, Status
from haldane.engine.addressing import Addressing, addressing, set_aside_because
from haldane.engine.pairing import ShadowLimits, pairs
from haldane.judge.outputs import Scored, Scores
from haldane.judge.rules import Slice
from haldane.ports import Malformed, Unavailable
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout

LABELS = {"stable": 1, "canary": 2}


class FakeServer:
    """A ModelServer that answers at once, or as `answer(version, request)` says; faults cannot be ordered otherwise."""

    def __init__(self, answer=None, labels=LABELS):
        self.labels, self.calls, self.most_at_once, self._answer, self._now = dict(labels), [], 0, answer, 0

    async def predict_both(self, model, request, *, first, second, deadline):
        async with asyncio.TaskGroup() as group:
            sides = [group.create_task(self._predict(request, version, deadline)) for version in (first, second)]
        return tuple(side.result() for side in sides)

    async def _predict(self, request, version, deadline):
        assert deadline > asyncio.get_running_loop().time()
        self.calls.append(version)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await asyncio.sleep(0)
            number = self.labels.get(version, version)
            outcome = self._answer(number, request) if self._answer else None
            if asyncio.iscoroutine(outcome):
                outcome = await outcome
            return outcome or ok(number)
        finally:
            self._now -= 1


class Requests:
    """A TrafficSource of given Requests, then the end or an error."""

    def __init__(self, requests, error=None):
        self._requests, self._error = requests, error

    async def requests(self):
        for request in self._requests:
            yield request
        if self._error:
            raise self._error


def ok(version, seconds=0.001):
    return Outcome(Status.OK, seconds, version, b"answer of %d" % version)


def failed(status, seconds=0.5):
    return Outcome(status, seconds)


def stream(n):
    return Requests([Request(f"q{i}", Api.PREDICT, b"") for i in range(n)])


def endless():
    return Requests(Request(f"q{i}", Api.PREDICT, b"") for i in count())


def rows(*numbers):
    return Requests([Request(f"row{i}", Api.PREDICT, b"", row=i) for i in numbers])


def unscored(requests, stable, canary):
    """Scores nothing: what answers mean is not the pairing's affair."""
    none = np.zeros(len(requests), bool)
    return Scored(Scores.unknown(len(requests)), none, none)


class Run:
    """One run of `pairs`, with defaults for what a test does not say."""

    def __init__(self, servers=None, **given):
        self.telemetry = Telemetry.on(CollectorRegistry())
        self.servers = servers or {"r0": FakeServer()}
        limits = {
            "pairs_per_second": 1e6,
            "aa_share": 0.0,
            "batch_seconds": 0.05,
            "look_seconds": 0.0,
            **given.pop("limits", {}),
        }
        self.arguments = {
            "rollout": a_rollout(Phase.SHADOWING),
            "source": stream(50),
            "score": unscored,
            "address": lambda: Addressing("stable", "canary"),
            "masked": lambda server: False,
            "next_seq": 0,
            "judged_rows": set(),
            "elapsed": lambda: 12.5,
            **given,
            "limits": ShadowLimits(**limits),
        }

    def start(self):
        return aclosing(pairs(servers=self.servers, telemetry=self.telemetry, **self.arguments))

    async def batches(self):
        async with asyncio.timeout(20), self.start() as batches:
            return [batch async for batch in batches]

    async def rows(self):
        return np.concatenate(await self.batches())

    def counted(self, name, **labels):
        return self.telemetry.registry.get_sample_value(f"haldane_{name}", {"model": "credit", **labels}) or 0


async def test_every_request_becomes_one_pair_in_order_of_sending():
    run = Run(source=stream(250), limits={"batch_pairs": 100, "batch_seconds": 60.0}, next_seq=7)
    batches = await run.batches()
    found = np.concatenate(batches)
    assert all(len(batch) >= 100 for batch in batches[:-1])
    assert found["seq"].tolist() == list(range(7, 257))
    assert set(found["at"]) == {12.5}
    assert not found["aa"].any()
    assert run.counted("pairs_total", server="r0", kind="ab") == 250
    assert sorted(set(run.servers["r0"].calls)) == ["canary", "stable"]


async def test_a_pair_knows_the_slices_its_request_belongs_to():
    german, french = Slice(field="country", value="DE"), Slice(field="country", value="FR")
    requests = [Request(f"q{i}", Api.PREDICT, b"", fields={"country": c}) for i, c in enumerate(["DE", "FR", "AT"])]
    found = await Run(source=Requests(requests), slices=(german, french)).rows()
    assert found["slices"].tolist() == [0b01, 0b10, 0]


async def test_pairs_that_come_back_late_keep_their_place():
    chance = random.Random(3)

    async def whenever(version, request):
        await asyncio.sleep(chance.random() / 200)
        return ok(version)

    run = Run({"r0": FakeServer(whenever)}, source=stream(200), limits={"concurrency": 16, "batch_pairs": 10})
    assert (await run.rows())["seq"].tolist() == list(range(200))


async def test_either_side_is_sent_first_by_chance_and_a_share_is_stable_on_both_sides():
    server = FakeServer()
    found = await Run({"r0": server}, source=stream(1000), limits={"aa_share": 0.3, "concurrency": 1}).rows()
    assert 400 < found["canary_first"].sum() < 600
    assert 230 < found["aa"].sum() < 370
    first_calls = np.array(server.calls[::2])
    assert (first_calls[~found["aa"]] == np.where(found["canary_first"], "canary", "stable")[~found["aa"]]).all()
    assert set(np.array(server.calls)[np.repeat(found["aa"], 2)]) == {"stable"}


async def test_the_same_seed_draws_the_same_order_and_another_seed_another():
    def run(seed):
        return Run(rollout=a_rollout(Phase.SHADOWING, seed=seed)).rows()

    same, again, other = await run(1), await run(1), await run(2)
    assert same["canary_first"].tolist() == again["canary_first"].tolist() != other["canary_first"].tolist()


async def test_a_switchback_says_which_pairs_must_be_aa_and_is_asked_once_for_each():
    asked = []

    def switched(server):
        asked.append(server)
        return len(asked) % 2 == 0

    found = await Run(source=stream(100), switched=switched).rows()
    assert len(asked) == len(found) == 100
    assert found["aa"].sum() == 50


async def test_a_row_is_fresh_once_and_replays_are_not():
    judged = {2}
    found = await Run(source=rows(0, 1, 2, 0, 1, 3), judged_rows=judged).rows()
    assert dict(zip(found["row"].tolist()[:3], found["fresh"].tolist()[:3], strict=True)) == {
        0: True,
        1: True,
        2: False,
    }
    assert found["fresh"].tolist()[3:] == [False, False, True]
    assert judged == {0, 1, 2, 3}


async def test_a_pair_of_stable_with_itself_does_not_use_a_row_up():
    judged = set()
    found = await Run(source=rows(0, 0), judged_rows=judged, limits={"aa_share": 1.0}).rows()
    assert found["fresh"].tolist() == [True, False]
    assert judged == set()


async def test_requests_of_a_stream_are_always_fresh_and_a_repeated_id_is_set_aside():
    source = Requests([Request(name, Api.PREDICT, b"") for name in ("a", "b", "a")])
    run = Run(source=source)
    assert (await run.rows())["fresh"].tolist() == [True, True]
    assert run.counted("pairs_set_aside_total", reason="duplicate") == 1


async def test_two_rows_of_a_set_under_one_id_count_once():
    run = Run(source=Requests([Request("same", Api.PREDICT, b"", row=row) for row in (0, 1)]))
    assert len(await run.rows()) == 1


@pytest.mark.parametrize(
    ("stable", "canary", "moved", "reason"),
    [
        (ok(1), ok(2), False, None),
        (ok(1), ok(2), True, None),  # the answers prove it
        (ok(2), ok(2), False, "straddled"),
        (ok(1), ok(1), False, "straddled"),
        (ok(1), ok(3), False, "wrong_version"),
        (ok(1), Outcome(Status.OK, 0.1, None, b""), False, "wrong_version"),
        (ok(1), failed(Status.TIMEOUT), False, None),
        (failed(Status.INTERNAL), ok(2), False, None),
        (ok(1), failed(Status.TIMEOUT), True, "straddled"),
        (failed(Status.INVALID), failed(Status.INVALID), False, "invalid"),
        (failed(Status.TIMEOUT), failed(Status.INTERNAL), False, None),
        (failed(Status.UNAVAILABLE), failed(Status.UNAVAILABLE), True, "straddled"),
        (ok(1), failed(Status.NOT_FOUND), False, "not_found"),
        (ok(1), failed(Status.EXHAUSTED), False, "exhausted"),
        (failed(Status.EXHAUSTED), failed(Status.EXHAUSTED), False, "exhausted"),
        (ok(1), ok(2, seconds=-1.0), False, "bad_timing"),
        (ok(1), ok(2, seconds=float("nan")), False, "bad_timing"),
    ],
)
def test_a_pair_counts_only_when_its_versions_are_the_ones_meant(stable, canary, moved, reason):
    assert set_aside_because(stable, canary, (1, 2), (1, 2), moved=moved) == reason


async def test_a_canary_that_fails_is_an_outcome_and_a_time_out_lasts_as_long_as_the_deadline():
    def answer(version, request):
        return failed(Status.TIMEOUT, 0.7) if version == 2 else None

    found = await Run({"r0": FakeServer(answer)}, limits={"deadline_seconds": 2.0}).rows()
    assert set(found["canary_status"]) == {Status.TIMEOUT}
    assert set(found["canary_seconds"]) == {2.0}
    assert set(found["stable_status"]) == {Status.OK}


async def test_an_answer_that_cannot_be_read_is_malformed():
    def score(requests, stable, canary):
        n = len(requests)
        return Scored(Scores.unknown(n), np.zeros(n, bool), np.ones(n, bool))

    run = Run(score=score)
    found = await run.rows()
    assert set(found["canary_status"]) == {Status.MALFORMED}
    assert set(found["stable_status"]) == {Status.OK}
    ends = ("stable", "ok"), ("canary", "malformed")
    shown = [run.counted("pair_outcomes_total", side=side, status=status) for side, status in ends]
    assert shown == [len(found), len(found)]


async def test_a_request_that_both_sides_refuse_is_set_aside():
    def answer(version, request):
        return failed(Status.INVALID) if request.id == "q3" else None

    run = Run({"r0": FakeServer(answer)})
    assert len(await run.rows()) == 49
    assert run.counted("pairs_set_aside_total", reason="invalid") == 1


async def test_a_server_that_fails_on_both_sides_is_on_record_and_uses_no_row_up():
    """What the judge needs to tell a sick server from a sick version; the rows are sent again later."""
    judged: set[int] = set()
    run = Run(
        {"r0": FakeServer(lambda version, request: failed(Status.INTERNAL))}, source=rows(0, 1), judged_rows=judged
    )
    found = await run.rows()
    assert set(found["stable_status"]) == set(found["canary_status"]) == {Status.INTERNAL}
    assert judged == set()


async def test_a_flip_in_the_middle_sets_aside_only_pairs_that_straddle_it():
    """Addressed by label until the label moves, by number from then on: what was out may have gone either way."""
    server = FakeServer()
    state = {"address": Addressing("stable", "canary")}

    def answer(version, request):
        if request.id == "q100":
            server.labels["stable"] = 2  # the flip; the agent learns of it a little later
        if request.id == "q110":
            state["address"] = Addressing(1, 2)

    server._answer = answer
    run = Run({"r0": server}, source=stream(300), address=lambda: state["address"], limits={"concurrency": 2})
    found = await run.rows()
    aside = run.counted("pairs_set_aside_total", reason="straddled")
    assert 5 <= aside <= 20
    assert len(found) + aside == 300
    assert set(found["seq"].tolist()) >= {*range(95), *range(115, 300)}


async def test_pairs_spread_evenly_over_servers_and_never_exceed_the_concurrency():
    servers = {"r0": FakeServer(), "r1": FakeServer()}
    limits = {"concurrency": 3, "pairs_per_second": 2000.0}
    found = await Run(servers, source=stream(400), limits=limits).rows()
    assert np.bincount(found["server"]).tolist() == pytest.approx([200, 200], abs=60)
    assert all(server.most_at_once <= 6 for server in servers.values())  # two calls a pair


async def test_a_server_with_threads_of_its_own_number_has_a_concurrency_of_its_own():
    servers = {"r0": FakeServer(), "r1": FakeServer()}
    limits = {"concurrency": 3, "concurrency_on": {"r1": 1}, "pairs_per_second": 2000.0}
    await Run(servers, source=stream(400), limits=limits).rows()
    assert (servers["r0"].most_at_once, servers["r1"].most_at_once) == (6, 2)


@pytest.mark.parametrize(("size", "at_once"), [(100, 5), (400, 1), (5000, 1)])
async def test_bytes_in_flight_are_limited_and_a_larger_request_goes_alone(size, at_once):
    server = FakeServer()
    requests = [Request(f"q{i}", Api.PREDICT, bytes(size)) for i in range(60)]
    limits = {"concurrency": 16, "bytes_in_flight": 1000}
    assert len(await Run({"r0": server}, source=Requests(requests), limits=limits).rows()) == 60
    assert server.most_at_once == 2 * at_once


async def test_the_rate_is_kept():
    """40 pairs at 200 a second take a fifth of a second less what may be saved up; never less."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    await Run(source=stream(40), limits={"pairs_per_second": 200.0}).rows()
    assert loop.time() - start >= 0.13


async def test_the_first_exhausted_thread_pool_stops_shadowing_on_that_server_only():
    tired = FakeServer(lambda version, request: failed(Status.EXHAUSTED))
    run = Run({"r0": tired, "r1": FakeServer()}, source=stream(100), limits={"concurrency": 2})
    found = await run.rows()
    assert set(found["server"]) == {1}
    assert len(tired.calls) <= 4  # the pairs already out
    assert run.counted("shadow_shed_total", reason="exhausted") == 1
    assert run.counted("pairs_set_aside_total", reason="exhausted") + len(found) == 100


async def test_a_server_stopped_in_an_earlier_run_is_left_alone():
    stopped, tired = set(), FakeServer(lambda version, request: failed(Status.EXHAUSTED))
    await Run({"r0": tired, "r1": FakeServer()}, source=stream(100), stopped=stopped).rows()
    assert stopped == {"r0"}
    rested = FakeServer()
    found = await Run({"r0": rested, "r1": FakeServer()}, source=stream(100), stopped=stopped).rows()
    assert len(found) == 100
    assert rested.calls == []


async def test_it_ends_when_every_server_was_stopped_though_the_source_goes_on():
    assert (
        await Run({"r0": FakeServer(lambda version, request: failed(Status.EXHAUSTED))}, source=endless()).batches()
        == []
    )


async def test_a_stable_that_slows_down_is_left_alone_and_counted():
    slow = {"now": False}

    def answer(version, request):
        slow["now"] = int(request.id[1:]) > 300
        return ok(version, seconds=0.5 if slow["now"] else 0.001)

    server = FakeServer(answer)
    run = Run({"r0": server}, source=endless(), limits={"pairs_per_second": 2000.0})

    async def until_shed():
        async with run.start() as batches:
            async for _ in batches:
                pass

    reading = asyncio.create_task(until_shed())
    async with asyncio.timeout(10):
        while not run.counted("shadow_shed_total", reason="slow"):  # noqa: ASYNC110 - a counter tells nobody
            await asyncio.sleep(0.01)
    before = len(server.calls)
    await asyncio.sleep(0.3)
    reading.cancel()
    assert len(server.calls) - before <= 2 * 2 * 4  # only what was out


async def test_a_server_with_a_crowded_batching_queue_is_left_alone_and_counted_and_the_other_is_not():
    servers = {"r0": FakeServer(), "r1": FakeServer()}
    run = Run(servers, rollout=a_rollout(Phase.SHADOWING, servers=("r0", "r1")), crowded=lambda server: server == "r0")
    assert len(await run.rows()) == 50
    assert not servers["r0"].calls
    assert servers["r1"].calls
    assert run.counted("shadow_shed_total", reason="batching") > 0


async def test_a_loading_model_masks_the_pairs_it_may_slow():
    found = await Run(masked=lambda server: server == "r0").rows()
    assert found["masked"].all()


async def test_what_the_source_raises_is_raised_after_the_pairs_before_it():
    run, seen = Run(source=Requests([Request("a", Api.PREDICT, b"")], error=Unavailable("set.csv", "gone"))), []
    with pytest.raises(Unavailable, match=r"set\.csv: gone"):
        async with run.start() as batches:
            async for batch in batches:
                seen.append(batch)
    assert len(np.concatenate(seen)) == 1


async def test_a_bug_in_reading_the_source_is_its_failure_and_no_reason_to_end_the_agent():
    run = Run(source=Requests([Request("a", Api.PREDICT, b"")], error=TypeError("unhashable")))
    with pytest.raises(Malformed, match="TypeError: unhashable"):
        await run.batches()


async def test_a_bug_in_scoring_is_its_failure_too_and_nothing_is_handed_on():
    def score(requests, stable, canary):
        raise OverflowError("int too large")

    with pytest.raises(Malformed, match="OverflowError: int too large"):
        await Run(score=score).batches()


async def test_a_server_that_breaks_its_contract_ends_it_with_that_error():
    def answer(version, request):
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        await Run({"r0": FakeServer(answer)}).batches()


async def test_closing_it_leaves_no_call_in_flight():
    async def hang(version, request):
        await asyncio.sleep(60)

    before = asyncio.all_tasks()
    server = FakeServer(lambda version, request: hang(version, request) if request.id == "q20" else None)
    async with Run({"r0": server}, source=stream(50), limits={"batch_pairs": 5}).start() as batches:
        async for _ in batches:
            break
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert server._now == 0


async def test_a_request_is_finished_when_its_pair_is_back_or_set_aside_and_not_while_it_is_out():
    async def hang_on_third(version, request):
        if request.id == "q2":
            await asyncio.Event().wait()
        return failed(Status.NOT_FOUND) if request.id == "q1" else ok(version)

    requests = [Request(name, Api.PREDICT, b"") for name in ("q0", "q0", "q1", "q2")]
    done = []
    run = Run({"r0": FakeServer(hang_on_third)}, source=Requests(requests), finished=done.append)
    async with asyncio.timeout(20), run.start() as batches:
        await anext(aiter(batches))
        while len(done) < 3:  # noqa: ASYNC110 - a list sets no event
            await asyncio.sleep(0.01)
    assert sorted(id(one) for one in done) == sorted(id(one) for one in requests[:3])
    assert run.counted("pairs_set_aside_total", reason="duplicate") == 1


async def test_a_hanging_pair_does_not_hold_back_those_before_it():
    async def hang(version, request):
        await asyncio.sleep(60)

    server = FakeServer(lambda version, request: hang(version, request) if request.id == "q20" else None)
    async with Run({"r0": server}, source=stream(50)).start() as batches:
        async for batch in batches:
            assert batch["seq"].tolist() == list(range(20))
            break


async def test_senders_wait_while_nobody_takes_the_batches():
    server = FakeServer()
    async with Run({"r0": server}, source=endless()).start() as batches:
        await anext(batches)
        seen = -1
        while seen != len(server.calls):
            seen = len(server.calls)
            await asyncio.sleep(0.2)
        assert seen <= 2 * (4096 + 512)
        assert len(await anext(batches)) > 1000


async def test_large_answers_are_scored_apart_from_the_loop_and_give_the_same_rows():
    threads = set()

    def score(requests, stable, canary):
        threads.add(threading.current_thread() is threading.main_thread())
        return unscored(requests, stable, canary)

    large = b"x" * 100_000
    server = FakeServer(lambda version, request: Outcome(Status.OK, 0.001, version, large))
    found = await Run({"r0": server}, source=stream(100), score=score).rows()
    assert found["seq"].tolist() == list(range(100))
    assert False in threads


APART = {"placement": Placement.SECOND_NAME}


@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        (a_rollout(Phase.SHADOWING), Addressing("stable", "canary")),
        (a_rollout(Phase.SHADOWING, mode=Mode.OBSERVE), Addressing(1, 2)),
        (a_rollout(Phase.SHADOWING, clients=Clients.UNVERSIONED), Addressing(1, 2)),
        (a_rollout(Phase.PROMOTING), Addressing(1, 2)),
        (a_rollout(Phase.PROMOTING, promoted=("r0",)), Addressing(1, 2)),
        (a_rollout(Phase.BAKING, promoted=("r0", "r1")), Addressing(1, 2)),
        (a_rollout(Phase.SHADOWING, **APART), Addressing("stable", Elsewhere("credit_canary", 2))),
        (a_rollout(Phase.PROMOTING, promoted=("r0",), **APART), Addressing(1, Elsewhere("credit_canary", 2))),
        (a_rollout(Phase.BAKING, promoted=("r0", "r1"), **APART), Addressing(1, 2)),
        (a_rollout(Phase.SHADOWING, mode=Mode.OBSERVE, **APART), Addressing(1, 2)),
    ],
)
def test_labels_are_used_only_until_the_first_may_have_moved(rollout, expected):
    assert addressing(rollout) == expected


async def test_answers_are_kept_of_pairs_whose_truth_is_not_known_and_before_their_batch():
    kept = {}

    def keep(seq, request, stable, canary):
        kept[seq] = request.id, stable, canary

    def answer(version, request):
        return failed(Status.TIMEOUT) if (version, request.id) == (2, "q1") else None

    requests = [Request(f"q{i}", Api.PREDICT, b"", truth=1.0 if i == 2 else None) for i in range(4)]
    run = Run({"r0": FakeServer(answer)}, source=Requests(requests), keep=keep)
    async with run.start() as batches:
        batch = await anext(batches)
        assert len(batch) == 4
        assert kept == {
            0: ("q0", b"answer of 1", b"answer of 2"),
            1: ("q1", b"answer of 1", None),
            3: ("q3", b"answer of 1", b"answer of 2"),
        }


async def test_no_answer_is_kept_of_stable_with_itself():
    kept = []
    run = Run(source=stream(50), limits={"aa_share": 1.0}, keep=lambda *given: kept.append(given))
    assert (await run.rows())["aa"].all()
    assert kept == []


async def test_a_row_of_the_golden_set_always_goes_to_the_canary():
    requests = [Request(f"g{i}", Api.PREDICT, b"", row=GOLDEN_ROW + i, truth=1.0) for i in range(50)]
    found = await Run(source=Requests(requests), limits={"aa_share": 1.0}).rows()
    assert not found["aa"].any()
    assert found["fresh"].all()


async def test_every_pair_sent_is_judged_set_aside_or_dropped():
    """Closed in the middle: some are back and judged, some refused, some out, some wait for those that are out."""

    async def answer(version, request):
        number = int(request.id[1:])
        if number % 10 == 0:
            return failed(Status.INVALID)
        if number == 305:
            await asyncio.Event().wait()
        return ok(version)

    run = Run({"r0": FakeServer(answer)}, source=endless(), limits={"concurrency": 8})
    taken = 0
    async with asyncio.timeout(20), run.start() as batches:
        async for batch in batches:
            taken += len(batch)
            if taken >= 250:
                break
        while run.servers["r0"].calls.count("canary") < 400:  # noqa: ASYNC110 - a list sets no event
            await asyncio.sleep(0.01)
    aside = run.counted("pairs_set_aside_total", reason="invalid")
    waiting, in_flight = (run.counted("pairs_dropped_total", reason=reason) for reason in ("waiting", "in_flight"))
    assert run.counted("pairs_total", server="r0", kind="ab") == taken
    assert aside >= 30
    assert in_flight >= 1
    assert waiting >= 50
    assert run.counted("pairs_sent_total") == taken + aside + waiting + in_flight
