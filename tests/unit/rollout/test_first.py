"""A model's first version: labelled canary, judged, and only then what users get."""

import pytest

from haldane.domain.fleet import Clients
from haldane.domain.rollout import Phase, Progress, Rollout
from haldane.rollout.planner import next_step, progress
from haldane.rollout.wanted import Watched, compose
from haldane.testing.builders import MODEL, a_config, a_rollout, a_view, an_entry

UNRELEASED = Watched(1, Clients.LABEL, released=False)
BASE = a_config(an_entry(labels={}))


def first(phase: Phase, **fields: object) -> Rollout:
    return a_rollout(phase, old=1, new=1, **fields)


@pytest.mark.parametrize(
    ("rollout", "labels"),
    [
        (None, {}),
        (first(Phase.PENDING), {}),
        (first(Phase.LOADING), {"canary": 1}),
        (first(Phase.SHADOWING), {"canary": 1}),
        (first(Phase.HELD, held_from=Phase.SHADOWING), {"canary": 1}),
        (first(Phase.PROMOTING, promoted=("r1",)), {"canary": 1}),
        (first(Phase.PROMOTING, promoted=("r0",)), {"canary": 1, "stable": 1}),
        (first(Phase.BAKING, promoted=("r0", "r1")), {"canary": 1, "stable": 1}),
        (first(Phase.ROLLING_BACK), {}),
        (first(Phase.STUCK), {}),
    ],
)
def test_nobody_gets_it_before_it_has_passed(rollout: Rollout | None, labels: dict[str, int]) -> None:
    entry = compose(BASE, {MODEL: UNRELEASED}, [rollout] if rollout else [], "r0").entry(MODEL)
    assert entry is not None
    assert (dict(entry.labels), entry.versions) == (labels, (1,))


def test_it_gets_its_label_only_once_it_has_answered() -> None:
    wanted = compose(BASE, {MODEL: UNRELEASED}, [first(Phase.LOADING)], "r0")
    unasked = Watched(1, Clients.LABEL, provable=False, released=False)
    for at_rest in (UNRELEASED, unasked):
        entry = next_step(wanted, a_view(1, proven=()), {MODEL: at_rest}).config.entry(MODEL)
        assert entry is not None
        assert entry.labels == {}


def test_a_first_version_that_does_not_load_can_be_given_up() -> None:
    rollout = first(Phase.ROLLING_BACK)
    view = a_view(failed=(1,))
    wanted = compose(BASE, {MODEL: UNRELEASED}, [rollout], "r0")
    found, why = progress(rollout, "r0", view, next_step(wanted, view, {MODEL: UNRELEASED}))
    assert (found, why) == (Progress.SETTLED, "as wanted")
