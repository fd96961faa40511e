from haldane.app.history import KEPT_ROLLOUTS, MOST_RULINGS, History
from haldane.domain.evidence import Ruling, Verdict
from haldane.domain.rollout import Phase, RolloutId
from haldane.testing.builders import a_rollout
from haldane.testing.pairs import pairs, rules

NAME = RolloutId("credit-2-test")


def a_ruling(count, verdict=Verdict.CONTINUE, seconds=0.0):
    return Ruling(verdict=verdict, findings=(), pairs=count, seconds=seconds, log10_harm=0.0, why="")


def test_a_ruling_that_says_nothing_new_only_replaces_the_last(store):
    history = History(store)
    for ruling in (a_ruling(10), a_ruling(10, seconds=1.0), a_ruling(10, Verdict.PASS), a_ruling(20, Verdict.PASS)):
        history.add(NAME, ruling)
    found = history.of(a_rollout(Phase.SHADOWING))
    assert [(ruling.pairs, ruling.seconds) for ruling in found] == [(10, 1.0), (10, 0.0), (20, 0.0)]


def test_however_long_a_rollout_lives_a_few_hundred_rulings_remain_with_the_first_and_the_last(store):
    history = History(store)
    for n in range(10 * MOST_RULINGS):
        history.add(NAME, a_ruling(n))
    found = history.of(a_rollout(Phase.BAKING))
    assert MOST_RULINGS / 2 <= len(found) <= MOST_RULINGS
    assert (found[0].pairs, found[-1].pairs) == (0, 10 * MOST_RULINGS - 1)
    assert [ruling.pairs for ruling in found] == sorted(ruling.pairs for ruling in found)


def test_when_it_is_over_the_pair_log_speaks(store):
    history = History(store)
    store.append_evidence(NAME, pairs(10))
    store.append_evidence(NAME, pairs(10, first=10))
    history.add(NAME, a_ruling(1))
    history.over(NAME)
    over = a_rollout(Phase.ROLLED_BACK, analysis=rules().to_json())
    assert [ruling.pairs for ruling in history.of(over)] == [10, 20]


def test_a_live_rollout_without_a_ruling_yet_shows_what_is_on_record_now_and_later(store):
    history = History(store)
    live = a_rollout(Phase.HELD, analysis=rules().to_json())
    assert history.of(live) == []
    store.append_evidence(NAME, pairs(10))
    assert [ruling.pairs for ruling in history.of(live)] == [10]


def test_only_the_last_few_finished_rollouts_are_kept_in_memory(store):
    history = History(store)
    for n in range(KEPT_ROLLOUTS + 3):
        assert history.of(a_rollout(Phase.ROLLED_BACK, id=RolloutId(f"r{n}"), analysis=rules().to_json())) == []
    assert len(history._over) == KEPT_ROLLOUTS


def test_a_rollout_taken_over_from_another_process_shows_its_beginning_too(store):
    history = History(store)
    live = a_rollout(Phase.SHADOWING, analysis=rules().to_json())
    store.append_evidence(NAME, pairs(10))
    history.take_over(NAME)
    store.append_evidence(NAME, pairs(10, first=10))
    history.add(NAME, a_ruling(20))
    assert [ruling.pairs for ruling in history.of(live)] == [10, 20]
    history.add(NAME, a_ruling(30))
    assert [ruling.pairs for ruling in history.of(live)] == [10, 20, 30]
