"""What is wrong is said once per model version, soon enough, and no longer than it holds."""

from collections.abc import Mapping

import pytest

from haldane.domain.fleet import (
    Availability,
    ModelEntry,
    ModelName,
    ModelView,
    ReplicaView,
    ServerName,
    VersionStatus,
)
from haldane.domain.rollout import Phase, RolloutId
from haldane.judge import memory as judge
from haldane.judge.alerts import alert_of
from haldane.judge.conditions import Name, conditions, of_rollouts
from haldane.judge.loads import LoadCounters, Loads, Tally, between, from_counters, grown
from haldane.judge.memory import Bounds, Memory
from haldane.testing.builders import a_rollout

M, TWIN = ModelName("m"), ModelName("m_canary")
R0, R1 = ServerName("r0"), ServerName("r1")
PATHS = {M: "/models/m/", TWIN: "/models/m"}
BOUNDS = Bounds()
START, LOADING, AVAILABLE, UNLOADING, END = Availability


def a_view(*versions: VersionStatus, labels: Mapping[str, int | None] | None = None, model=M) -> ReplicaView:
    return ReplicaView(R0, 0.0, {model: ModelView(versions, labels or {})})


def a_status(version: int, state: Availability, code: str = "OK") -> VersionStatus:
    return VersionStatus(version, state, code, "" if code == "OK" else "cannot parse")


def wants(*versions: int, **labels: int) -> dict[ModelName, ModelEntry]:
    return {M: ModelEntry(name=M, base_path="/models/m").serving(versions, labels)}


class Watch:
    """One server's memory, and a clock that moves only when told."""

    def __init__(self, paths: Mapping[ModelName, str] = PATHS) -> None:
        self.memory = Memory(paths=paths)
        self.at = 1000.0

    def look(self, view: ReplicaView | None, *, after: float = 1.0, expected=None) -> "Watch":
        self.at += after
        self.memory = judge.looked(self.memory, view, at=self.at, expected=expected, bounds=BOUNDS)
        return self

    def scrape(self, fails: float, *, read: float = 0.0, version: int = 3, after: float = 1.0) -> "Watch":
        self.at += after
        counters = LoadCounters({("/models/m", version): {"fail": fails, "success": read}})
        self.memory = judge.counted(self.memory, counters, at=self.at, bounds=BOUNDS)
        return self

    @property
    def found(self):
        return conditions({R0: self.memory}, at=self.at, bounds=BOUNDS)

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.found]


ONE, LOADING_3 = a_status(1, AVAILABLE), a_status(3, LOADING)
FAILED_3 = a_status(3, END, "DATA_LOSS")


def test_a_load_that_ended_with_an_error_is_a_failed_load():
    watch = Watch().look(a_view(ONE, LOADING_3)).look(a_view(ONE, FAILED_3))
    [one] = watch.found
    assert (one.name, one.model, one.version, one.servers) == (Name.FAILED_LOAD, "m", 3, (R0,))
    assert one.detail == "DATA_LOSS: cannot parse"


def test_the_first_failed_attempt_is_seen_while_retries_go_on():
    watch = Watch().look(a_view(ONE)).scrape(0).look(a_view(ONE, LOADING_3))
    assert watch.names == []
    watch.scrape(1)
    assert watch.names == [Name.FAILED_LOAD]
    assert "1 failed load attempts, being retried" in watch.found[0].detail


def test_a_first_attempt_that_failed_before_the_load_was_seen_counts():
    assert Watch().look(a_view(ONE)).scrape(1).look(a_view(ONE, LOADING_3)).names == [Name.FAILED_LOAD]


def test_an_agent_that_starts_while_retries_go_on_sees_the_failure_at_its_first_scrape():
    assert Watch().look(a_view(ONE, LOADING_3)).scrape(2).names == [Name.FAILED_LOAD]


