import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from haldane import wire
from haldane.domain.entries import LABEL_DTYPE, READING_DTYPE
from haldane.domain.evidence import Verdict
from haldane.domain.fleet import Clients
from haldane.domain.labels import Label
from haldane.domain.rollout import Mode, Phase
from haldane.domain.traffic import Api, Status, key_of
from haldane.engine.desk import Desk
from haldane.engine.judging import Judging, Progress, folded
from haldane.engine.labels import Labels, LabelTerms
from haldane.judge.gauges import Gauge, GaugeRule
from haldane.judge.outputs import OutputKind, OutputRule
from haldane.ports import Malformed, Unavailable
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry
from haldane.testing.builders import MODEL, a_config, a_rollout
from haldane.testing.pairs import metric, pairs, rules

REGRESSION = OutputRule(kind=OutputKind.REGRESSION, wrong_beyond=0.5)
LATE = rules(metric("errors", "1pp"), metric("accuracy", "1pp"), late_labels=True)


class Outage:
    """A real store that fails so often first."""

    def __init__(self, store):
        self.store, self.failures, self.error = store, 0, Unavailable("store", "away")

    def __getattr__(self, name):
        def deed(*args, **more):
            if self.failures:
                self.failures -= 1
                raise self.error
            return getattr(self.store, name)(*args, **more)

        return deed


class Hearing:
    """Judging of one rollout; the test hands in batches and sees what is told."""

    def __init__(self, store, phase=Phase.SHADOWING, terms=None, rules_=None):
        self.store, self.told, self.shown, self.shadows, self.closed = Outage(store), [], [], [], 0
        self.batches = asyncio.Queue()
        self.desk = Desk(mode=Mode.ENFORCE, servers={}, base=a_config(), watched={})
        self.desk.put_stable(MODEL, 1, 1, Clients.LABEL, provable=True)
        rollout = a_rollout(phase, analysis=(rules_ or rules()).to_json())
        self.revision = store.commit(rollout, None, [])
        self.desk.put_rollout(rollout, self.revision)
        self.judging = Judging(
            id=rollout.id,
            desk=self.desk,
            store=self.store,
            clock=self,
            shadow=self.shadow,
            on_ruling=lambda rollout, ruling: self.shown.append(ruling),
            tell=self.tell,
            labels=Labels(
                store, self, Telemetry.on(CollectorRegistry()), lambda model: terms, lambda model: Scorer(REGRESSION)
            ),
        )

    def now(self):
        return 7.0

    async def tell(self, judged):
        self.told.append(judged)

    async def shadow(self, rollout, progress):
        self.shadows.append((rollout, progress.next_seq))
        self.answers = progress.answers
        try:
            while (batch := await self.batches.get()) is not None:
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        finally:
            self.closed += 1

    def move(self, phase, **more):
        rollout = self.desk.rollout(self.judging.id)
        self.desk.put_rollout(replace(rollout, phase=phase, **more), self.revision)

    def logged(self):
        return sum(len(batch) for batch in self.store.store.evidence(self.judging.id))

    @asynccontextmanager
    async def sitting(self):
        task = asyncio.create_task(self.judging.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, holds):
        async with asyncio.timeout(20):
            while not holds():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.005)


@pytest.fixture
def hearing(store):
    return Hearing(store)


async def test_a_batch_is_on_record_before_it_is_ruled_on(hearing):
    async with hearing.sitting():
        hearing.batches.put_nowait(pairs(30))
        await hearing.until(lambda: hearing.told)
        assert hearing.logged() == 30
        assert hearing.desk.rulings[hearing.judging.id].pairs == hearing.shown[-1].pairs == 30
    assert (hearing.told[-1].verdict, hearing.told[-1].at) == (Verdict.CONTINUE, 7.0)


async def test_why_no_pairs_are_sent_is_shown_until_they_are_again(hearing, monkeypatch):
    monkeypatch.setattr("haldane.engine.judging.SHADOW_RETRY_SECONDS", 0.01)
    stalled = hearing.desk.stalled
    async with hearing.sitting():
        hearing.batches.put_nowait(Unavailable("dask", "the scheduler is gone"))
        await hearing.until(lambda: stalled)
        assert stalled == {MODEL: "dask: the scheduler is gone"}
        hearing.batches.put_nowait(pairs(30))
        await hearing.until(lambda: not stalled)
        hearing.batches.put_nowait(Unavailable("dask", "the scheduler is gone"))
        await hearing.until(lambda: stalled)
        hearing.move(Phase.HELD)
        await hearing.until(lambda: not stalled)  # a held rollout sends none, and nothing is wrong with that


