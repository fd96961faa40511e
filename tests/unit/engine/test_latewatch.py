"""What becomes of labels that come after the promotion. A real store; nothing runs but what a test asks for."""

from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from haldane import wire
from haldane.domain.evidence import Verdict
from haldane.domain.labels import Awaiting, Label
from haldane.domain.rollout import Phase, RolloutId
from haldane.domain.traffic import Api
from haldane.engine.labels import Labels, LabelTerms
from haldane.engine.latewatch import LateWatch
from haldane.judge.outputs import OutputKind, OutputRule
from haldane.ports import Unavailable
from haldane.serving.shadow import Scorer
from haldane.telemetry import Telemetry
from haldane.testing.builders import MODEL, a_rollout
from haldane.testing.pairs import metric, pairs, rules

LATE = rules(metric("errors", "1pp"), metric("accuracy", "1pp"), late_labels=True).to_json()
WAIT = 600.0


def answer(value):
    return wire.RegressionResponse(result={"regressions": [{"value": value}]}).SerializeToString()


class Aftermath:
    """A rollout that has succeeded at 1000, with 200 pairs that wait: stable said 1, the canary 2."""

    def __init__(self, store, phase=Phase.SUCCEEDED):
        self.store, self.time, self.taken, self.refused, self.grew = store, 1010.0, [], "", []
        self.rollout = a_rollout(phase, phase_since=1000.0, analysis=LATE)
        store.commit(self.rollout, None, [])
        batch = pairs(200, request=1 + np.arange(200), stable_wrong=np.nan, canary_wrong=np.nan)
        store.append_evidence(self.rollout.id, batch, awaiting=[self.awaiting(key) for key in range(1, 201)])
        self.terms = LabelTerms(WAIT, count_late=True)
        self.telemetry = Telemetry.on(CollectorRegistry())
        self.watch = self.a_watch()

    def a_watch(self):
        scorer = Scorer(OutputRule(kind=OutputKind.REGRESSION, wrong_beyond=0.5))
        labels = Labels(self.store, self, self.telemetry, lambda model: self.terms, lambda model: scorer)
        watch = LateWatch(self.store, self, labels, self.take_back, lambda rollout: self.grew.append(rollout.id))
        watch.add(self.store.rollout(self.rollout.id)[0])
        return watch

    def awaiting(self, key):
        return Awaiting(
            request=key, at=999.0, answered_at=1.0, server=0, slices=0, api=Api.REGRESS, stable=answer(1.0),
            canary=answer(2.0),
        )  # fmt: skip

    def now(self):
        return self.time

    async def take_back(self, rollout, ruling):
        assert ruling.verdict is Verdict.FAIL
        self.taken.append(rollout.id)
        return self.refused

    def put(self, *keys, truth):
        labels = [Label(key, truth) for key in keys]
        return self.store.put_labels(MODEL, labels, at=self.time, keep_seconds=WAIT)

    def waiting(self):
        """Pairs that still wait."""
        return self.store.stop_waiting(self.rollout.id)


@pytest.fixture
def aftermath(store):
    return Aftermath(store)


async def test_labels_that_show_harm_take_the_promotion_back_once(aftermath):
    await aftermath.watch.look()
    assert aftermath.taken == []
    aftermath.put(*range(1, 150), truth=1.0)
    await aftermath.watch.look()
    await aftermath.watch.look()
    assert aftermath.taken == aftermath.grew == [aftermath.rollout.id]
    assert aftermath.waiting() == 0


async def test_labels_that_show_none_leave_it_and_are_on_record(aftermath):
    aftermath.put(*range(1, 150), truth=2.0)
    await aftermath.watch.look()
    assert aftermath.taken == []
    assert [len(entry) for entry in aftermath.store.evidence(aftermath.rollout.id)] == [200, 149]
    assert aftermath.waiting() == 51