def test_failures_of_an_earlier_load_do_not_count_against_the_next():
    ended = a_view(ONE, a_status(3, END))
    watch = Watch().scrape(6).look(ended).look(ended).look(a_view(ONE, LOADING_3)).scrape(6)
    assert watch.names == []
    assert watch.scrape(7).names == [Name.FAILED_LOAD]


def test_counters_of_a_new_process_start_from_zero():
    watch = Watch().look(a_view(ONE)).scrape(6).look(a_view(ONE)).scrape(1).look(a_view(ONE, LOADING_3))
    assert watch.names == [Name.SERVER_RESTARTED, Name.FAILED_LOAD]


@pytest.mark.parametrize(
    "better",
    [a_view(ONE, a_status(3, AVAILABLE)), a_view(ONE, FAILED_3, a_status(4, AVAILABLE))],
    ids=["loaded after all", "a higher version took its place"],
)
def test_trap_16_a_failed_load_is_told_until_something_better_serves(better):
    assert Watch().look(a_view(ONE, FAILED_3)).look(better).names == []


def test_a_failed_load_that_was_withdrawn_at_once_is_still_told_for_a_while():
    wanted = wants(1, 3)
    watch = Watch().look(a_view(ONE, FAILED_3), expected=wanted)
    watch.look(a_view(ONE, FAILED_3), expected=wants(1))
    assert watch.names == [Name.FAILED_LOAD]
    watch.look(a_view(ONE, FAILED_3), expected=wants(1), after=BOUNDS.linger)
    assert watch.names == []


def test_a_failure_in_the_history_of_a_version_nobody_wants_is_no_news():
    assert Watch().look(a_view(ONE, FAILED_3), expected=wants(1)).names == []


def test_an_order_to_stop_loading_is_no_failure():
    assert Watch().look(a_view(ONE, a_status(3, END, "CANCELLED"))).names == []


def test_two_names_that_share_a_path_are_told_once():
    both = ReplicaView(R0, 0.0, {M: ModelView((FAILED_3,)), TWIN: ModelView((FAILED_3,))})
    [one] = Watch().look(both).found
    assert (one.model, one.version) == ("m", 3)
    apart = Watch({M: "/models/m", TWIN: "/models/other"}).look(both).found
    assert [one.model for one in apart] == ["m", "m_canary"]


def test_a_version_that_fails_on_many_servers_is_one_condition():
    memories = {
        server: judge.looked(Memory(), a_view(FAILED_3), at=at, expected=None, bounds=BOUNDS)
        for server, at in ((R1, 5.0), (R0, 9.0))
    }
    [one] = conditions(memories, at=10.0, bounds=BOUNDS)
    assert (one.servers, one.since, one.detail) == ((R0, R1), 5.0, "DATA_LOSS: cannot parse")


def test_trap_15_loading_for_too_long_is_stuck_unless_it_is_known_to_have_failed():
    watch = Watch().look(a_view(ONE, LOADING_3)).look(a_view(ONE, LOADING_3), after=BOUNDS.load)
    assert watch.names == [Name.LOAD_STUCK]
    assert watch.scrape(1).names == [Name.FAILED_LOAD]
    assert watch.look(a_view(ONE, a_status(3, AVAILABLE))).names == []


def scraped(watch: Watch, seconds: dict, **attempts: float) -> Watch:
    counters = LoadCounters({("/models/m", 3): attempts}, seconds=seconds)
    watch.memory = judge.counted(watch.memory, counters, at=watch.at, bounds=BOUNDS)
    return watch


def test_a_load_without_any_ended_attempt_is_stuck_much_sooner_where_other_versions_loaded_fast():
    watch = scraped(Watch().look(a_view(ONE)), {("/models/m", 1): 2.0}).look(a_view(ONE, LOADING_3))
    assert watch.look(a_view(ONE, LOADING_3), after=BOUNDS.slow - 1).names == []
    [one] = watch.look(a_view(ONE, LOADING_3)).found
    assert one.name == Name.LOAD_STUCK
    assert "no attempt has ended, where other versions took 2.0 s at most" in one.detail


