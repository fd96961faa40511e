"""Senders elsewhere, each played by a few lines: what is merged, what is lost, what is counted."""

import asyncio
from contextlib import aclosing

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from haldane.domain.rollout import Phase
from haldane.domain.traffic import PAIR_DTYPE, Api, Status, empty_batch
from haldane.engine import spread as module
from haldane.engine.addressing import Addressing
from haldane.engine.merging import KeptAnswers, Link, Report, Windows, ready
from haldane.engine.spread import Spread
from haldane.ports import Malformed, Refused, Unavailable
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout

BY_LABEL, BY_NUMBER = Addressing("stable", "canary"), Addressing(1, 2)


def some(*numbers, at=1.0, seconds=0.01, **columns):
    """Pairs of those numbers, on rows of the same number."""
    rows = np.zeros(len(numbers), PAIR_DTYPE)
    rows["seq"] = rows["row"] = numbers
    rows["at"], rows["stable_seconds"], rows["canary_seconds"] = at, seconds, seconds
    for name, value in columns.items():
        rows[name] = value
    return rows


def report(*numbers, done, over=False, sent=0, kept=(), failure=None, rows=None, stopped=(), flaws=None, **counts):
    rows = some(*numbers) if rows is None else rows
    return Report(rows, kept, done, sent, counts, frozenset(stopped), flaws or {}, over, failure)


def lost():
    return Unavailable("worker", "no answer")


class Sender:
    """Gives the reports of each start one after the other; then it has nothing new, and is over once told to end."""

    def __init__(self, *reports, again=()):
        self.runs, self.reports, self.told, self.started, self.closed = [reports, again], [], [], [], 0

    def start(self, index, beginning):
        self.started.append((index, beginning))
        self.last, self.reports = report(done=0), list(self.runs.pop(0) if self.runs else ())

    def take(self, told):
        self.told.append(told)
        if not self.reports:
            return self.last._replace(rows=empty_batch(), kept=(), over=told.ended or self.last.over)
        answer = self.reports.pop(0)
        if isinstance(answer, Exception):
            raise answer
        self.last = answer._replace(sent=max(answer.sent, self.last.sent + len(answer.rows)))
        return self.last


class Cluster:
    """The `Senders` of a test."""

    def __init__(self, **senders):
        self.senders, self.missing = senders, None

    async def names(self):
        if self.missing:
            raise self.missing
        return list(self.senders)

    async def start(self, name, index, beginning):
        self.senders[name].start(index, beginning)

    async def take(self, name, told):
        if name not in self.senders:
            raise lost()
        return self.senders[name].take(told)

    async def close(self, name):
        self.senders[name].closed += 1
        return self.senders[name].last._replace(rows=empty_batch(), kept=(), over=True)


class Run:
    def __init__(self, cluster, **given):
        self.telemetry, self.kept, self.flaws = Telemetry.on(CollectorRegistry()), [], []
        self.stopped, self.judged = set(), set()
        self.spread = Spread(
            **{
                "senders": cluster,
                "rollout": a_rollout(Phase.SHADOWING),
                "most": 4,
                "address": lambda: BY_LABEL,
                "masked": lambda server: False,
                "crowded": lambda server: server == "r1",
                "next_seq": 10,
                "judged_rows": self.judged,
                "elapsed": lambda: 1.0,
                "telemetry": self.telemetry,
                "stopped": self.stopped,
                "keep": lambda seq, kept: self.kept.append((seq, kept)),
                "flawed": self.flaws.append,
                **given,
            }
        )

    async def rows(self, count=None):
        """All, or until there are so many."""
        found = [empty_batch()]
        async with asyncio.timeout(20), aclosing(self.spread.batches()) as batches:
            async for batch in batches:
                found.append(batch)
                if count is not None and sum(map(len, found)) >= count:
                    break
        return np.concatenate(found)

    def counted(self, name, **labels):
        return self.telemetry.registry.get_sample_value(f"haldane_{name}", {"model": "credit", **labels}) or 0


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    for name in ("ASK_SECONDS", "LOOK_SECONDS", "WATCH_SECONDS", "AGAIN_SECONDS"):
        monkeypatch.setattr(module, name, 0.01)


async def test_pairs_of_two_senders_are_numbered_on_in_order_of_sending():
    a = Sender(report(0, 4, 6, done=7), report(done=9, sent=3, over=True))
    b = Sender(report(1, 2, 5, done=9, sent=3, over=True))
    run = Run(Cluster(a=a, b=b))
    found = await run.rows()
    assert found["seq"].tolist() == [10, 11, 12, 13, 14, 15]
    assert found["row"].tolist() == [0, 1, 2, 4, 5, 6]
    assert run.counted("pairs_sent_total") == run.counted("pairs_total", server="r0", kind="ab") == 6
    (one, beginning), (two, same) = a.started[0], b.started[0]
    assert (one, two, beginning.of, beginning.next_seq, same) == (0, 1, 2, 10, beginning)


