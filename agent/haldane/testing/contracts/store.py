"""What every Store promises."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from haldane.domain.fleet import ModelName
from haldane.domain.labels import Arrived, Awaiting, Label, Receipt
from haldane.domain.record import first_break
from haldane.domain.rollout import Phase, Rollout, RolloutId
from haldane.domain.traffic import Api
from haldane.ports import StaleWrite, Store
from haldane.testing.builders import a_rollout
from haldane.testing.pairs import labels, pairs


@dataclass
class Stores:
    """Opens one and the same store, as often as a test asks; closes what it opened."""

    open_one: Callable[[], Store]
    opened: list[Store] = field(default_factory=list)

    def open(self) -> Store:
        self.opened.append(self.open_one())
        return self.opened[-1]

    def close(self) -> None:
        for store in self.opened:
            store.close()
        self.opened.clear()


def rollout_named(name: str, phase: Phase = Phase.SHADOWING) -> Rollout:
    return a_rollout(phase, id=RolloutId(name))


def an_awaiting(request: int) -> Awaiting:
    return Awaiting(
        request=request,
        at=1e9 + 1 / 3,
        answered_at=12.5,
        server=1,
        slices=2**32 - 1,
        api=Api.CLASSIFY,
        stable=b"\x00\xff",
        canary=None,
    )


class StoreContract:
    """Subclass it and give the fixture `stores`: a store that is empty at the start of each test."""

    @pytest.fixture
    def store(self, stores: Stores) -> Iterator[Store]:
        yield stores.open()
        stores.close()

    # --- rollouts -------------------------------------------------------------------------------------------------

    def test_what_is_committed_is_there_after_opening_again(self, store: Store, stores: Stores) -> None:
        made = replace(rollout_named("a"), started_at=1e9 + 1 / 3, seed=2**32 - 1, new=2**62)
        revision = store.commit(made, None, [("rollout_started", {"why": "zum Üben"})])
        stores.close()
        again = stores.open()
        assert again.rollout(made.id) == (made, revision)
        assert again.live() == [(made, revision)]
        assert [record.data for record in again.records()] == [{"why": "zum Üben"}]

    def test_each_write_needs_the_newest_revision_and_a_stale_one_changes_nothing(self, store: Store) -> None:
        made = rollout_named("a")
        first = store.commit(made, None, [])
        second = store.commit(replace(made, why="moved"), first, [])
        assert second != first
        with pytest.raises(StaleWrite):
            store.commit(replace(made, why="too late"), first, [("phase_changed", {})])
        assert store.rollout(made.id) == (replace(made, why="moved"), second)
        assert store.records() == []

    def test_a_rollout_is_new_only_once(self, store: Store) -> None:
        store.commit(rollout_named("a"), None, [])
        with pytest.raises(StaleWrite):
            store.commit(rollout_named("a"), None, [("rollout_started", {})])
        assert store.records() == []

    def test_live_leaves_out_what_is_over_and_keeps_what_is_stuck(self, store: Store) -> None:
        for phase in Phase:
            store.commit(rollout_named(phase.value, phase), None, [])
        live = {rollout.phase for rollout, _ in store.live()}
        assert live == set(Phase) - {Phase.SUCCEEDED, Phase.ROLLED_BACK}

    def test_rollouts_come_newest_first_whatever_was_written_last(self, store: Store) -> None:
        revision = store.commit(rollout_named("a"), None, [])
        store.commit(rollout_named("b"), None, [])
        store.commit(rollout_named("c"), None, [])
        store.commit(replace(rollout_named("a"), why="moved"), revision, [])
        assert [rollout.id for rollout in store.rollouts()] == ["c", "b", "a"]
        assert [rollout.id for rollout in store.rollouts(2)] == ["c", "b"]
        assert store.rollout(RolloutId("none")) is None

    def test_the_stable_version_is_stored_with_the_rollout_or_not_at_all(self, store: Store) -> None:
        model = ModelName("credit")
        revision = store.commit(rollout_named("a"), None, [])
        with pytest.raises(StaleWrite):
            store.commit(rollout_named("a"), revision + 1, [], settled=(model, 9, 9))
        assert store.settled() == {}
        revision = store.commit(rollout_named("a"), revision, [], settled=(model, 2, 1))
        store.commit(rollout_named("a"), revision, [], settled=(model, 2**62, 2))
        assert store.settled() == {model: (2**62, 2)}

    # --- records --------------------------------------------------------------------------------------------------

    def test_records_are_one_chain_over_all_rollouts(self, store: Store) -> None:
        store.commit(rollout_named("a"), None, [("rollout_started", {"x": 1 / 3}), ("phase_changed", {"y": None})])
        store.record("config_sent", {"server": "r0", "nested": {"b": [1.5e-300, True], "a": "ü"}})
        store.commit(rollout_named("b"), None, [("rollout_started", {"e": float("inf")})])
        found = store.records()
        assert [record.rollout for record in found] == ["a", "a", "", "b"]
        assert first_break(found) is None
        assert first_break([*found[:1], *found[2:]]) == 2
        assert first_break([replace(found[0], data={"x": 1}), *found[1:]]) == 1

    def test_records_are_read_by_rollout_and_in_portions(self, store: Store) -> None:
        for name in ("a", "b", "a", "a"):
            store.record("phase_changed", {}, rollout=name)
        assert [record.seq for record in store.records(RolloutId("a"))] == [1, 3, 4]
        assert [record.seq for record in store.records(RolloutId("a"), after=1, limit=1)] == [3]
        assert store.records(after=2**53) == []

    def test_records_are_read_by_kind(self, store: Store) -> None:
        for kind in ("version_held", "config_sent", "hold_ended", "version_held"):
            store.record(kind, {})
        assert [record.seq for record in store.records(kinds={"version_held", "hold_ended"}, limit=2)] == [1, 3]
        assert [record.seq for record in store.records(kinds=("version_held",), after=1)] == [4]
        assert store.records(kinds=("unheard_of",)) == []

    def test_writers_at_the_same_time_lose_nothing_and_do_not_break_the_chain(self, stores: Stores) -> None:
        ready = threading.Barrier(4)

        def write(name: str) -> None:
            store = stores.open()
            ready.wait()
            revision = store.commit(rollout_named(name), None, [("rollout_started", {})])
            for _ in range(5):
                store.record("config_sent", {})
                revision = store.commit(rollout_named(name), revision, [("phase_changed", {})])
                store.append_evidence(RolloutId(name), pairs(1))

        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(write, name) for name in "abcd"]:
                done.result()
        found = stores.open().records()
        stores.close()
        assert len(found) == 4 * 11
        assert first_break(found) is None

    # --- the pair log ---------------------------------------------------------------------------------------------

    def test_the_pair_log_comes_back_bit_for_bit_in_its_order_and_batches(self, store: Store, stores: Stores) -> None:
        sizes = [1, 7, 100, 0, 3] * 30  # more than is read at once
        log = [pairs(n, first=1000 * i, distance=np.nan, stable_seconds=0.1 + i) for i, n in enumerate(sizes)]
        for batch in log:
            store.append_evidence(RolloutId("a"), batch)
        store.append_evidence(RolloutId("b"), pairs(2))
        stores.close()
        found = list(stores.open().evidence(RolloutId("a")))
        assert [batch.tobytes() for batch in found] == [batch.tobytes() for batch in log]
        assert all(batch.dtype == log[0].dtype for batch in found)
        assert list(stores.open().evidence(RolloutId("none"))) == []

    def test_a_batch_appended_again_after_a_lost_answer_counts_once(self, store: Store) -> None:
        for batch in (pairs(3), pairs(3), pairs(3, first=3)):
            store.append_evidence(RolloutId("a"), batch)
        assert [int(batch["seq"][0]) for batch in store.evidence(RolloutId("a"))] == [0, 3]

    def test_reading_a_long_log_slowly_keeps_nobody_from_writing(self, store: Store, stores: Stores) -> None:
        for n in range(3):
            store.append_evidence(RolloutId("a"), pairs(1, first=n))
        reading = iter(store.evidence(RolloutId("a")))
        next(reading)
        assert stores.open().hold_lease("other", seconds=10)
        store.append_evidence(RolloutId("b"), pairs(1))
        assert len(list(reading)) == 2

    # --- the lease ------------------------------------------------------------------------------------------------

    def test_only_one_holds_the_lease_and_may_renew_it(self, store: Store, stores: Stores) -> None:
        other = stores.open()
        assert store.lease_holder() is None
        assert store.hold_lease("one", seconds=60)
        assert not other.hold_lease("two", seconds=60)
        assert store.hold_lease("one", seconds=60)
        assert other.lease_holder() == "one"

    def test_a_lease_that_ran_out_goes_to_the_next_and_not_back(self, store: Store, stores: Stores) -> None:
        other = stores.open()
        assert store.hold_lease("one", seconds=-1)
        assert store.lease_holder() == "one"
        assert other.hold_lease("two", seconds=60)
        assert not store.hold_lease("one", seconds=60)

    def test_a_lease_given_back_is_free_and_only_its_holder_gives_it_back(self, store: Store, stores: Stores) -> None:
        other = stores.open()
        store.hold_lease("one", seconds=60)
        other.release_lease("two")
        assert not other.hold_lease("two", seconds=60)
        store.release_lease("one")
        assert store.lease_holder() is None
        assert other.hold_lease("two", seconds=60)

    def test_whoever_lost_the_lease_stores_nothing_any_more(self, store: Store, stores: Stores) -> None:
        other = stores.open()
        assert store.hold_lease("one", seconds=-1)
        revision = store.commit(rollout_named("a"), None, [])
        assert other.hold_lease("two", seconds=60)
        deeds: list[Callable[[], object]] = [
            lambda: store.commit(rollout_named("a"), revision, []),
            lambda: store.commit(rollout_named("b"), None, []),
            lambda: store.append_evidence(RolloutId("a"), pairs(1)),
            lambda: store.record("config_sent", {}),
        ]
        for deed in deeds:
            with pytest.raises(StaleWrite):
                deed()
        assert [rollout.id for rollout in other.rollouts()] == ["a"]
        assert list(other.evidence(RolloutId("a"))) == other.records() == []
        other.commit(rollout_named("a"), revision, [])
        other.release_lease("two")
        assert store.hold_lease("one", seconds=60)
        store.commit(rollout_named("b"), None, [])

    def test_of_many_that_ask_at_once_one_gets_the_lease(self, stores: Stores) -> None:
        ready = threading.Barrier(4)

        def ask(name: str) -> bool:
            store = stores.open()
            ready.wait()
            return store.hold_lease(name, seconds=60)

        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(ask, "abcd")) == 1
        stores.close()

    # --- labels ---------------------------------------------------------------------------------------------------

    MODEL = ModelName("credit")

    def wait(self, store: Store, rollout: str, *requests: int) -> int:
        """A rollout with one more pair for each of these requests; how many found no room to wait."""
        made = a_rollout(id=RolloutId(rollout), model=self.MODEL)
        if store.rollout(made.id) is None:
            store.commit(made, None, [])
        batch = pairs(len(requests), first=len(list(store.evidence(made.id))) * 1000, request=requests)
        return store.append_evidence(made.id, batch, awaiting=[an_awaiting(request) for request in requests])

    def put(self, store: Store, *requests: int, truth: float | str = 1.0, at: float = 1e9) -> Receipt:
        return store.put_labels(self.MODEL, [Label(request, truth) for request in requests], at=at, keep_seconds=60)

    def found(self, store: Store, rollout: str, after: int = 0, limit: int = 100) -> tuple[list[int], int]:
        arrivals = store.arrived(RolloutId(rollout), self.MODEL, after=after, limit=limit)
        return [arrived.pair.request for arrived in arrivals.found], arrivals.last

    def test_a_label_finds_its_pair_as_it_was_left(self, store: Store, stores: Stores) -> None:
        largest = 2**64 - 1
        self.wait(store, "a", 1, largest)
        assert self.put(store, largest, truth="cat") == Receipt(accepted=1)
        stores.close()
        [arrived] = stores.open().arrived(RolloutId("a"), self.MODEL, after=0, limit=9).found
        assert arrived == Arrived(an_awaiting(largest), "cat", 1e9)

    def test_a_label_that_comes_before_its_pair_waits_for_it(self, store: Store) -> None:
        assert self.put(store, 7) == Receipt(accepted=1, unknown=1)
        self.wait(store, "a", 1)
        found, after = self.found(store, "a")
        assert found == []
        self.wait(store, "a", 7)
        assert self.found(store, "a", after)[0] == [7]

    def test_a_joined_pair_is_never_given_again(self, store: Store) -> None:
        self.wait(store, "a", 1, 2)
        self.put(store, 1, 2)
        store.append_evidence(RolloutId("a"), labels(1, request=1), joined=[1])
        assert self.found(store, "a")[0] == [2]
        self.wait(store, "a", 1)  # the same request once more
        assert self.put(store, 1) == Receipt(duplicate=1)
        assert self.found(store, "a")[0] == [2]

    def test_an_entry_of_labels_appended_again_after_a_lost_answer_counts_once(self, store: Store) -> None:
        self.wait(store, "a", 1)
        self.put(store, 1)
        for _ in range(2):
            store.append_evidence(RolloutId("a"), labels(1, request=1), joined=[1])
        assert [len(entry) for entry in store.evidence(RolloutId("a"))] == [1, 1]

    def test_the_first_label_of_a_request_stands(self, store: Store) -> None:
        self.wait(store, "a", 1)
        both = [Label(1, 0.0), Label(1, 1.0)]
        assert store.put_labels(self.MODEL, both, at=1e9, keep_seconds=60) == Receipt(accepted=1, duplicate=1)
        assert self.put(store, 1, truth=5.0).duplicate == 1
        assert [arrived.truth for arrived in store.arrived(RolloutId("a"), self.MODEL, after=0, limit=9).found] == [0.0]

    def test_one_label_serves_every_rollout_that_saw_the_request_but_no_other_model(self, store: Store) -> None:
        self.wait(store, "a", 1)
        self.wait(store, "b", 1)
        store.put_labels(ModelName("other"), [Label(1, 1.0)], at=1e9, keep_seconds=60)
        assert self.found(store, "a")[0] == []
        self.put(store, 1)
        store.append_evidence(RolloutId("a"), labels(1, request=1), joined=[1])
        assert (self.found(store, "a")[0], self.found(store, "b")[0]) == ([], [1])

    def test_labels_are_read_in_portions_and_each_once(self, store: Store) -> None:
        requests = list(range(1, 8))
        self.wait(store, "a", *requests)
        self.put(store, *requests[:4])
        self.put(store, *requests[4:])
        seen, after = self.found(store, "a", limit=3)
        while portion := self.found(store, "a", after, limit=3):
            after = portion[1]
            seen += portion[0]
            if not portion[0]:
                break
        assert sorted(seen) == requests
        self.put(store, 99)
        assert self.found(store, "a", after)[0] == []

    def test_labels_kept_their_time_are_forgotten_and_those_without_a_pair_counted(self, store: Store) -> None:
        self.wait(store, "a", 1)
        self.put(store, 1, 2, 3, at=1e9)
        store.append_evidence(RolloutId("a"), labels(1, request=1), joined=[1])
        assert self.put(store, 4, at=1e9 + 59).expired == 0
        assert self.put(store, 5, at=1e9 + 61).expired == 2
        assert self.put(store, 1, at=1e9 + 61).duplicate == 0
        assert self.found(store, "a")[0] == []  # joined before: not judged twice even so

    def test_a_rollout_that_waits_no_more_leaves_nothing_behind(self, store: Store) -> None:
        self.wait(store, "a", 1, 2)
        self.wait(store, "b", 1)
        self.put(store, 1)
        store.append_evidence(RolloutId("a"), labels(1, request=1), joined=[1])
        assert store.stop_waiting(RolloutId("a")) == 1
        assert store.stop_waiting(RolloutId("a")) == 0
        assert self.found(store, "b")[0] == [1]