async def test_harm_in_the_pairs_is_told_as_a_fail(hearing):
    async with hearing.sitting():
        for n in range(10):
            hearing.batches.put_nowait(pairs(100, first=100 * n, canary_status=6))
        await hearing.until(lambda: hearing.told and hearing.told[-1].verdict is Verdict.FAIL)


async def test_nothing_is_sent_while_no_judging_is_asked_for_and_the_shadow_is_closed_when_it_ends(hearing):
    hearing.move(Phase.HELD)
    async with hearing.sitting() as task:
        await asyncio.sleep(0.02)
        assert not hearing.shadows
        hearing.move(Phase.SHADOWING)
        await hearing.until(lambda: hearing.shadows)
        hearing.move(Phase.HELD)
        await hearing.until(lambda: hearing.closed == 1)
        hearing.move(Phase.ROLLED_BACK)
        await asyncio.wait_for(task, 10)


async def test_held_while_users_have_it_pairs_come_on_and_only_harm_is_told(hearing):
    hearing.move(Phase.PROMOTING)
    async with hearing.sitting():
        await hearing.until(lambda: hearing.shadows)
        hearing.move(Phase.HELD, held_from=Phase.PROMOTING)
        await hearing.until(lambda: len(hearing.shadows) == 2)
        assert hearing.shadows[1][0].exposed
        told = len(hearing.told)
        hearing.batches.put_nowait(pairs(100))
        await hearing.until(lambda: hearing.shown and hearing.shown[-1].pairs == 100)
        assert len(hearing.told) == told
        seconds = hearing.shown[-1].seconds
        for n in range(1, 10):
            hearing.batches.put_nowait(pairs(100, first=100 * n, canary_status=6))
        await hearing.until(lambda: len(hearing.told) > told)
        assert hearing.told[-1].verdict is Verdict.FAIL
        assert hearing.shown[-1].seconds - seconds < 30.0  # those of the pairs on record; the hold's own do not count


async def test_a_hold_leaves_room_in_the_log_for_when_it_goes_on(hearing, monkeypatch):
    monkeypatch.setattr("haldane.engine.judging.MOST_PAIRS", 200)
    monkeypatch.setattr("haldane.engine.judging.SHADOW_RETRY_SECONDS", 0.001)
    hearing.move(Phase.HELD, held_from=Phase.BAKING)
    async with hearing.sitting():
        for n in range(3):
            hearing.batches.put_nowait(pairs(50, first=50 * n))
        await hearing.until(lambda: hearing.logged() == 100 and hearing.closed > 0)
        assert hearing.batches.qsize() == 1
        hearing.move(Phase.BAKING)
        await hearing.until(lambda: hearing.logged() == 150)


async def test_taken_up_again_it_goes_on_behind_what_is_on_record(hearing):
    hearing.store.store.append_evidence(hearing.judging.id, pairs(30))
    async with hearing.sitting():
        hearing.batches.put_nowait(pairs(10, first=30))
        await hearing.until(lambda: hearing.shown and hearing.shown[-1].pairs == 40)
    assert hearing.shadows[0][1] == 30


async def test_a_shadow_that_promotes_goes_on_without_a_break(hearing):
    async with hearing.sitting():
        hearing.batches.put_nowait(pairs(10))
        await hearing.until(lambda: hearing.told)
        hearing.move(Phase.PROMOTING)
        hearing.batches.put_nowait(pairs(10, first=10))
        await hearing.until(lambda: hearing.shown[-1].pairs == 20)
    assert len(hearing.shadows) == 1