@pytest.mark.parametrize(
    ("seconds", "attempts"),
    [
        ({("/models/m", 1): 60.0}, {}),
        ({("/models/other", 1): 2.0}, {}),
        ({("/models/m", 3): 2.0}, {}),
        ({("/models/m", 1): 2.0}, {"success": 1.0}),
    ],
    ids=["others are slow too", "another model's", "its own past", "read, and warming up"],
)
def test_a_load_that_may_just_take_long_is_given_its_time(seconds, attempts):
    watch = Watch().look(a_view(ONE)).look(a_view(ONE, LOADING_3))
    scraped(watch, seconds, **attempts)
    assert watch.look(a_view(ONE, LOADING_3), after=BOUNDS.slow + 1).names == []


def test_trap_17_a_stale_start_is_never_stuck():
    start = a_view(ONE, a_status(3, START))
    assert Watch().look(start).look(start, after=10 * BOUNDS.load).names == []


def test_a_label_taken_away_because_nothing_is_left_to_name_is_told_until_something_serves():
    served = a_view(ONE, labels={"stable": 1})
    watch = Watch().look(served).look(a_view(labels={"stable": None})).look(a_view())
    assert watch.look(a_view(), after=BOUNDS.dangling).names == [Name.LABEL_DANGLING]
    assert watch.look(served).names == []


def test_a_label_that_resolves_to_nothing_is_told_and_resolved():
    dangling = a_view(ONE, labels={"stable": 1, "canary": None})
    watch = Watch().look(dangling)
    assert watch.names == []
    [one] = watch.look(dangling, after=BOUNDS.dangling).found
    assert (one.name, one.model, one.version) == (Name.LABEL_DANGLING, "m", None)
    assert "label canary" in one.detail
    assert watch.look(a_view(ONE, labels={"stable": 1})).names == []


def test_a_server_that_restarts_pages_nobody_and_one_that_stays_away_does():
    watch = Watch().look(a_view(ONE)).look(None).look(None, after=BOUNDS.unseen - 1)
    assert watch.names == []
    assert watch.look(None, after=1).names == [Name.SERVER_UNSEEN]
    assert watch.look(a_view(ONE)).names == []


def test_a_failed_load_is_still_told_while_its_server_cannot_be_seen():
    assert Watch().look(a_view(FAILED_3)).look(None).names == [Name.FAILED_LOAD]


def test_trap_23_a_version_nobody_asked_for_is_told_after_an_unload_would_be_done():
    two = a_view(ONE, a_status(2, AVAILABLE))
    watch = Watch().look(two, expected=wants(1))
    assert watch.names == []
    watch.look(two, expected=wants(1), after=BOUNDS.unapproved)
    assert [(one.name, one.version) for one in watch.found] == [(Name.UNAPPROVED_VERSION, 2)]


def test_a_version_that_came_unasked_is_told_at_once_and_for_a_while_after_it_went():
    two = a_view(ONE, a_status(2, AVAILABLE))
    watch = Watch().look(a_view(ONE), expected=wants(1)).look(a_view(ONE, a_status(2, LOADING)), expected=wants(1))
    assert watch.names == []  # it serves nobody yet
    watch.look(two, expected=wants(1)).look(a_view(ONE, a_status(2, END)), expected=wants(1))
    [one] = watch.found
    assert (one.name, one.version) == (Name.UNAPPROVED_VERSION, 2)
    assert watch.look(a_view(ONE, a_status(2, END)), expected=wants(1), after=BOUNDS.linger).names == []


def test_a_version_whose_load_was_under_way_when_its_rollout_ended_is_no_intruder():
    watch = Watch().look(a_view(ONE), expected=wants(1, 2)).look(a_view(ONE, a_status(2, LOADING)), expected=wants(1))
    assert watch.look(a_view(ONE, a_status(2, AVAILABLE)), expected=wants(1)).names == []