def test_no_pair_is_handed_on_before_an_earlier_one_that_may_still_come():
    """A slow answer would otherwise be judged after quick ones that were sent later."""
    links = [Link(name, place, BY_LABEL, 0.0) for place, name in enumerate("ab")]
    links[0].rows, links[0].done = [some(0, 2, 9)], 10
    links[1].rows, links[1].done = [some(1)], 3
    assert ready(links, 0, lambda *_: None)["row"].tolist() == [0, 1, 2]
    assert ready(links, 3, lambda *_: None)["row"].tolist() == []
    links[1].over = True
    assert ready(links, 3, lambda *_: None)["row"].tolist() == [9]


async def test_a_row_is_fresh_once_whichever_sender_it_came_from():
    a = Sender(report(0, done=9, rows=some(0), over=True))
    again = some(5)
    again["row"] = 0
    run = Run(Cluster(a=a, b=Sender(report(done=9, rows=again, over=True))))
    assert (await run.rows())["fresh"].tolist() == [True, False]
    assert run.judged == {0}


async def test_answers_that_wait_for_their_label_get_the_new_number():
    answers = KeptAnswers(7, Api.PREDICT, b"old", b"new")
    run = Run(Cluster(a=Sender(report(3, 7, done=9, kept=[answers], over=True)), b=Sender(report(done=9, over=True))))
    await run.rows()
    assert run.kept == [(11, answers)]


async def test_a_lost_sender_loses_what_it_had_out_and_the_others_begin_anew_on_new_shares():
    a = Sender(report(0, 2, done=3, sent=5, set_aside={"invalid": 1, "duplicate": 7}), lost())
    b = Sender(report(1, done=9), again=[report(4, done=9, over=True)])
    cluster = Cluster(a=a, b=b)
    run = Run(cluster)
    async with asyncio.timeout(20), aclosing(run.spread.batches()) as batches:
        found = [await anext(batches)]
        del cluster.senders["a"]
        found += [batch async for batch in batches]
    found = np.concatenate(found)
    assert found["seq"].tolist() == [10, 11, 12, 13]
    assert found["row"].tolist() == [0, 1, 2, 4]
    assert run.counted("pairs_dropped_total", reason="sender_lost") == 2  # 5 sent, 2 reported, 1 set aside
    assert run.counted("pairs_set_aside_total", reason="invalid") == 1
    assert [(index, beginning.of) for index, beginning in b.started] == [(1, 2), (0, 1)]
    assert b.started[1][1].judged_rows == {0, 1, 2}
    assert b.started[1][1].next_seq == 13


async def test_a_sender_that_leaves_the_cluster_is_not_waited_for():
    class Hanging(Cluster):
        async def take(self, name, told):
            if name == "a":
                self.senders.pop("a", None)
                await asyncio.sleep(3600)
            return await super().take(name, told)

    b = Sender(report(1, done=9))
    cluster = Hanging(a=Sender(), b=b)
    run = Run(cluster)
    found = await run.rows(1)
    assert found["row"].tolist() == [1]


async def test_one_more_sender_is_used_when_it_is_there():
    a = Sender(report(0, done=9), again=[report(1, done=9)])
    cluster = Cluster(a=a)
    run = Run(cluster)
    async with asyncio.timeout(20), aclosing(run.spread.batches()) as batches:
        await anext(batches)
        cluster.senders["b"] = Sender(report(5, done=9))
        found = await anext(batches)
        assert found["row"].tolist() == [1, 5]
        assert run.counted("shadow_senders") == 2
    assert [(index, beginning.of) for index, beginning in a.started] == [(0, 1), (0, 2)]
    assert run.counted("shadow_senders") == 0
    assert run.counted("pairs_dropped_total", reason="sender_lost") == 0


async def test_no_more_senders_are_used_than_pairs_may_be_out_on_a_server():
    cluster = Cluster(a=Sender(report(done=9, over=True)), b=Sender(report(done=9, over=True)))
    await Run(cluster, most=1).rows()
    assert (len(cluster.senders["a"].started), len(cluster.senders["b"].started)) == (1, 0)


async def test_when_all_are_lost_it_says_so_and_every_pair_is_counted():
    cluster = Cluster(a=Sender(report(0, done=9, sent=4), lost()))
    run = Run(cluster)
    with pytest.raises(Unavailable, match="no answer"):
        await run.rows()
    judged = run.counted("pairs_total", server="r0", kind="ab")
    assert (run.counted("pairs_sent_total"), judged) == (4, 1)
    assert run.counted("pairs_dropped_total", reason="sender_lost") == 3