async def test_a_store_that_is_away_is_waited_for_and_no_pair_is_lost_or_judged_off_record(hearing):
    hearing.store.failures = 1  # reading the log
    async with hearing.sitting():
        await hearing.until(lambda: hearing.shadows)
        hearing.store.failures = 1  # storing a batch
        hearing.batches.put_nowait(pairs(30))
        await asyncio.sleep(0.02)
        assert not hearing.shown or hearing.shown[-1].pairs == 0
        await hearing.until(lambda: hearing.shown and hearing.shown[-1].pairs == 30)
        assert hearing.logged() == 30


async def test_a_batch_that_is_being_stored_when_judging_stops_is_known_when_it_goes_on(hearing):
    writing, go_on = threading.Event(), threading.Event()
    append = hearing.store.store.append_evidence

    def slowly(rollout, batch, **more):
        writing.set()
        go_on.wait(20)
        return append(rollout, batch, **more)

    hearing.store.append_evidence = slowly
    async with hearing.sitting():
        hearing.batches.put_nowait(pairs(30))
        await hearing.until(writing.is_set)
        hearing.move(Phase.HELD)
        await asyncio.sleep(0.02)
        hearing.move(Phase.SHADOWING)
        await asyncio.sleep(0.02)
        go_on.set()
        await hearing.until(lambda: len(hearing.shadows) == 2)
    assert hearing.shadows[1][1] == 30


async def test_a_source_that_cannot_be_read_ends_nothing_and_the_budget_runs_on(hearing):
    async with hearing.sitting() as task:
        hearing.batches.put_nowait(Malformed("rows", "cut off"))
        await hearing.until(lambda: hearing.closed == 1)
        await hearing.until(lambda: hearing.told)
        assert not task.done()
    assert hearing.told[-1].verdict is Verdict.CONTINUE


async def test_a_log_that_this_release_cannot_read_ends_the_agent_with_the_reason(hearing):
    hearing.store.failures, hearing.store.error = 1, Malformed("store", "pair log of schema 2")
    async with hearing.sitting() as task:
        with pytest.raises(Malformed, match="schema 2"):
            await asyncio.wait_for(task, 10)


def test_shadowing_is_taken_up_where_the_log_ends_with_only_rows_judged_that_the_canary_answered():
    log = [pairs(3, row=[0, 1, 2], aa=[False, True, False]), pairs(2, first=7, row=[-1, 4])]
    store = SimpleNamespace(evidence=lambda rollout: log)
    analysis, progress = folded(store, a_rollout(analysis=rules().to_json()))
    assert progress.next_seq == 9
    assert progress.judged_rows == {0, 2, 4}
    assert progress.before_seconds == np.float64(0.08)
    assert analysis.tally.pairs == 4


# --- labels -----------------------------------------------------------------------------------------------------------


def answer(value):
    """What Serving answers to a Regress call."""
    return wire.RegressionResponse(result={"regressions": [{"value": value}]}).SerializeToString()


def unlabelled(hearing, n, *, first=0, canary=2.0):
    """A batch of pairs without truth, whose answers are kept: stable says 1, the canary something else."""
    for seq in range(first, first + n):
        hearing.answers.keep(seq, Api.REGRESS, answer(1.0), None if canary is None else answer(canary))
    status = Status.OK if canary is not None else Status.TIMEOUT
    request = [key_of(f"q{seq}") for seq in range(first, first + n)]
    none = {"stable_wrong": np.nan, "canary_wrong": np.nan}
    return pairs(n, first=first, request=request, canary_status=status, server=1, slices=5, **none)


def put(hearing, *numbers, truth=1.0, at=8.0):
    some = [Label(key_of(f"q{number}"), truth) for number in numbers]
    return hearing.store.store.put_labels(MODEL, some, at=at, keep_seconds=1e6)


def counted(hearing, result):
    registry = hearing.judging.labels.telemetry.registry
    return registry.get_sample_value("haldane_labels_total", {"model": MODEL, "result": result}) or 0


def late_entries(hearing):
    return [entry for entry in hearing.store.store.evidence(hearing.judging.id) if entry.dtype == LABEL_DTYPE]


@pytest.fixture
def labelled(store, monkeypatch):
    monkeypatch.setattr("haldane.engine.judging.LABEL_SECONDS", 0.01)
    return Hearing(store, terms=LabelTerms(60.0, count_late=True), rules_=LATE)