def test_a_version_that_came_unasked_is_no_longer_told_once_a_rollout_wants_it():
    two = a_view(ONE, a_status(2, AVAILABLE))
    watch = Watch().look(a_view(ONE), expected=wants(1)).look(two, expected=wants(1))
    assert watch.look(two, expected=wants(1, 2)).names == []


def test_a_version_that_fails_in_warm_up_is_seen_by_being_read_again_and_again():
    alone = {M: "/models/m"}
    watch = Watch(alone).look(a_view(ONE)).scrape(0).look(a_view(ONE, LOADING_3)).scrape(0, read=1)
    assert watch.names == []
    watch.scrape(0, read=2)
    assert watch.names == [Name.FAILED_LOAD]
    assert "warm-up" in watch.found[0].detail
    assert watch.look(a_view(ONE, a_status(3, AVAILABLE))).names == []


def test_two_names_that_share_a_path_read_it_twice_without_anything_being_wrong():
    both = ReplicaView(R0, 0.0, {M: ModelView((ONE, LOADING_3)), TWIN: ModelView((ONE, LOADING_3))})
    watch = Watch().look(a_view(ONE)).scrape(0).look(both).scrape(0, read=2)
    assert watch.names == []
    assert [one.model for one in watch.scrape(0, read=3).found] == ["m"]


def test_reads_before_an_agent_started_say_nothing_of_the_load_under_way():
    assert Watch({M: "/models/m"}).look(a_view(ONE, LOADING_3)).scrape(0, read=5).names == []


# --- not as wanted ----------------------------------------------------------------------------------------------------

RIGHT = a_view(ONE, a_status(2, AVAILABLE), labels={"stable": 1})
WRONG = a_view(ONE, a_status(2, AVAILABLE), labels={"stable": 2})


def test_a_label_that_names_another_version_than_it_should_is_drift_when_it_lasts():
    watch = Watch().look(WRONG, expected=wants(1, 2, stable=1))
    assert watch.names == []
    watch.look(WRONG, expected=wants(1, 2, stable=1), after=BOUNDS.drift)
    [one] = watch.found
    assert (one.name, one.model, one.version) == (Name.LABEL_DRIFT, "m", None)
    assert one.detail == "label stable should name 1, but names 2"


def test_a_label_that_is_put_back_and_moved_away_time_and_again_is_drift():
    watch = Watch()
    for _ in range(4):  # Serving polls its config file every half minute, and each poll undoes the agent's reload
        watch.look(WRONG, expected=wants(1, 2, stable=1), after=15).look(
            RIGHT, expected=wants(1, 2, stable=1), after=15
        )
    assert watch.names == [Name.LABEL_DRIFT]
    watch.look(RIGHT, expected=wants(1, 2, stable=1), after=BOUNDS.linger)
    assert watch.names == []


def test_a_label_that_was_moved_by_a_rollout_and_back_is_no_drift():
    watch = Watch().look(RIGHT, expected=wants(1, 2, stable=2)).look(WRONG, expected=wants(1, 2, stable=2))
    watch.look(WRONG, expected=wants(1, 2, stable=1), after=BOUNDS.drift)
    assert watch.look(RIGHT, expected=wants(1, 2, stable=1)).names == []


def test_a_label_that_a_restart_took_away_is_drift_and_one_that_nobody_wants_too():
    bare, extra = a_view(ONE), a_view(ONE, labels={"stable": 1, "canary": 1})
    watch = Watch().look(bare, expected=wants(1, stable=1)).look(bare, expected=wants(1, stable=1), after=BOUNDS.drift)
    assert [one.detail for one in watch.found] == ["label stable should name 1, but is not set"]
    watch = (
        Watch().look(extra, expected=wants(1, stable=1)).look(extra, expected=wants(1, stable=1), after=BOUNDS.drift)
    )
    assert [one.detail for one in watch.found] == ["label canary should not be set, but names 1"]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (a_view(ONE, LOADING_3, labels={"stable": 1, "canary": None}), wants(1, 3, stable=1, canary=3)),
        (a_view(ONE, LOADING_3, labels={"stable": 1}), wants(1, 3, stable=3)),
        (WRONG, None),
        (WRONG, {}),
    ],
    ids=["waits for its version", "moves when its version is there", "nobody decides", "not ours to decide"],
)
def test_what_waits_for_a_load_or_is_not_ours_is_no_drift(seen, expected):
    watch = Watch().look(seen, expected=expected).look(seen, expected=expected, after=BOUNDS.drift)
    assert not {Name.LABEL_DRIFT, Name.CONFIG_DRIFT} & set(watch.names)