async def test_harm_on_record_that_was_not_acted_on_is_found_after_a_restart(aftermath):
    aftermath.refused = "another rollout is live"
    aftermath.put(*range(1, 150), truth=1.0)
    await aftermath.watch.look()
    await aftermath.watch.look()
    assert len(aftermath.taken) == 2  # asked again, as long as it stands
    aftermath.refused = ""
    again = aftermath.a_watch()
    await again.look()
    await again.look()
    assert len(aftermath.taken) == 3


async def test_a_label_that_breaks_the_scorer_is_unusable_and_the_others_are_judged(aftermath):
    scorer = Scorer(OutputRule(kind=OutputKind.REGRESSION, wrong_beyond=0.5))

    def score(requests, stable, canary):
        if any(request.truth == 666.0 for request in requests):
            raise OverflowError
        return scorer(requests, stable, canary)

    aftermath.watch.labels = replace(aftermath.watch.labels, score=lambda model: score)
    aftermath.put(7, truth=666.0)
    aftermath.put(*range(8, 150), truth=1.0)
    await aftermath.watch.look()
    assert aftermath.taken == [aftermath.rollout.id]


async def test_one_rollout_that_breaks_keeps_no_other_from_being_taken_back(aftermath):
    other = a_rollout(Phase.SUCCEEDED, id=RolloutId("broken"), phase_since=1000.0, analysis=LATE)
    watched = aftermath.watch._watched
    aftermath.watch.add(other)
    aftermath.watch._watched = {other.id: watched[other.id], **watched}
    aftermath.watch._watched[other.id].evidence = (None, None)
    aftermath.put(*range(1, 150), truth=1.0)
    await aftermath.watch.look()
    assert aftermath.taken == [aftermath.rollout.id]


async def test_nobody_waits_longer_than_declared(aftermath):
    aftermath.time = 1000.0 + WAIT
    await aftermath.watch.look()
    aftermath.time += 1.0
    aftermath.put(*range(1, 150), truth=1.0)
    await aftermath.a_watch().look()
    assert aftermath.taken == []
    assert aftermath.waiting() == 0


async def test_the_last_labels_of_its_time_still_count(aftermath):
    await aftermath.watch.look()
    aftermath.put(*range(1, 150), truth=1.0)
    aftermath.time = 1000.0 + WAIT + 1.0
    await aftermath.watch.look()
    assert aftermath.taken == [aftermath.rollout.id]


async def test_a_rollout_that_was_withdrawn_waits_for_no_label(store):
    aftermath = Aftermath(store, Phase.ROLLED_BACK)
    aftermath.put(*range(1, 150), truth=1.0)
    await aftermath.watch.look()
    assert (aftermath.taken, aftermath.waiting()) == ([], 0)


async def test_a_store_that_is_away_only_delays(aftermath, monkeypatch):
    def away(*_, **__):
        raise Unavailable("store", "away")

    aftermath.put(*range(1, 150), truth=1.0)
    with monkeypatch.context() as broken:
        broken.setattr(aftermath.store, "append_evidence", away)
        await aftermath.watch.look()
    assert aftermath.taken == []
    await aftermath.watch.look()
    assert aftermath.taken == [aftermath.rollout.id]


async def test_pairs_that_could_not_be_let_go_are_let_go_later(store, monkeypatch):
    def away(*_):
        raise Unavailable("store", "away")

    aftermath = Aftermath(store, Phase.ROLLED_BACK)
    with monkeypatch.context() as broken:
        broken.setattr(aftermath.store, "stop_waiting", away)
        await aftermath.watch.look()
    await aftermath.watch.look()
    assert aftermath.waiting() == 0


async def test_rollouts_that_declared_no_labels_or_are_live_are_not_watched(aftermath):
    aftermath.watch.add(
        a_rollout(Phase.SUCCEEDED, id=RolloutId("plain"), phase_since=1000.0, analysis=rules().to_json())
    )
    aftermath.watch.add(a_rollout(Phase.BAKING, id=RolloutId("live"), phase_since=1000.0, analysis=LATE))
    await aftermath.watch.look()
    assert aftermath.taken == []