async def test_labels_that_come_later_are_on_record_and_judged_as_harm(labelled):
    async with labelled.sitting():
        await labelled.until(lambda: labelled.shadows)
        labelled.batches.put_nowait(unlabelled(labelled, 200))
        await labelled.until(lambda: labelled.shown and labelled.shown[-1].pairs == 200)
        assert labelled.told[-1].verdict is Verdict.CONTINUE
        put(labelled, *range(200))
        await labelled.until(lambda: labelled.told[-1].verdict is Verdict.FAIL)
    rows = np.concatenate(late_entries(labelled))
    assert len(rows) == counted(labelled, "joined") == 200
    assert (set(rows["stable_wrong"]), set(rows["canary_wrong"])) == ({0.0}, {1.0})
    assert rows["answered_at"].tolist() == [0.01 * seq for seq in range(200)]
    assert (set(rows["server"]), set(rows["slices"])) == ({1}, {5})


async def test_what_was_joined_is_known_when_judging_is_taken_up_and_counts_once(labelled):
    put(labelled, 0, 1, 2)  # before their pairs
    async with labelled.sitting():
        await labelled.until(lambda: labelled.shadows)
        labelled.batches.put_nowait(unlabelled(labelled, 5))
        await labelled.until(lambda: counted(labelled, "joined") == 3)
    put(labelled, 1, 3)
    async with labelled.sitting():
        await labelled.until(lambda: counted(labelled, "joined") == 4)
    analysis, _ = folded(labelled.store.store, labelled.desk.rollout(labelled.judging.id))
    assert (analysis.tally.labels, analysis.tally.pairs) == (4, 5)


@pytest.mark.parametrize(("count_late", "judged"), [(True, 2), (False, 1)])
async def test_a_label_that_is_not_on_time_is_judged_or_left_out_as_the_config_says(
    store, monkeypatch, count_late, judged
):
    monkeypatch.setattr("haldane.engine.judging.LABEL_SECONDS", 0.01)
    hearing = Hearing(store, terms=LabelTerms(60.0, count_late=count_late), rules_=LATE)
    async with hearing.sitting():
        await hearing.until(lambda: hearing.shadows)
        hearing.batches.put_nowait(unlabelled(hearing, 2))
        await hearing.until(lambda: hearing.told)
        put(hearing, 0, at=7.0 + 60.0)
        put(hearing, 1, at=7.0 + 61.0)
        await hearing.until(lambda: counted(hearing, "late") == 1)
    assert sum(map(len, late_entries(hearing))) == counted(hearing, "joined") == judged


async def test_a_side_that_gave_no_answer_is_wrong_with_the_largest_loss(labelled):
    async with labelled.sitting():
        await labelled.until(lambda: labelled.shadows)
        labelled.batches.put_nowait(unlabelled(labelled, 1, canary=None))
        put(labelled, 0)
        await labelled.until(lambda: counted(labelled, "joined") == 1)
    [row] = np.concatenate(late_entries(labelled))
    assert (row["stable_wrong"], row["canary_wrong"], row["canary_loss"]) == (0.0, 1.0, np.inf)


async def test_a_label_that_is_no_answer_of_this_model_is_counted_and_says_nothing(labelled):
    async with labelled.sitting():
        await labelled.until(lambda: labelled.shadows)
        labelled.batches.put_nowait(unlabelled(labelled, 1))
        put(labelled, 0, truth="cat")
        await labelled.until(lambda: counted(labelled, "unusable") == 1)
        assert counted(labelled, "joined") == 0


async def test_an_answer_too_large_to_be_kept_is_counted(labelled):
    async with labelled.sitting():
        await labelled.until(lambda: labelled.shadows)
        batch = unlabelled(labelled, 1)
        labelled.answers.clear()
        labelled.answers.keep(0, Api.REGRESS, b"x" * 20_000, b"")
        labelled.batches.put_nowait(batch)
        await labelled.until(lambda: counted(labelled, "no_room") == 1)


async def test_a_model_that_declares_no_labels_keeps_none(hearing):
    async with hearing.sitting():
        await hearing.until(lambda: hearing.shadows)
        hearing.batches.put_nowait(unlabelled(hearing, 1))
        await hearing.until(lambda: hearing.told)
    assert put(hearing, 0).unknown == 1