@pytest.mark.parametrize(
    ("seen", "drifts"),
    [
        (a_view(ONE), True),
        (a_view(ONE, a_status(2, END)), True),
        (a_view(ONE, a_status(2, START)), False),
        (a_view(ONE, a_status(2, LOADING)), False),
        (a_view(ONE, a_status(2, END, "DATA_LOSS")), False),
    ],
    ids=["unknown", "unloaded", "about to load", "loading", "failed, which is told as that"],
)
def test_a_version_that_should_be_loaded_and_is_not_is_drift(seen, drifts):
    watch = Watch().look(seen, expected=wants(1, 2)).look(seen, expected=wants(1, 2), after=BOUNDS.drift)
    assert [(one.name, one.version) for one in watch.found if one.name == Name.CONFIG_DRIFT] == (
        [(Name.CONFIG_DRIFT, 2)] if drifts else []
    )


def test_a_counter_that_goes_back_is_a_restart_told_for_a_while():
    watch = Watch().look(a_view(ONE)).scrape(0, read=1, version=1).scrape(0, read=2, version=1)
    assert watch.names == []
    assert watch.scrape(0, read=1, version=1).names == [Name.SERVER_RESTARTED]
    assert watch.scrape(0, read=1, version=1, after=BOUNDS.linger).names == []


def test_a_restart_after_which_everything_was_loaded_as_often_shows_in_what_it_took():
    once = {("/models/m", 1): {"success": 1.0}}
    before, after = (LoadCounters(once, seconds={("/models/m", 1): took}) for took in (2.0, 2.5))
    memory = judge.counted(judge.counted(Memory(), before, at=1.0, bounds=BOUNDS), before, at=2.0, bounds=BOUNDS)
    assert memory.restarted is None
    assert judge.counted(memory, after, at=3.0, bounds=BOUNDS).restarted is not None
    assert grown(before, after) == {("/models/m", 1): Loads(1, 0)}


def test_a_rolling_restart_of_sixty_servers_pages_nobody():
    """Each is away for 90 s, comes back with its own config, and is put right within the agent's next looks."""
    expected, watches = wants(1, 2, stable=1), [Watch() for _ in range(60)]
    for watch in watches:
        watch.look(RIGHT, expected=expected).scrape(0, read=2, version=1)
    told: set[str] = set()
    at = watches[0].at
    for number, restarting in enumerate(watches):
        start = at + 20.0 * number  # several at a time
        for later in (0, 30, 60, 89):
            restarting.at = start + later
            restarting.look(None, after=0, expected=expected)
        booted = a_view(a_status(2, AVAILABLE), a_status(1, LOADING), labels={"stable": None})
        restarting.look(booted, expected=expected).scrape(0, read=1, version=1, after=0)
        told |= {one.name for one in conditions({R0: restarting.memory}, at=restarting.at, bounds=BOUNDS)}
        restarting.look(RIGHT, expected=expected, after=5)
        memories = {ServerName(f"r{place}"): watch.memory for place, watch in enumerate(watches)}
        found = conditions(memories, at=restarting.at, bounds=BOUNDS)
        assert len(found) <= 1  # one for all servers that restarted
        told |= {one.name for one in found}
    assert told == {Name.SERVER_RESTARTED}
    assert {alert_of(name)[1] for name in told} == {"info"}