async def test_a_bug_is_raised_at_once_and_is_no_lost_sender():
    run = Run(Cluster(a=Sender(report(0, done=9), ValueError("a bug")), b=Sender(report(1, done=9))))
    with pytest.raises(ValueError, match="a bug"):
        await run.rows()
    assert run.counted("pairs_dropped_total", reason="sender_lost") == 0


async def test_without_a_scheduler_nothing_begins():
    cluster = Cluster(a=Sender())
    cluster.missing = Refused("dask", "no worker has haldane")
    with pytest.raises(Refused, match="no worker has haldane"):
        await Run(cluster).rows()


async def test_what_a_source_raises_elsewhere_is_raised_here_and_names_the_sender():
    broken = report(0, done=9, over=True, failure=("malformed", "rows.jsonl", "it is empty"))
    run = Run(Cluster(a=Sender(broken), b=Sender(report(1, done=9))))
    with pytest.raises(Malformed, match=r"rows\.jsonl: it is empty \(said by a\)"):
        await run.rows()
    assert run.counted("pairs_total", server="r0", kind="ab") == 2  # what came before it is judged


async def test_closing_it_ends_the_senders_and_counts_what_waited():
    a, b = Sender(report(0, 5, 6, done=9, sent=4, dropped={"in_flight": 1})), Sender(report(1, done=3))
    run = Run(Cluster(a=a, b=b))
    found = await run.rows(2)
    assert found["row"].tolist() == [0, 1]
    assert (a.closed, b.closed) == (1, 1)
    waiting, in_flight = (run.counted("pairs_dropped_total", reason=reason) for reason in ("waiting", "in_flight"))
    assert (waiting, in_flight) == (2, 1)
    assert run.counted("pairs_sent_total") == len(found) + waiting + in_flight


async def test_a_server_that_ran_out_of_threads_is_left_alone_by_all():
    a, b = Sender(report(0, done=9, stopped=["r0"])), Sender(report(1, done=9), report(done=9), report(done=9))
    run = Run(Cluster(a=a, b=b))
    async with asyncio.timeout(20), aclosing(run.spread.batches()) as batches:
        await anext(batches)
        while len(b.told) < 4:  # noqa: ASYNC110 - a list tells nobody
            await asyncio.sleep(0.01)
    assert run.stopped == {"r0"}
    assert (b.told[-1].stopped, b.told[-1].crowded) == ({"r0"}, {"r1"})


def test_pairs_out_while_a_model_was_loading_are_masked():
    """Looks at 10, 20 and 30 s, and the second finds r0 loading; clocks may differ by half a second."""
    now = [0.0]
    spread = Run(Cluster(), elapsed=lambda: now[0], masked=lambda server: server == "r0" and now[0] == 20.0).spread
    for now[0] in (10.0, 20.0, 30.0):
        spread.look_at_masks()
    rows = np.concatenate(
        [some(n, at=at) for n, at in enumerate((9.0, 9.8, 15.0, 20.2, 21.0))] + [some(9, at=15.0, server=1)]
    )
    spread.mask(rows)
    assert rows["masked"].tolist() == [False, True, True, True, False, False]


def test_a_failure_counts_only_when_the_address_cannot_have_moved_meanwhile():
    link = Link("a", 0, BY_LABEL, 10.0)
    told = link_told(BY_LABEL)
    link.heard(told, BY_LABEL, 11.0, 11.1)
    link.heard(told, BY_NUMBER, 12.0, 12.1)  # moved since it was asked
    link.heard(link_told(BY_NUMBER), BY_NUMBER, 13.0, 13.1)  # knows it now
    link.heard(link_told(BY_NUMBER), BY_NUMBER, 14.0, 14.1)
    ok, bad = Status.OK, Status.UNAVAILABLE
    rows = np.concatenate(
        [some(n, at=at, canary_status=bad) for n, at in enumerate((10.0, 11.5, 12.9, 13.4, 14.0))]
        + [some(9, at=12.5, canary_status=ok)]
    )
    assert link.straddles(rows).tolist() == [False, True, True, True, False, False]


def link_told(address):
    return module.Told(address, frozenset(), frozenset(), False)


def test_spans_that_touch_are_one():
    windows = Windows()
    windows.add(1.0, 2.0)
    windows.add(2.0, 3.0)
    windows.add(50.0, 51.0)
    rows = some(0, 1, 2, 3)
    rows["at"] = 0.2, 2.5, 30.0, 60.0
    rows["stable_seconds"] = 0.01, 0.01, 0.01, 9.0
    assert windows.touched(rows).tolist() == [False, True, False, True]


async def test_flaws_of_the_source_are_told():
    run = Run(Cluster(a=Sender(report(done=9, over=True, flaws={"checksum": 3}))))
    await run.rows()
    assert run.flaws == [{"checksum": 3}]