async def test_labels_that_come_while_it_is_held_are_judged_and_only_harm_is_told(labelled):
    async with labelled.sitting():
        await labelled.until(lambda: labelled.shadows)
        labelled.batches.put_nowait(unlabelled(labelled, 200))
        await labelled.until(lambda: labelled.shown and labelled.shown[-1].pairs == 200)
        labelled.move(Phase.HELD, held_from=Phase.SHADOWING)
        await labelled.until(lambda: labelled.closed == 1)
        told = len(labelled.told)
        put(labelled, 0)
        await labelled.until(lambda: counted(labelled, "joined") == 1)
        assert len(labelled.told) == told
        put(labelled, *range(1, 200))
        await labelled.until(lambda: len(labelled.told) > told)
        assert labelled.told[-1].verdict is Verdict.FAIL
        assert len(labelled.shadows) == 1
        assert set(np.concatenate(late_entries(labelled))["at"]) == {0.01 * 199}  # the budget stands still


async def test_held_while_users_have_it_gauges_are_read_and_harm_they_show_is_told(store):
    gauge = GaugeRule(name="queue", kind=Gauge.QUERY, margin=0.1, query="q", warmup_seconds=0.0)
    hearing = Hearing(store, rules_=rules(metric("errors", "1pp"), gauges=(gauge,)))
    before = pairs(100)
    before["at"] = 0.4 * np.arange(100)
    store.append_evidence(hearing.judging.id, before)

    async def readings(rollout, progress):
        assert rollout.exposed
        for minute in range(20):
            await asyncio.sleep(0.001)
            rows = np.zeros(12, READING_DTYPE)
            rows["held"] = 60.0 * minute + 5.0 * np.arange(12)
            rows["at"], rows["stable"], rows["canary"] = 39.6 + rows["held"], 1.0, 1.5
            yield rows
        await asyncio.Event().wait()

    hearing.judging.readings = readings
    hearing.move(Phase.HELD, held_from=Phase.BAKING)
    async with hearing.sitting():
        await hearing.until(lambda: hearing.told)
    assert hearing.told[-1].verdict is Verdict.FAIL and hearing.shown[-1].named == ("queue",)
    assert hearing.shown[-1].seconds == pytest.approx(39.6), "the budget stands still"
    analysis, progress = folded(store, hearing.desk.rollout(hearing.judging.id))
    assert analysis.hearing.seconds == progress.before_seconds == pytest.approx(39.6)
    assert progress.before_held > 60.0, "the clock of gauges goes on where it was"


async def test_what_is_held_from_now_on_is_counted_apart_from_the_budget():
    progress = Progress(before_seconds=10.0, before_held=5.0)
    progress.hold()
    await asyncio.sleep(0.01)
    assert progress.elapsed() == 10.0
    assert progress.held() > 5.0


async def test_readings_of_gauges_go_into_the_log_and_before_the_judge_in_one_order(store):
    gauge = GaugeRule(name="queue", kind=Gauge.QUERY, margin=0.1, query="q", warmup_seconds=0.0)
    hearing = Hearing(store, rules_=rules(metric("errors", "1pp"), gauges=(gauge,)))
    read = asyncio.Queue()

    async def readings(rollout, progress):
        while (entry := await read.get()) is not None:
            yield entry

    hearing.judging.readings = readings
    async with hearing.sitting():
        for minute in range(20):
            rows = np.zeros(12, READING_DTYPE)
            rows["at"], rows["stable"], rows["canary"] = 60 * minute + 5.0 * np.arange(12), 1.0, 1.5
            hearing.batches.put_nowait(pairs(30, first=30 * minute))
            read.put_nowait(rows)
        await hearing.until(lambda: any(told.verdict is Verdict.FAIL for told in hearing.told))
        await hearing.until(lambda: hearing.shown[-1].entries == 40)
    assert hearing.logged() == 20 * (30 + 12)
    assert hearing.shown[-1].named == ("queue",)
    analysis, progress = folded(store, hearing.desk.rollout(hearing.judging.id))
    assert (progress.measured, progress.logged, progress.next_seq) == ({0}, 600, 600)
    assert analysis.ruling(1200.0).findings == hearing.shown[-1].findings