STABLE = {RolloutId("r"): 1000.0}


@pytest.mark.parametrize(
    ("phase", "seconds", "failing", "found"),
    [
        (Phase.STUCK, 0.0, {}, [Name.ROLLOUT_STUCK]),
        (Phase.ROLLING_BACK, BOUNDS.rollback - 1, {}, []),
        (Phase.ROLLING_BACK, BOUNDS.rollback, {}, [Name.ROLLBACK_SLOW]),
        (Phase.SHADOWING, BOUNDS.failing - 1, STABLE, []),
        (Phase.SHADOWING, BOUNDS.failing, STABLE, [Name.STABLE_FAILING]),
        (Phase.SHADOWING, BOUNDS.failing, {RolloutId("other"): 0.0}, []),
        (Phase.SUCCEEDED, BOUNDS.failing, STABLE, []),
        (Phase.HELD, 3600.0, {}, []),
    ],
)
def test_what_is_wrong_with_a_rollout_is_told_when_it_lasts(phase, seconds, failing, found):
    rollout = a_rollout(id=RolloutId("r"), phase=phase, phase_since=1000.0, why="r0 is away")
    told = list(of_rollouts([rollout], failing, at=1000.0 + seconds, bounds=BOUNDS))
    assert [one.name for one in told] == found
    assert all((one.model, one.version, one.since) == (rollout.model, None, 1000.0) for one in told)


@pytest.mark.parametrize(
    ("known", "loaded", "path"),
    [
        ("/models/m", ["/elsewhere/m"], "/models/m"),
        ("", ["/elsewhere/m", "/elsewhere/other"], "/elsewhere/m"),
        ("", ["/here/m", "/there/m"], ""),
        ("", ["/elsewhere/other"], ""),
    ],
)
def test_a_base_path_nobody_told_is_learned_from_the_page_when_it_is_clear(known, loaded, path):
    assert judge.learned({M: known}, [(base, 1) for base in loaded])[M] == path


@pytest.mark.parametrize(
    ("before", "after", "loads"),
    [
        (None, None, Loads()),
        (None, a_status(3, START), Loads()),
        (None, LOADING_3, Loads(1, 0)),
        (a_status(3, START), LOADING_3, Loads(1, 0)),
        (LOADING_3, a_status(3, AVAILABLE), Loads(0, 0)),
        (LOADING_3, FAILED_3, Loads(0, 1)),
        (None, FAILED_3, Loads(1, 1)),
        (FAILED_3, FAILED_3, Loads(0, 0)),
        (FAILED_3, LOADING_3, Loads(1, 0)),
        (a_status(3, END), a_status(3, AVAILABLE), Loads(1, 0)),
        (a_status(3, AVAILABLE), a_status(3, UNLOADING), Loads(0, 0)),
        (a_status(3, UNLOADING), a_status(3, END), Loads(0, 0)),
        (a_status(3, AVAILABLE), LOADING_3, Loads(1, 0)),
    ],
)
def test_loads_between_two_looks(before, after, loads):
    assert between(before, after) == loads


def test_the_larger_of_status_and_counters_counts():
    tally = Tally(by_status=Loads(1, 1), by_counter=from_counters({"success": 2.0}))
    assert tally.total == Loads(2, 1)
    assert from_counters({"success": 1.0, "fail": 6.0}) == Loads(7, 6)


def test_a_counter_that_went_back_began_again_from_zero():
    before = LoadCounters({("/m", 1): {"success": 5.0, "fail": 1.0}, ("/m", 2): {"success": 1.0}})
    after = LoadCounters(
        {("/m", 1): {"success": 1.0}, ("/m", 2): {"success": 1.0, "fail": 2.0}, ("/m", 3): {"fail": 1.0}}
    )
    assert grown(before, after) == {("/m", 1): Loads(1, 0), ("/m", 2): Loads(3, 2), ("/m", 3): Loads(1, 1)}
